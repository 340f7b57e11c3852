// WatchedRanges: an adaptor that forwards ranges too, and tells what passes: how much is committed
// and given back at once, what is zeroed, which stream waits for which.
//
// It can pretend that streams of the host matter, so that a test sees both content and order.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "device/fail_point.hpp"
#include "forebay/device.hpp"

namespace forebay::testing {

struct StreamWait {
  Stream waiter;
  Stream earlier;
};

// Thread safety: thread-safe but for the functions, which are set before use.
class WatchedRanges final : public MemoryResource,
                            public std::enable_shared_from_this<WatchedRanges> {
 public:
  explicit WatchedRanges(std::shared_ptr<MemoryResource> upstream = Device::host(),
                         bool stream_ordered = false)
      : upstream_(std::move(upstream)), stream_ordered_(stream_ordered) {}

  // What has been asked of this resource since the last clear().
  struct Seen {
    std::uint64_t commits = 0;
    std::uint64_t decommits = 0;
    std::uint64_t adoptions = 0;
    Bytes committed;
    Bytes decommitted;
    Bytes largest_decommit;
    std::uint64_t zeroes = 0;
    Bytes zeroed;
    std::vector<StreamWait> waits;
  };
  Seen seen() const {
    const std::lock_guard lock{mutex_};
    return seen_;
  }
  void clear() {
    const std::lock_guard lock{mutex_};
    seen_ = {};
  }
  // Committed now, over all ranges.
  Bytes live() const {
    const std::lock_guard lock{mutex_};
    return live_;
  }

  // fail_after(n): the next n reservations, commits and adoptions succeed, the rest is refused
  // until never_fail().
  detail::FailPoint failing;
  // Adoptions only; these are refused as `unsupported`.
  detail::FailPoint failing_adoptions;
  // Called with no lock held, at every commit, decommit and reservation; may be empty.
  std::function<void()> on_call;
  std::function<void(StreamWait)> on_wait;
  std::function<void(const std::byte*, Bytes)> on_decommit;
  std::function<void(const std::byte* to, const std::byte* from, Bytes)> on_adopt;

  std::string_view name() const noexcept override { return "watched"; }
  bool host_accessible() const noexcept override { return upstream_->host_accessible(); }
  bool allocates_zeroed() const noexcept override { return upstream_->allocates_zeroed(); }
  Bytes good_size(Bytes bytes, Bytes alignment) const noexcept override {
    return upstream_->good_size(bytes, alignment);
  }
  bool stream_ordered() const noexcept override {
    return stream_ordered_ || upstream_->stream_ordered();
  }
  void stream_wait(Stream waiter, Stream earlier) noexcept override {
    if (on_wait) on_wait({waiter, earlier});
    upstream_->stream_wait(waiter, earlier);
    const std::lock_guard lock{mutex_};
    seen_.waits.push_back({waiter, earlier});
  }
  void zero(void* data, Bytes bytes, Stream stream) noexcept override {
    upstream_->zero(data, bytes, stream);
    const std::lock_guard lock{mutex_};
    ++seen_.zeroes;
    seen_.zeroed += bytes;
  }
  void copy(void* to, const void* from, Bytes bytes, Stream stream) noexcept override {
    upstream_->copy(to, from, bytes, stream);
  }

 private:
  class Range;

  static Status refused() { return {Code::memory_refused, "watched: refused on script"}; }
  void called() const {
    if (on_call) on_call();
  }
  template <typename Note>
  void note(Note what) {
    const std::lock_guard lock{mutex_};
    what(seen_, live_);
  }

  Result<void*> do_allocate(Bytes bytes, Bytes alignment, Stream stream) override {
    return upstream_->allocate(bytes, alignment, stream);
  }
  void do_deallocate(void* block, Bytes bytes, Bytes alignment, Stream stream) noexcept override {
    upstream_->deallocate(block, bytes, alignment, stream);
  }
  Result<std::unique_ptr<AddressRange>> do_reserve_address(
      Bytes bytes, const AddressRangeOptions& options) override;

  const std::shared_ptr<MemoryResource> upstream_;
  const bool stream_ordered_;
  mutable std::mutex mutex_;
  Seen seen_;
  Bytes live_;
};

class WatchedRanges::Range final : public AddressRange {
 public:
  Range(std::shared_ptr<WatchedRanges> resource, std::unique_ptr<AddressRange> upstream)
      : resource_(std::move(resource)), upstream_(std::move(upstream)) {}
  ~Range() override {
    const Bytes last = committed();
    resource_->note([last](Seen&, Bytes& live) { live -= last; });
  }

  std::byte* data() const noexcept override { return upstream_->data(); }
  Bytes size() const noexcept override { return upstream_->size(); }
  Bytes committed() const noexcept override { return upstream_->committed(); }
  Bytes page() const noexcept override { return upstream_->page(); }
  Bytes missing(Bytes offset, Bytes bytes) const noexcept override {
    return upstream_->missing(offset, bytes);
  }
  Status commit(Bytes offset, Bytes bytes) override {
    resource_->called();
    if (resource_->failing.fails()) return refused();
    const Bytes added = missing(offset, bytes);
    if (Status status = upstream_->commit(offset, bytes); !status.ok()) return status;
    resource_->note([&](Seen& seen, Bytes& live) {
      ++seen.commits;
      seen.committed += added;
      live += added;
    });
    return {};
  }
  void decommit(Bytes offset, Bytes bytes) noexcept override {
    resource_->called();
    if (resource_->on_decommit) resource_->on_decommit(data() + offset.count(), bytes);
    const Bytes gone = bytes - missing(offset, bytes);
    upstream_->decommit(offset, bytes);
    resource_->note([&](Seen& seen, Bytes& live) {
      ++seen.decommits;
      seen.decommitted += gone;
      seen.largest_decommit = std::max(seen.largest_decommit, bytes);
      live -= gone;
    });
  }
  Status adopt(Bytes offset, AddressRange& source, Bytes source_offset, Bytes bytes) override {
    if (resource_->failing.fails() || resource_->failing_adoptions.fails()) {
      return {Code::unsupported, "watched: moves nothing, on script"};
    }
    auto& from = dynamic_cast<Range&>(source);
    Status status = upstream_->adopt(offset, *from.upstream_, source_offset, bytes);
    if (!status.ok()) return status;
    if (resource_->on_adopt) {
      resource_->on_adopt(data() + offset.count(), from.data() + source_offset.count(), bytes);
    }
    resource_->note([](Seen& seen, Bytes&) { ++seen.adoptions; });
    return {};
  }

 private:
  const std::shared_ptr<WatchedRanges> resource_;
  const std::unique_ptr<AddressRange> upstream_;
};

inline Result<std::unique_ptr<AddressRange>> WatchedRanges::do_reserve_address(
    Bytes bytes, const AddressRangeOptions& options) {
  called();
  if (failing.fails()) return refused();
  auto range = upstream_->reserve_address(bytes, options);
  if (!range) return range;
  return std::unique_ptr<AddressRange>{
      std::make_unique<Range>(shared_from_this(), std::move(*range))};
}

}  // namespace forebay::testing
