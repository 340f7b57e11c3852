// ThreadCache: the free blocks that one thread keeps of one pool and stream, and its share of
// the counters.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "pool/biased_lock.hpp"
#include "pool/extent.hpp"
#include "pool/slabs.hpp"

namespace forebay::detail {

// Written by one thread, read by any: a store is enough.
class Counter {
 public:
  std::uint64_t read() const noexcept { return value_.load(std::memory_order_relaxed); }
  void add(std::uint64_t n) noexcept { set(read() + n); }
  void set(std::uint64_t n) noexcept { value_.store(n, std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

// Sums since the thread's start. What the thread took but another gave back makes its own
// `live` (modulo 2^64) too high and the other's too low: only the sum over threads means much.
struct Counters {
  void took(std::uint64_t asked, std::uint64_t bytes) noexcept {
    acquires.add(1);
    requested.add(asked);
    handed_out.add(bytes);
    const std::uint64_t now = live.read() + bytes;
    live.set(now);
    if (static_cast<std::int64_t>(now) > static_cast<std::int64_t>(peak.read())) peak.set(now);
  }
  void gave(std::uint64_t bytes) noexcept {
    releases.add(1);
    live.set(live.read() - bytes);
  }

  Counter acquires;
  Counter releases;
  Counter requested;   // bytes asked for
  Counter handed_out;  // bytes of their classes and pages
  Counter live;        // handed out, less what came back
  Counter peak;        // highest `live` since the last fold
};

// The same of one context, of the tracker's numbering.
struct TagCounters {
  void took(std::uint64_t bytes) noexcept {
    taken.add(1);
    bytes_taken.add(bytes);
  }
  void gave(std::uint64_t bytes) noexcept {
    given.add(1);
    bytes_given.add(bytes);
  }
  TagSum read() const noexcept {
    return {taken.read(), given.read(), bytes_taken.read(), bytes_given.read()};
  }

  Counter taken;  // blocks
  Counter given;
  Counter bytes_taken;
  Counter bytes_given;
};

// Everything but the counters is touched only by the owner inside its lock, or by whoever has
// shut the owner out and holds the pool's mutex (or, being the owner, holds the mutex).
struct ThreadCache {
  struct Bin {
    std::uint32_t count = 0;
    std::uint32_t capacity = 0;
    std::uint32_t seen = 0;  // count at the last round of giving back
    SmallBlock* blocks = nullptr;
  };
  // Large blocks of one size. Sizes share slots; the latest has it.
  struct alignas(64) Slot {
    static constexpr std::uint8_t kCapacity = 14;
    std::uint32_t pages = 0;
    std::uint8_t count = 0;
    std::uint8_t seen = 0;  // count at the last round of giving back
    std::array<ExtentId, kCapacity> blocks{};
  };
  static constexpr std::uint32_t kSlots = 256;
  static constexpr std::uint64_t kNoGuards = ~0ULL;  // counts down to 1 in some centuries

  Slot& slot_of(std::uint32_t pages) noexcept { return slots[(pages * 0x9E3779B1U) >> (32 - 8)]; }

  // At most as many blocks of each class as make `bytes_a_class`, in memory that follows.
  static std::uint64_t bytes_needed() noexcept;
  void set_up(std::uint64_t bytes_a_class, std::uint64_t bytes_of_large) noexcept;

  BiasedLock lock;
  StreamId stream = 0;
  const void* owner = nullptr;  // the thread; null: everybody, under the pool's mutex
  ThreadCache* next = nullptr;
  std::int64_t peak_seen = 0;  // counters.peak as it was last counted; under the mutex
  Counter large_bytes;         // in slots
  std::uint64_t large_limit = 0;
  std::uint64_t keeps = 0;                // bytes at most, of all sizes
  std::uint64_t until_guard = kNoGuards;  // large acquires to the next one with a guard page
  Counters counters;
  TagCounters* tags = nullptr;  // one a context; what is of none is not counted apart
  std::array<Bin, kSmallClasses> bins{};
  std::array<Slot, kSlots> slots{};
};

}  // namespace forebay::detail
