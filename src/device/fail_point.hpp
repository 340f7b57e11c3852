// FailPoint: makes the n-th use of something fail. For simulated devices, and for tests
// that walk a failure through every mapping of the host.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>

namespace forebay::detail {

// Thread safety: thread-safe.
class FailPoint {
 public:
  // Lets the next n uses pass, then fails each one until never_fail().
  void fail_after(std::uint64_t n) noexcept { left_.store(n, std::memory_order_relaxed); }
  void never_fail() noexcept { fail_after(kNever); }

  // Counts one use; whether it must fail.
  bool fails() noexcept {
    std::uint64_t left = left_.load(std::memory_order_relaxed);
    while (left != kNever && left != 0) {
      if (left_.compare_exchange_weak(left, left - 1, std::memory_order_relaxed)) return false;
    }
    return left == 0;
  }

 private:
  static constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();
  std::atomic<std::uint64_t> left_{kNever};
};

// The host's mappings: each large block, reservation of addresses and commit is one use, and so
// is each call that moves pages, and the bits of a large range of any device.
// Never fails unless a test says so.
FailPoint& host_mappings() noexcept;

}  // namespace forebay::detail
