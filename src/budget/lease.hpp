// A lease: bytes that are charged on a node's whole path but reserved by nobody, kept where
// the next reservation of the same thread finds them with one atomic operation.
//
// (An escrow method: O'Neil, "The Escrow Transactional Method", TODS 1986. Revoking every
// lease before a refusal is what makes the limit exact.)
//
// One word holds cap and bytes, so that closing a lease takes its remainder in the same
// instant: with two steps, a release between them would be lost or counted twice.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace forebay::detail {

inline constexpr std::size_t kCacheLine = 64;

// Thread safety: take, put, bytes and cap from any thread; open and close under the tree's
// mutex. A closed lease has cap 0 and holds nothing, so both fast operations fail on it
// without asking whether it is open.
class alignas(kCacheLine) Lease {
 public:
  // Takes `bytes` out, if they are here. Zero is never here.
  bool take(std::uint64_t bytes) noexcept {
    std::uint64_t word = word_.load(std::memory_order_relaxed);
    while (bytes - 1 < bytes_in(word)) {
      if (word_.compare_exchange_weak(word, word - bytes, std::memory_order_acq_rel,
                                      std::memory_order_relaxed)) {
        return true;
      }
    }
    return false;
  }

  // Puts `bytes` in, if the cap allows. Zero never goes in.
  bool put(std::uint64_t bytes) noexcept {
    std::uint64_t word = word_.load(std::memory_order_relaxed);
    while (bytes - 1 < cap_in(word) - bytes_in(word)) {
      if (word_.compare_exchange_weak(word, word + bytes, std::memory_order_acq_rel,
                                      std::memory_order_relaxed)) {
        return true;
      }
    }
    return false;
  }

  // REQUIRES: closed; bytes <= cap < 2^32.
  void open(std::uint64_t cap, std::uint64_t bytes) noexcept {
    word_.store(cap << kCapShift | bytes, std::memory_order_release);
  }
  // Returns what was in it.
  std::uint64_t close() noexcept { return bytes_in(word_.exchange(0, std::memory_order_acq_rel)); }

  std::uint64_t bytes() const noexcept { return bytes_in(word_.load(std::memory_order_acquire)); }
  std::uint64_t cap() const noexcept { return cap_in(word_.load(std::memory_order_acquire)); }

 private:
  static constexpr unsigned kCapShift = 32;
  static constexpr std::uint64_t bytes_in(std::uint64_t word) noexcept {
    return static_cast<std::uint32_t>(word);
  }
  static constexpr std::uint64_t cap_in(std::uint64_t word) noexcept { return word >> kCapShift; }

  std::atomic<std::uint64_t> word_{0};
};

class BudgetNode;

// What a reclaimer really gave back on this thread while it was called for `limiter`.
struct ReliefTally {
  const BudgetNode* limiter;
  std::uint64_t freed = 0;
};

// What the layer knows about the running thread.
struct ThreadState {
  static constexpr std::uint32_t kNone = ~0U;
  // Index of the thread's lease in every node; kNone before its first slow operation, and
  // inside a callback, so that the fast path needs no check of its own for either.
  std::uint32_t slot = kNone;
  std::uint32_t own_slot = kNone;  // the same, also inside a callback
  const void* callback = nullptr;  // the reclaimer or listener that it is inside of
  ReliefTally* tally = nullptr;    // set inside a reclaimer
};

inline constinit thread_local ThreadState this_thread;

// Leases a node has: enough that the threads that run at once rarely share one (threads
// are numbered in the order of their first use), at most the bits of a mask.
std::uint32_t lease_count() noexcept;

// Numbers the thread on its first slow operation.
void number_this_thread() noexcept;

}  // namespace forebay::detail
