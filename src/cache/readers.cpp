#include "cache/readers.hpp"

#include <algorithm>
#include <cstddef>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace forebay::detail {
namespace {

struct Registry {
  std::mutex mutex;
  std::vector<CacheReaders*> slots;  // by slot; null: free
  std::uint64_t serials = 0;
};

// Never destroyed: threads may end, and caches too, after static objects have.
Registry& registry() noexcept {
  alignas(Registry) static std::byte place[sizeof(Registry)];
  static auto* const the = new (place) Registry;
  return *the;
}

// Its end is the thread's; its address is the thread's name.
struct ThreadEnd {
  ~ThreadEnd() {
    ended = true;
    const std::lock_guard lock{registry().mutex};
    for (CacheReaders* const readers : registry().slots) {
      if (readers != nullptr) readers->abandon(this);
    }
  }
  bool ended = false;
};

ThreadEnd& this_thread() noexcept {
  static thread_local ThreadEnd end;
  return end;
}

}  // namespace

[[gnu::tls_model(
    "initial-exec")]] constinit thread_local CacheReaders::Place CacheReaders::places[kPlaces];

CacheReaders::CacheReaders(std::uint32_t shards) : shards_(shards) {
  const std::lock_guard lock{registry().mutex};
  auto& slots = registry().slots;
  auto free = std::find(slots.begin(), slots.end(), nullptr);
  if (free == slots.end()) free = slots.insert(slots.end(), nullptr);
  *free = this;
  slot_ = static_cast<std::uint32_t>(free - slots.begin());
  serial_ = ++registry().serials;
}

CacheReaders::~CacheReaders() {
  {
    const std::lock_guard lock{registry().mutex};
    registry().slots[slot_] = nullptr;
  }
  for (CacheReader* reader = first_.load(); reader != nullptr;) {
    delete std::exchange(reader, reader->next);
  }
}

void CacheReaders::abandon(const void* owner) noexcept {
  each([owner](CacheReader& reader) {
    if (reader.owner.load(std::memory_order_relaxed) == owner) {
      reader.owner.store(nullptr, std::memory_order_release);
    }
  });
}

// A reader that is this thread's, or nobody's.
CacheReader* CacheReaders::claim(const void* owner) noexcept {
  CacheReader* unowned = nullptr;
  CacheReader* own = nullptr;
  each([&](CacheReader& reader) {
    const void* const has = reader.owner.load(std::memory_order_acquire);
    if (has == owner) own = &reader;
    if (has == nullptr) unowned = &reader;
  });
  if (own != nullptr || unowned == nullptr) return own;
  unowned->owner.store(owner, std::memory_order_relaxed);
  return unowned;
}

CacheReader* CacheReaders::look_up() noexcept {
  const ThreadEnd& thread = this_thread();
  if (thread.ended) return nullptr;  // destructors of the thread's other objects use the cache
  const std::lock_guard lock{registry().mutex};
  CacheReader* reader = claim(&thread);
  if (reader == nullptr) {
    auto made = std::unique_ptr<CacheReader>{new (std::nothrow) CacheReader};
    if (made == nullptr) return nullptr;
    made->rings.reset(new (std::nothrow) HitRing[shards_]);
    if (made->rings == nullptr) return nullptr;
    made->owner.store(&thread, std::memory_order_relaxed);
    made->next = first_.load(std::memory_order_relaxed);
    reader = made.release();
    first_.store(reader, std::memory_order_release);
  }
  places[slot_ % kPlaces] = {serial_, reader};
  return reader;
}

}  // namespace forebay::detail
