// A memory resource with a budget in front of it.

#include <utility>

#include "budget/node.hpp"

namespace forebay {
namespace {

using detail::BudgetNode;

// Pins the node: a resource that outlives its Budget can still take its blocks back.
class MeteredResource final : public MemoryResource {
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

 private:
  // Charged before the memory is taken: the line holds at every instant.
  Result<void*> do_allocate(Bytes bytes, Bytes alignment, Stream stream) override {
    const Bytes size = good_size(bytes, alignment);
    if (Status status = reserve(size); !status.ok()) return status;
    struct Release {
      BudgetNode* node;
      Bytes bytes;
      ~Release() {
        if (node != nullptr) detail::release_bytes(node, bytes);
      }
    } release{node_, size};
    Result<void*> block = upstream_->allocate(bytes, alignment, stream);
    if (block) release.node = nullptr;
    return block;
  }

  void do_deallocate(void* block, Bytes bytes, Bytes alignment, Stream stream) noexcept override {
    upstream_->deallocate(block, bytes, alignment, stream);
    detail::release_bytes(node_, good_size(bytes, alignment));
  }

  Status reserve(Bytes bytes) {
    detail::Lease* lease = node_->lease_of_this_thread();
    if (lease != nullptr && lease->take(bytes.count())) return {};
    return detail::reserve_slow(node_, bytes, {}, false).status();
  }

  BudgetNode* const node_;
  const std::shared_ptr<MemoryResource> upstream_;
};

}  // namespace

std::shared_ptr<MemoryResource> Budget::meter(std::shared_ptr<MemoryResource> upstream) {
  FOREBAY_CHECK(upstream != nullptr, "a budget meters a resource, not nothing");
  return std::make_shared<MeteredResource>(node_.get(), std::move(upstream));
}

}  // namespace forebay
