// A memory resource with a budget in front of it.

#include <utility>

#include "budget/node.hpp"
#include "device/request.hpp"

namespace forebay {
namespace {

using detail::BudgetNode;

// Charged before the memory is taken: the line holds at every instant.
Status reserve(BudgetNode* node, Bytes bytes) {
  detail::Lease* lease = node->lease_of_this_thread();
  if (lease != nullptr && lease->take(bytes.count())) return {};
  return detail::reserve_slow(node, bytes, {}, false).status();
}

// What was reserved; released again unless the memory could be had.
class Charge {
 public:
  Charge(BudgetNode* node, Bytes bytes) noexcept : node_(node), bytes_(bytes) {}
  Charge(const Charge&) = delete;
  Charge& operator=(const Charge&) = delete;
  ~Charge() {
    if (!bytes_.is_zero()) detail::release_bytes(node_, bytes_);
  }
  void keep() noexcept { bytes_ = Bytes{}; }

 private:
  BudgetNode* const node_;
  Bytes bytes_;
};

// Pins the node: a resource that outlives its Budget can still take its blocks back.
class MeteredResource final : public MemoryResource,
                              public std::enable_shared_from_this<MeteredResource> {
 public:
  MeteredResource(BudgetNode* node, std::shared_ptr<MemoryResource> upstream)
      : node_(node), upstream_(std::move(upstream)) {
    detail::pin(node_);
  }
  ~MeteredResource() override { detail::unpin(node_); }

  Bytes good_size(Bytes bytes, Bytes alignment) const noexcept override {
    return upstream_->good_size(bytes, alignment);
  }
  std::string_view name() const noexcept override { return node_->path; }
  bool host_accessible() const noexcept override { return upstream_->host_accessible(); }
  bool allocates_zeroed() const noexcept override { return upstream_->allocates_zeroed(); }

  bool stream_ordered() const noexcept override { return upstream_->stream_ordered(); }
  void stream_wait(Stream waiter, Stream earlier) noexcept override {
    upstream_->stream_wait(waiter, earlier);
  }
  void zero(void* data, Bytes bytes, Stream stream) noexcept override {
    upstream_->zero(data, bytes, stream);
  }
  void copy(void* to, const void* from, Bytes bytes, Stream stream) noexcept override {
    upstream_->copy(to, from, bytes, stream);
  }

  BudgetNode* node() const noexcept { return node_; }

 private:
  Result<void*> do_allocate(Bytes bytes, Bytes alignment, Stream stream) override {
    const Bytes size = good_size(bytes, alignment);
    if (Status status = reserve(node_, size); !status.ok()) return status;
    Charge charge{node_, size};
    Result<void*> block = upstream_->allocate(bytes, alignment, stream);
    if (block) charge.keep();
    return block;
  }

  void do_deallocate(void* block, Bytes bytes, Bytes alignment, Stream stream) noexcept override {
    upstream_->deallocate(block, bytes, alignment, stream);
    detail::release_bytes(node_, good_size(bytes, alignment));
  }

  Result<std::unique_ptr<AddressRange>> do_reserve_address(
      Bytes bytes, const AddressRangeOptions& options) override;

  BudgetNode* const node_;
  const std::shared_ptr<MemoryResource> upstream_;
};

// Keeps its resource, and so the node and upstream.
//
// Invariant: charged are the committed pages of all ranges of a resource, and those that a
// commit or decommit is at work on.
class MeteredRange final : public AddressRange {
 public:
  MeteredRange(std::shared_ptr<MeteredResource> resource, std::unique_ptr<AddressRange> upstream)
      : resource_(std::move(resource)), upstream_(std::move(upstream)) {}
  ~MeteredRange() override {
    const Bytes bytes = committed();
    upstream_.reset();
    release(bytes);
  }

  std::byte* data() const noexcept override { return upstream_->data(); }
  Bytes size() const noexcept override { return upstream_->size(); }
  Bytes committed() const noexcept override { return upstream_->committed(); }
  Bytes page() const noexcept override { return upstream_->page(); }
  Bytes missing(Bytes offset, Bytes bytes) const noexcept override {
    return upstream_->missing(offset, bytes);
  }

  Status commit(Bytes offset, Bytes bytes) override {
    return detail::refuse_bad_alloc([&]() -> Status {
      if (Status bad = detail::check_pages("commit", *this, offset, bytes); !bad.ok()) return bad;
      const Bytes added = missing(offset, bytes);
      if (added.is_zero()) return upstream_->commit(offset, bytes);
      if (Status refused = reserve(resource_->node(), added); !refused.ok()) return refused;
      Charge charge{resource_->node(), added};
      Status status = upstream_->commit(offset, bytes);
      if (status.ok()) charge.keep();
      return status;
    });
  }

  void decommit(Bytes offset, Bytes bytes) noexcept override {
    FOREBAY_CHECK(detail::are_pages(*this, offset, bytes),
                  "decommit of what are not pages of the range");
    const Bytes freed = bytes - missing(offset, bytes);
    upstream_->decommit(offset, bytes);
    release(freed);
  }

  // What one range has more, another has less.
  Status adopt(Bytes offset, AddressRange& source, Bytes source_offset, Bytes bytes) override {
    auto* const from = dynamic_cast<MeteredRange*>(&source);
    if (from != nullptr && from->resource_ == resource_) {
      return upstream_->adopt(offset, *from->upstream_, source_offset, bytes);
    }
    return detail::refuse_bad_alloc([&] { return detail::foreign_source(resource_->name()); });
  }

 private:
  void release(Bytes bytes) noexcept {
    if (!bytes.is_zero()) detail::release_bytes(resource_->node(), bytes);
  }

  const std::shared_ptr<MeteredResource> resource_;
  std::unique_ptr<AddressRange> upstream_;
};

Result<std::unique_ptr<AddressRange>> MeteredResource::do_reserve_address(
    Bytes bytes, const AddressRangeOptions& options) {
  auto range = upstream_->reserve_address(bytes, options);
  if (!range) return range;
  return std::unique_ptr<AddressRange>{
      std::make_unique<MeteredRange>(shared_from_this(), std::move(*range))};
}

}  // namespace

std::shared_ptr<MemoryResource> Budget::meter(std::shared_ptr<MemoryResource> upstream) {
  FOREBAY_CHECK(upstream != nullptr, "a budget meters a resource, not nothing");
  return std::make_shared<MeteredResource>(node_.get(), std::move(upstream));
}

}  // namespace forebay
