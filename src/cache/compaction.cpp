// Entries whose blocks are moved, so that the memory between them can be given back.

#include <algorithm>
#include <utility>
#include <vector>

#include "cache/core.hpp"

namespace forebay::detail {
namespace {

// Under one hold of a shard's lock.
constexpr EntryId kLooks = 1024;

}  // namespace

// An entry is pinned while its block is copied. A reader who has it pinned as well keeps it where
// it is; one who comes by while the header is changed looks again under the lock.
class CacheImpl::Compaction final : public MovableBlocks {
 public:
  explicit Compaction(CacheImpl& of) noexcept : impl_(of) {}
  Compaction(const Compaction&) = delete;
  Compaction& operator=(const Compaction&) = delete;
  ~Compaction() override { surveyed(); }

  void list(std::vector<Block>& blocks) override;
  bool claim(const Block& block) noexcept override;
  bool move(const Block& block, void* to) noexcept override;
  void release(const Block& block) noexcept override { impl_.unpin(&named(block).state); }
  AcquireOptions options(const Block&) const noexcept override {
    return {.alignment = Bytes{impl_.type.alignment}};
  }
  void surveyed() noexcept override {
    if (charged_ == 0) return;
    impl_.used.fetch_sub(std::exchange(charged_, 0), std::memory_order_acq_rel);
    impl_.release_count(1);
  }

 private:
  static EntryHeader& named(const Block& block) noexcept {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): the name that list() gave it
    return *reinterpret_cast<EntryHeader*>(block.name);
  }
  bool list_some(CacheShard& shard, EntryId& next, std::vector<Block>& blocks) const;

  CacheImpl& impl_;
  std::uint64_t charged_ = 0;  // for the copy that there is beside what is copied
};

// Whether there are more.
bool CacheImpl::Compaction::list_some(CacheShard& shard, EntryId& next,
                                      std::vector<Block>& blocks) const {
  if (blocks.capacity() - blocks.size() < kLooks) blocks.reserve(2 * blocks.size() + kLooks);
  const std::size_t first = blocks.size();
  const std::lock_guard lock{shard.mutex};
  const EntryId end = std::min(shard.headers.used(), next + kLooks);
  for (; next < end; ++next) {
    EntryHeader& header = shard.headers[next];
    const std::uint64_t state = header.state.load(std::memory_order_relaxed);
    if ((state & kLive) == 0 || (state & (kPinMask | kAside)) != 0) continue;
    __builtin_prefetch(header.block);
    blocks.push_back({header.block, {}, reinterpret_cast<std::uintptr_t>(&header)});
  }
  for (std::size_t i = first; i != blocks.size(); ++i) {
    blocks[i].size = impl_.block_bytes(blocks[i].data);
  }
  return next < shard.headers.used();
}

// No block is in two places but one at a time. A budget is not asked: a copy takes memory that the
// pool holds already, and this may be called in its relief.
void CacheImpl::Compaction::list(std::vector<Block>& blocks) {
  for (auto& shard : impl_.shards) {
    EntryId next = 0;
    while (list_some(*shard, next, blocks)) {
    }
  }
  Bytes largest;
  for (const Block& block : blocks) largest = std::max(largest, block.size);
  if (blocks.empty()) return;
  const std::uint64_t copy = impl_.memory->good_size(largest, Bytes{impl_.type.alignment}).count();
  if (impl_.lacks(copy, 0, 0)) impl_.reclaim(copy);
  if (impl_.try_charge(copy)) {
    charged_ = copy;
  } else {
    blocks.clear();
  }
}

bool CacheImpl::Compaction::claim(const Block& block) noexcept {
  EntryHeader& header = named(block);
  const std::uint64_t old = header.state.fetch_add(1, std::memory_order_acq_rel);
  if ((old & kLive) != 0 && (old & (kPinMask | kAside)) == 0 && header.block == block.data) {
    return true;
  }
  impl_.unpin(&header.state);
  return false;
}

bool CacheImpl::Compaction::move(const Block& block, void* to) noexcept {
  EntryHeader& header = named(block);
  if (!impl_.type.copy(to, block.data)) return false;
  bool moved = false;
  {
    const std::lock_guard lock{impl_.shards[impl_.place_of(&header.state).shard]->mutex};
    std::uint64_t old = header.state.load(std::memory_order_relaxed);
    do {
      moved = (old & (kLive | kAside | kPinMask)) == (kLive | 1);
    } while (moved && !header.state.compare_exchange_weak(old, old - kLive + kBusy,
                                                          std::memory_order_acq_rel));
    if (moved) {
      header.block = to;
      header.state.fetch_add(kLive - kBusy, std::memory_order_acq_rel);
    }
  }
  impl_.destroy(moved ? block.data : to);
  return moved;
}

// A survey of all entries is worth it only where much is to go; and the room for a copy may take
// one more entry's place.
void CacheImpl::give_memory_back(std::uint64_t goal) noexcept {
  if (own_pool == nullptr) return;
  const std::uint64_t given = own_pool->trim(Bytes{goal}).count();
  if (type.copy == nullptr || given >= goal) return;
  const PoolStats stats = own_pool->stats();
  constexpr std::uint64_t kLeast = 1ULL << 20;
  constexpr std::uint64_t kLeastPart = 8;
  const std::uint64_t lacking = std::min(goal - given, stats.idle.count());
  if (lacking < std::max(kLeast, stats.live.count() / kLeastPart)) return;
  Compaction compaction{*this};
  own_pool->consolidate(compaction);
}

}  // namespace forebay::detail
