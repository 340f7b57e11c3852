// The ways out of the cache.

#include <algorithm>
#include <array>

#include "cache/core.hpp"
#include "cache/hash.hpp"

namespace forebay::detail {

void CacheImpl::destroy_block(void* block) noexcept {
  // A line of memory for its size alone would be the most expensive part of an entry's end.
  if (!reads_leaving && type.tail != nullptr) return pool->deallocate_unsized(block);
  const Bytes bytes = block_bytes(block);
  destroy(block);
  memory->deallocate(block, bytes, Bytes{type.alignment});
}

void CacheImpl::fetch_blocks(const CacheShard& shard, Departures& out) const noexcept {
  std::array<const void*, Departures::kMost> blocks;
  std::size_t count = 0;
  for (const Departures::Departure& departure : out.all()) {
    blocks[count++] = shard.headers[departure.id].block;
    if (reads_leaving) __builtin_prefetch(blocks[count - 1]);
  }
  if (pool != nullptr) pool->fetch(std::span{blocks}.first(count));
}

std::uint64_t CacheImpl::settle(CacheShard& shard, Departures& out) noexcept {
  std::uint64_t bytes = out.take_spare();
  std::uint64_t count = 0;
  fetch_blocks(shard, out);
  for (const Departures::Departure& departure : out.all()) {
    EntryHeader& header = shard.headers[departure.id];
    if (listened()) type.removed(type.context, header.block, departure.reason);
    if (departure.claimed) {
      bytes += header.charge();
      ++count;
      destroy_block(header.block);
    } else {
      unpin(&header.state);
    }
  }
  if (bytes != 0) release_charge(bytes, count);
  return bytes;
}

void CacheImpl::free_numbers(CacheShard& shard, Departures& out) noexcept {
  for (const Departures::Departure& departure : out.all()) {
    if (departure.claimed) shard.free(departure.id);
  }
  out.clear();
}

std::uint64_t CacheImpl::settle_and_free(CacheShard& shard, Departures& out) noexcept {
  if (out.empty()) return 0;
  const std::uint64_t bytes = settle(shard, out);
  if (out.all().empty()) return bytes;
  const std::lock_guard lock{shard.mutex};
  free_numbers(shard, out);
  return bytes;
}

std::uint64_t CacheImpl::evict_from(std::uint32_t index, std::uint64_t goal) noexcept {
  CacheShard& shard = *shards[index];
  std::uint64_t freed = 0;
  std::uint64_t each = entry_charge;
  for (Departures out; freed < goal;) {
    {
      const std::lock_guard lock{shard.mutex};
      free_numbers(shard, out);
      shard.drain(index, *readers);
      const std::uint64_t many = (goal - freed) / each;
      if (many > 1) shard.fetch_victims(many);
      // For no newcomer: the policy declines nothing.
      std::uint64_t leaving = 0;
      while (!out.full() && freed + leaving + shard.spare() < goal) {
        if (shard.evict({.bytes = 0}, out) != EvictionOutcome::done) break;
        leaving += shard.headers[out.all().back().id].charge();
      }
      shard.detach(out);
      if (!out.all().empty()) each = std::max(leaving / out.all().size(), entry_charge);
      out.add_spare(shard.take_spare());
    }
    if (out.empty()) break;
    freed += settle(shard, out);
    if (freed >= goal) settle_numbers(shard, out);
  }
  return freed;
}

void CacheImpl::settle_numbers(CacheShard& shard, Departures& out) noexcept {
  const std::lock_guard lock{shard.mutex};
  free_numbers(shard, out);
}

std::uint64_t CacheImpl::expire_all() noexcept {
  std::uint64_t count = 0;
  const std::uint64_t now = ticks();
  for (auto& shard : shards) {
    if (shard->next_due.load() > now) continue;
    Departures out;
    bool more = true;
    while (more) {
      {
        const std::lock_guard lock{shard->mutex};
        free_numbers(*shard, out);
        const std::uint64_t before = shard->expired_count();
        more = shard->expire(now, listened(), out);
        count += shard->expired_count() - before;
        out.add_spare(shard->take_spare());
      }
      settle(*shard, out);
    }
    settle_numbers(*shard, out);
  }
  return count;
}

std::uint64_t CacheImpl::next_due() const noexcept {
  std::uint64_t due = TimerWheel::kNever;
  for (const auto& shard : shards) due = std::min(due, shard->next_due.load());
  return due;
}

// What is past its deadline first; then from each shard in turn, a little at a time, so that all
// stay about as full.
std::uint64_t CacheImpl::reclaim(std::uint64_t goal) noexcept {
  const std::uint64_t before = used.load(std::memory_order_relaxed);
  expire_all();
  const std::uint64_t now = used.load(std::memory_order_relaxed);
  std::uint64_t freed = before > now ? before - now : 0;
  const auto count = static_cast<std::uint32_t>(shards.size());
  constexpr std::uint64_t kShare = 64ULL << 10;
  while (freed < goal) {
    const std::uint64_t share = std::min(kShare, goal - freed);
    std::uint64_t round = 0;
    const std::uint32_t first = next_victim_shard.fetch_add(1, std::memory_order_relaxed);
    for (std::uint32_t i = 0; i != count && freed + round < goal; ++i) {
      round += evict_from((first + i) % count, share);
    }
    if (round == 0) break;
    freed += round;
  }
  return freed;
}

// Whatever is in when its number comes up goes.
void CacheImpl::clear_shard(CacheShard& shard) noexcept {
  constexpr std::uint32_t kLooks = 1024;
  EntryId id = 0;
  for (bool more = true; more;) {
    Departures out;
    {
      const std::lock_guard lock{shard.mutex};
      const EntryId end = shard.headers.used();
      for (std::uint32_t looks = 0; id < end && !out.full() && looks != kLooks; ++id, ++looks) {
        if ((shard.headers[id].state.load(std::memory_order_relaxed) & kLive) == 0) continue;
        shard.take_out(id, RemovalReason::cleared, listened(), out);
      }
      out.add_spare(shard.take_spare());
      more = id < end;
    }
    settle_and_free(shard, out);
  }
}

// The doors.

bool CacheCore::erase(std::uint64_t hash, const void* key, SameKey same_key) noexcept {
  const std::uint64_t mixed = mix_key(hash);
  CacheShard& shard = *impl_->shards[impl_->shard_of(mixed)];
  Departures out;
  bool stale = false;
  bool found = false;
  {
    const std::lock_guard lock{shard.mutex};
    shard.drain(impl_->shard_of(mixed), *impl_->readers);
    const EntryId id = shard.look_up(mixed, key, same_key);
    found = id != kNoEntry;
    if (found) {
      stale = is_stale(shard.headers[id].state.load(), [&] { return impl_->ticks(); });
      shard.take_out(id, stale ? RemovalReason::expired : RemovalReason::erased, impl_->listened(),
                     out);
      out.add_spare(shard.take_spare());
    }
  }
  impl_->settle_and_free(shard, out);
  return found && !stale;
}

std::uint64_t CacheCore::erase_epochs_before(std::uint64_t epoch) noexcept {
  std::uint64_t count = 0;
  std::array<EntryId, Departures::kMost> ids;
  for (auto& shard : impl_->shards) {
    for (Departures out;;) {
      std::uint32_t found = 0;
      {
        const std::lock_guard lock{shard->mutex};
        CacheImpl::free_numbers(*shard, out);
        found = shard->epochs.some_before(epoch, ids);
        shard->fetch_leaving(std::span{ids}.first(found));
        for (std::uint32_t i = 0; i != found; ++i) {
          shard->take_out(ids[i], RemovalReason::erased, impl_->listened(), out);
        }
        if (found != 0) out.add_spare(shard->take_spare());
      }
      if (found == 0) break;
      count += found;
      impl_->settle(*shard, out);
    }
  }
  return count;
}

void CacheCore::clear() noexcept {
  for (auto& shard : impl_->shards) impl_->clear_shard(*shard);
  impl_->give_memory_back(~std::uint64_t{0});
}

void CacheCore::set_max_bytes(Bytes bytes) {
  Status{bytes.is_zero() ? Status{Code::invalid_argument,
                                  "cache " + impl_->options.name + ": max_bytes must be above 0"}
                         : Status{}}
      .throw_if_error();
  const auto share = impl_->policies->share_at(bytes.count(), impl_->used.load());
  for (auto& shard : impl_->shards) {
    const std::lock_guard lock{shard->mutex};
    shard->policy->resized(share.shard_capacity);
  }
  impl_->policies->set_max_bytes(share, impl_->max_bytes);
  const std::uint64_t line = impl_->max_bytes.load();
  const std::uint64_t used = impl_->used.load();
  if (used <= line) return;
  impl_->reclaim(used - line);
  impl_->give_memory_back(~std::uint64_t{0});
}

std::uint64_t CacheCore::cleanup_expired() noexcept { return impl_->expire_all(); }

EvictionOutcome CacheCore::evict_for(const EntryDraft& newcomer) noexcept {
  const std::uint64_t mixed = mix_key(newcomer.hash);
  const EntryFacts facts =
      as_kept({mixed, impl_->charge_of(newcomer), newcomer.options.cost, newcomer.options.utility});
  const std::uint32_t index = impl_->shard_of(mixed);
  CacheShard& shard = *impl_->shards[index];
  Departures out;
  EvictionOutcome outcome{};
  {
    const std::lock_guard lock{shard.mutex};
    shard.drain(index, *impl_->readers);
    outcome = shard.evict(facts, out);
    shard.detach(out);
    out.add_spare(shard.take_spare());
    if (outcome == EvictionOutcome::declined) shard.declined.add(1);
  }
  impl_->settle_and_free(shard, out);
  if (outcome != EvictionOutcome::none) return outcome;
  for (std::uint32_t i = 0; i != impl_->shards.size(); ++i) {
    if (i != index && impl_->evict_from(i, 1) != 0) return EvictionOutcome::done;
  }
  return EvictionOutcome::none;
}

Bytes CacheCore::reclaim(Bytes goal) noexcept {
  const Bytes freed{impl_->reclaim(goal.count())};
  impl_->give_memory_back(freed.count());
  return freed;
}

}  // namespace forebay::detail
