// WatchedResource: an adaptor that counts what passes through it, and refuses on script.
// Put it under what is tested to see leaks, streams and the handling of refusals.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "device/fail_point.hpp"
#include "forebay/device.hpp"

namespace forebay::testing {

// Thread safety: thread-safe but for on_call, which is set before use.
class WatchedResource final : public MemoryResource {
  template <typename Read>
  auto with_lock(Read read) const {
    const std::lock_guard lock{mutex_};
    return read();
  }

 public:
  explicit WatchedResource(std::shared_ptr<MemoryResource> upstream = Device::host())
      : upstream_(std::move(upstream)) {
    freed_.reserve(kRemembered);
    freed_on_.reserve(kRemembered);
  }

  // fail_after(n): the next n allocates succeed, then each is refused until never_fail().
  detail::FailPoint failing;
  // Called by each allocate and deallocate, with no lock held; may be empty.
  std::function<void()> on_call;

  Bytes live() const {
    return with_lock([this] { return live_; });
  }
  std::size_t live_blocks() const {
    return with_lock([this] { return live_blocks_; });
  }
  std::size_t allocations() const {
    return with_lock([this] { return allocations_; });
  }
  // Sizes and streams of the first thousand deallocates, in their order.
  std::vector<Bytes> freed() const {
    return with_lock([this] { return freed_; });
  }
  std::vector<Stream> freed_on() const {
    return with_lock([this] { return freed_on_; });
  }

  Bytes good_size(Bytes bytes, Bytes alignment) const noexcept override {
    return upstream_->good_size(bytes, alignment);
  }
  std::string_view name() const noexcept override { return "watched"; }
  bool host_accessible() const noexcept override { return upstream_->host_accessible(); }
  bool allocates_zeroed() const noexcept override { return upstream_->allocates_zeroed(); }

 private:
  Result<void*> do_allocate(Bytes bytes, Bytes alignment, Stream stream) override {
    if (on_call) on_call();
    if (failing.fails()) return Status{Code::memory_refused, "watched: refused on script"};
    auto block = upstream_->allocate(bytes, alignment, stream);
    if (!block) return block;
    const std::lock_guard lock{mutex_};
    live_ += bytes;
    ++live_blocks_;
    ++allocations_;
    return block;
  }

  void do_deallocate(void* block, Bytes bytes, Bytes alignment, Stream stream) noexcept override {
    if (on_call) on_call();
    upstream_->deallocate(block, bytes, alignment, stream);
    const std::lock_guard lock{mutex_};
    live_ -= bytes;
    --live_blocks_;
    if (freed_.size() == kRemembered) return;  // giving back does not allocate
    freed_.push_back(bytes);
    freed_on_.push_back(stream);
  }

  static constexpr std::size_t kRemembered = 1000;

  const std::shared_ptr<MemoryResource> upstream_;
  mutable std::mutex mutex_;
  Bytes live_;
  std::size_t live_blocks_ = 0;
  std::size_t allocations_ = 0;
  std::vector<Bytes> freed_;
  std::vector<Stream> freed_on_;
};

}  // namespace forebay::testing
