// Figures and views of a cache.

#include <algorithm>
#include <string>

#include "cache/core.hpp"
#include "cache/hash.hpp"
#include "forebay/check.hpp"

namespace forebay {

std::string_view to_string(RemovalReason reason) noexcept {
  switch (reason) {
    case RemovalReason::evicted:
      return "evicted";
    case RemovalReason::expired:
      return "expired";
    case RemovalReason::erased:
      return "erased";
    case RemovalReason::replaced:
      return "replaced";
    case RemovalReason::cleared:
      return "cleared";
  }
  return "?";
}

namespace detail {
namespace {

void add_readers(const CacheImpl& impl, CacheStats& stats) noexcept {
  stats.hits = impl.other_hits.load(std::memory_order_relaxed);
  stats.misses = impl.other_misses.load(std::memory_order_relaxed);
  stats.stale = impl.other_stale.load(std::memory_order_relaxed);
  impl.readers->each([&](const CacheReader& reader) {
    stats.hits += reader.hits.load();
    stats.misses += reader.misses.load();
    stats.stale += reader.stale.load();
    stats.unrecorded += reader.unrecorded.load();
  });
  stats.lookups = stats.hits + stats.misses;
}

void add_shard(const CacheShard& shard, CacheStats& stats) noexcept {
  const auto removed = [&](RemovalReason reason) {
    return shard.removed[static_cast<std::size_t>(reason)].load();
  };
  stats.set_aside += shard.aside.load();
  stats.entries += shard.in_policy.load() + shard.aside.load();
  stats.leaving += shard.leaving.load();
  stats.insertions += shard.insertions.load();
  stats.declined += shard.declined.load();
  stats.evicted += removed(RemovalReason::evicted);
  stats.expired += removed(RemovalReason::expired);
  stats.erased += removed(RemovalReason::erased);
  stats.replaced += removed(RemovalReason::replaced);
  stats.cleared += removed(RemovalReason::cleared);
  stats.bookkeeping += Bytes{shard.bookkeeping.load()};
}

}  // namespace

Duration CacheImpl::longest_aside() const noexcept {
  std::uint64_t since = AsideAges::kNone;
  for (const auto& shard : shards) since = std::min(since, shard->aside_since.load());
  if (since == AsideAges::kNone) return Duration{0};
  const std::uint64_t now = ticks();
  return Duration{static_cast<std::int64_t>((now > since ? now - since : 0) << kTickShift)};
}

CacheStats CacheCore::stats() const noexcept {
  CacheStats stats;
  stats.used = Bytes{impl_->used.load(std::memory_order_relaxed)};
  stats.peak = Bytes{impl_->peak.load(std::memory_order_relaxed)};
  stats.max_bytes = Bytes{impl_->policies->max_bytes()};
  stats.reserved = Bytes{impl_->policies->reserved()};
  stats.bookkeeping = Bytes{impl_->policies->bookkeeping()};
  for (const auto& shard : impl_->shards) add_shard(*shard, stats);
  stats.longest_aside = impl_->longest_aside();
  add_readers(*impl_, stats);
  stats.refused = impl_->refused.load(std::memory_order_relaxed);
  stats.loads = impl_->loads.load(std::memory_order_relaxed);
  stats.load_failures = impl_->load_failures.load(std::memory_order_relaxed);
  stats.loads_shared = impl_->loads_shared.load(std::memory_order_relaxed);
  stats.load_time = Duration{impl_->load_nanoseconds.load(std::memory_order_relaxed)};
  return stats;
}

CachePolicyReport CacheCore::policy_report() const { return impl_->policies->report(); }

std::vector<MissRatioPoint> CacheCore::miss_ratio_curve() const {
  return impl_->policies->miss_ratio_curve();
}

PinnedEntry CacheCore::peek(std::uint64_t hash, const void* key, SameKey same_key) noexcept {
  const std::uint64_t mixed = mix_key(hash);
  CacheShard& shard = *impl_->shards[impl_->shard_of(mixed)];
  const Found found = shard.find_slowly(mixed, key, same_key, [&] { return impl_->ticks(); });
  if (found.id == kNoEntry) return {};
  return {&shard.headers[found.id].state, shard.headers[found.id].block};
}

void CacheCore::snapshot(std::vector<PinnedEntry>& entries) {
  for (auto& shard : impl_->shards) {
    for (;;) {
      const std::uint64_t expected = shard->in_policy.load() + shard->aside.load();
      entries.reserve(entries.size() + expected + 64);
      const std::lock_guard lock{shard->mutex};
      if (shard->table.entries() > entries.capacity() - entries.size()) continue;
      for (EntryId id = 0; id != shard->headers.used(); ++id) {
        EntryHeader& header = shard->headers[id];
        const std::uint64_t state = header.state.load(std::memory_order_relaxed);
        if ((state & kLive) == 0 || is_stale(state, [&] { return impl_->ticks(); })) continue;
        entries.push_back(CacheImpl::pin(*shard, id));
      }
      break;
    }
  }
}

Bytes CacheCore::reclaimable() const noexcept {
  std::uint64_t all = 0;
  std::uint64_t kept = 0;
  for (const auto& shard : impl_->shards) all += shard->charged_entries();
  for (const auto& shard : impl_->shards) kept += shard->aside.load() + shard->leaving.load();
  const std::uint64_t used = impl_->used.load(std::memory_order_relaxed);
  if (all == 0 || kept >= all) return Bytes{};
  return Bytes{used / all * (all - kept)};
}

std::string CacheCore::kept_because() const {
  const CacheStats now = stats();
  const std::uint64_t pinned = now.set_aside + now.leaving;
  if (pinned == 0) return {};
  return std::to_string(pinned) + " of its " + std::to_string(now.entries + now.leaving) +
         " entries are pinned by handles";
}

// With all locks at once: what is charged beside is on its way in or out.
void CacheImpl::validate() const {
  for (const auto& shard : shards) shard->validate();
  std::vector<std::unique_lock<std::mutex>> locks;
  std::uint64_t charged = 0;
  for (const auto& shard : shards) {
    locks.emplace_back(shard->mutex);
    charged += shard->policy_bytes.load();
    for (EntryId id = 0; id != shard->headers.used(); ++id) {
      const EntryHeader& header = shard->headers[id];
      if ((header.state.load() & kLive) != 0) charged += header.charge();
    }
  }
  FOREBAY_CHECK(charged <= used.load(), "entries and what their policies take are charged");
}

void CacheCore::validate() const {
  impl_->validate();
  const CacheStats now = stats();
  FOREBAY_CHECK(now.hits + now.misses == now.lookups, "hits and misses are the lookups");
}

}  // namespace detail
}  // namespace forebay
