// CacheReaders: what each thread keeps of a cache that it uses: its hits, by shard, and counters
// that only it writes.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>

#include "cache/hit_ring.hpp"

namespace forebay::detail {

struct alignas(64) CacheReader {
  // Written by its owner alone: an addition is a load and a store.
  struct Counter {
    std::atomic<std::uint64_t> count{0};
    void add_one() noexcept {
      count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }
    std::uint64_t load() const noexcept { return count.load(std::memory_order_relaxed); }
  };
  Counter hits;
  Counter misses;
  Counter stale;
  Counter unrecorded;
  std::atomic<const void*> owner{nullptr};  // the thread; null: left behind by one that ended
  CacheReader* next = nullptr;
  std::unique_ptr<HitRing[]> rings;
};

// Thread safety: thread-safe.
class CacheReaders {
 public:
  explicit CacheReaders(std::uint32_t shards);
  ~CacheReaders();
  CacheReaders(const CacheReaders&) = delete;
  CacheReaders& operator=(const CacheReaders&) = delete;

  // Null if there is no memory for it.
  CacheReader* of_this_thread() noexcept {
    const Place& place = places[slot_ % kPlaces];
    return place.serial == serial_ ? place.reader : look_up();
  }
  template <typename Visit>
  void each(Visit visit) const noexcept {
    for (CacheReader* reader = first_.load(std::memory_order_acquire); reader != nullptr;
         reader = reader->next) {
      visit(*reader);
    }
  }
  // The one behind `reader`, in turn; null if there are none.
  CacheReader* after(const CacheReader* reader) const noexcept {
    if (reader != nullptr && reader->next != nullptr) return reader->next;
    return first_.load(std::memory_order_acquire);
  }
  // The thread has ended: its readers are for others.
  void abandon(const void* owner) noexcept;

 private:
  struct Place {
    std::uint64_t serial = 0;
    CacheReader* reader = nullptr;
  };
  // As many caches are found without a look-up; sixteen bytes of each thread's own storage each.
  static constexpr std::uint32_t kPlaces = 16;
  [[gnu::tls_model("initial-exec")]] static constinit thread_local Place places[kPlaces];

  CacheReader* look_up() noexcept;
  CacheReader* claim(const void* owner) noexcept;

  const std::uint32_t shards_;
  std::uint64_t serial_ = 0;  // never given twice
  std::uint32_t slot_ = 0;    // the lowest that no other cache has
  std::atomic<CacheReader*> first_{nullptr};
};

}  // namespace forebay::detail
