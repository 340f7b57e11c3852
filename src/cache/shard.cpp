#include "cache/shard.hpp"

#include <algorithm>
#include <new>
#include <utility>
#include <vector>

#include "forebay/check.hpp"

namespace forebay::detail {

CacheShard::CacheShard(const EntryHeaders& header_array, std::uint32_t most,
                       std::unique_ptr<EvictionPolicy> eviction, TickSource clock)
    : headers(header_array),
      table(headers, most),
      policy(std::move(eviction)),
      wheel(most),
      epochs(most),
      ticks_(clock),
      pays_policy_(policy->kind() == PolicyKind::automatic) {
  newcomer_bytes.set(policy_charge().entry);
  aside_since.set(AsideAges::kNone);
  policy->use_facts(*this);
}

EntryId CacheShard::look_up(std::uint64_t hash, const void* key, SameKey same_key) const noexcept {
  EntryId found = kNoEntry;
  table.visit(table.shape(), hash, [&](const std::atomic<std::uint32_t>&, EntryId id) {
    const EntryHeader& header = headers[id];
    if (header.hash != hash) return false;
    if (same_key != nullptr && !same_key(header.block, key)) return false;
    found = id;
    return true;
  });
  return found;
}

// A thread may have noted an entry that has gone since, and even one whose number has been given
// again: then the wrong one is told of, which is live at least.
void CacheShard::drain_ring(HitRing& ring) noexcept {
  std::array<EntryId, HitRing::kSize> hits;
  std::size_t count = 0;
  ring.drain([&](EntryId id) {
    const std::uint64_t state = headers[id].state.load(std::memory_order_relaxed);
    if ((state & (kLive | kAside)) == kLive) hits[count++] = id;
  });
  const auto all = std::span{hits}.first(count);
  if (count > 1) policy->fetch(all);
  for (const EntryId id : all) policy->hit(id);
}

void CacheShard::drain(std::uint32_t index, CacheReaders& readers) noexcept {
  constexpr int kOthers = 2;
  CacheReader* const own = readers.of_this_thread();
  if (own != nullptr) drain_ring(own->rings[index]);
  for (int i = 0; i != kOthers; ++i) {
    next_reader_ = readers.after(next_reader_);
    if (next_reader_ != own && next_reader_ != nullptr) drain_ring(next_reader_->rings[index]);
  }
}

void CacheShard::unlink(EntryId id) noexcept {
  wheel.unlink(id);
  epochs.unlink(id);
}

// All of these places are far from one another: they are on their way from memory together.
void CacheShard::detach(Departures& out) noexcept {
  for (const Departures::Departure& departure : out.attached()) {
    table.prefetch(headers[departure.id].hash);
    wheel.prefetch(departure.id);
  }
  for (const Departures::Departure& departure : out.attached()) {
    table.prefetch_overflow(headers[departure.id].hash);
  }
  table.prefetch_merges(out.attached().size());
  for (const Departures::Departure& departure : out.attached()) {
    unlink(departure.id);
    table.erase(headers[departure.id].hash, departure.id);
  }
  out.note_detached();
}

void CacheShard::take_out(EntryId id, RemovalReason reason, bool listened,
                          Departures& out) noexcept {
  auto& state = headers[id].state;
  std::uint64_t old = state.load(std::memory_order_relaxed);
  std::uint64_t next = 0;
  bool claimed = false;
  do {
    claimed = (old & kPinMask) == 0;
    next = old & ~(kLive | kAside);
    next += claimed ? kClaimed : kDoomed + (listened ? 1 : 0);
  } while (!state.compare_exchange_weak(old, next, std::memory_order_acq_rel));
  if (!claimed) leaving.add(1);
  if ((old & kAside) != 0) {
    not_aside(id);
  } else {
    in_policy.subtract(1);
    reason == RemovalReason::evicted ? policy->evicted(id) : policy->erased(id);
  }
  removed[static_cast<std::size_t>(reason)].add(1);
  unlink(id);
  // What replaced it has its slot already.
  if (reason != RemovalReason::replaced) table.erase(headers[id].hash, id);
  if (!claimed && !listened) return;
  out.add({id, reason, claimed});
  out.note_detached();
}

bool CacheShard::claim_unpinned(EntryId id) noexcept {
  auto& state = headers[id].state;
  std::uint64_t old = state.load(std::memory_order_relaxed);
  while ((old & kPinMask) == 0) {
    if (state.compare_exchange_weak(old, (old & ~kLive) | kClaimed, std::memory_order_acq_rel)) {
      return true;
    }
  }
  return false;
}

EvictionOutcome CacheShard::evict(const EntryFacts& incoming, Departures& out) noexcept {
  while (in_policy.load() != 0) {
    const EntryId id = policy->victim(incoming);
    if (id == kNoEntry) return EvictionOutcome::declined;
    if (claim_unpinned(id)) {
      in_policy.subtract(1);
      policy->evicted(id);
      removed[static_cast<std::size_t>(RemovalReason::evicted)].add(1);
      out.add({id, RemovalReason::evicted, true});
      return EvictionOutcome::done;
    }
    set_aside(id);
  }
  return EvictionOutcome::none;
}

// Whoever unpins it once the flag is there sees it; whoever did before has left no pin.
bool CacheShard::set_aside(EntryId id) noexcept {
  auto& state = headers[id].state;
  if ((state.load(std::memory_order_relaxed) & kAside) != 0) return true;
  const std::uint64_t old = state.fetch_or(kAside, std::memory_order_acq_rel);
  if ((old & kPinMask) == 0) {
    state.fetch_and(~kAside, std::memory_order_acq_rel);
    return false;
  }
  policy->erased(id);
  in_policy.subtract(1);
  aside.add(1);
  ages_.add(id, ticks_.now());
  aside_since.set(ages_.oldest());
  return true;
}

void CacheShard::not_aside(EntryId id) noexcept {
  aside.subtract(1);
  ages_.remove(id);
  aside_since.set(ages_.oldest());
}

// Entries that go together lie anywhere: what is known of them is on its way from memory together.
void CacheShard::fetch(std::span<const EntryId> entries) const noexcept {
  for (const EntryId id : entries) {
    __builtin_prefetch(&headers[id], 1);
    wheel.prefetch(id);
    epochs.prefetch(id);
  }
  for (const EntryId id : entries) table.prefetch(headers[id].hash);
}

void CacheShard::fetch_leaving(std::span<const EntryId> entries) const noexcept {
  fetch(entries);
  policy->fetch(entries);
  table.prefetch_merges(entries.size());
  for (const EntryId id : entries) table.prefetch_overflow(headers[id].hash);
}

void CacheShard::fetch_victims(std::size_t most) const noexcept {
  std::array<EntryId, Departures::kMost> entries;
  const auto room = std::span{entries}.first(std::min<std::size_t>(most, entries.size()));
  fetch(room.first(policy->likely_victims(room)));
}

// The header of the first came with the call before this one; those of the others come now.
void CacheShard::fetch_next_victims() const noexcept {
  std::array<EntryId, 2> next;
  const std::size_t count = policy->likely_victims(next);
  if (count == 0) return;
  for (const EntryId id : std::span{next}.first(count).subspan(1)) {
    __builtin_prefetch(&headers[id], 1);
  }
  const EntryHeader& first = headers[next[0]];
  __builtin_prefetch(first.block);
  table.prefetch(first.hash);
  wheel.prefetch(next[0]);
}

bool CacheShard::expire(std::uint64_t now, bool listened, Departures& out) noexcept {
  // Moves down the wheel's levels count as well: none of this is long.
  constexpr std::uint32_t kWork = Departures::kMost;
  const auto deadline_of = [&](EntryId id) {
    return whole_deadline(headers[id].state.load(std::memory_order_relaxed), now);
  };
  const bool more = wheel.advance(now, kWork, deadline_of, [&](EntryId id) {
    take_out(id, RemovalReason::expired, listened, out);
  });
  note_next_due();
  return more;
}

void CacheShard::put_back(EntryId id, bool listened, Departures& out) noexcept {
  EntryHeader& header = headers[id];
  const std::uint64_t state = header.state.load(std::memory_order_acquire);
  // Pinned again: then the last of those pins comes here.
  if ((state & (kLive | kAside)) != (kLive | kAside) || (state & kPinMask) != 0) return;
  try {
    policy->inserted(id, header.facts());
  } catch (const std::bad_alloc&) {
    take_out(id, RemovalReason::evicted, listened, out);
    return;
  }
  in_policy.add(1);
  not_aside(id);
  header.state.fetch_and(~kAside, std::memory_order_acq_rel);
}

std::uint64_t CacheShard::spare() const noexcept {
  const std::uint64_t charged = policy_bytes.load();
  return charged - std::min(charged, policy_charge().goal);
}

std::uint64_t CacheShard::take_spare() noexcept {
  if (!pays_policy_) return 0;
  const PolicyCharge charge = policy_charge();
  newcomer_bytes.set(charge.entry);
  const std::uint64_t charged = policy_bytes.load();
  if (charged <= charge.goal) return 0;
  policy_bytes.set(charge.goal);
  return charged - charge.goal;
}

bool CacheShard::pays_for_newcomer(std::uint64_t bytes) const noexcept {
  if (!pays_policy_) return true;
  const PolicyCharge charge = policy_charge();
  return policy_bytes.load() + bytes >= charge.total + charge.entry;
}

void CacheShard::free(EntryId id) noexcept {
  headers[id].state.fetch_and(kPinMask, std::memory_order_acq_rel);
  headers.give(id);
}

void CacheShard::validate() const {
  const std::lock_guard lock{mutex};
  table.validate();
  std::uint64_t live = 0;
  std::uint64_t set_aside = 0;
  std::uint64_t with_deadline = 0;
  for (EntryId id = 0; id != headers.used(); ++id) {
    const std::uint64_t state = headers[id].state.load(std::memory_order_relaxed);
    if ((state & kLive) == 0) continue;
    ++live;
    if ((state & kAside) != 0) ++set_aside;
    if (has_deadline(state)) ++with_deadline;
  }
  FOREBAY_CHECK(live == table.entries(), "what is live is in the table");
  FOREBAY_CHECK(set_aside == aside.load(), "entries set aside are counted");
  FOREBAY_CHECK(live == in_policy.load() + set_aside, "the policy has what is not set aside");
  FOREBAY_CHECK(with_deadline == wheel.linked(), "what has a deadline is in the wheel");
  std::vector<EntryId> order;
  policy->order(order);
  FOREBAY_CHECK(order.size() == in_policy.load(), "the policy counts as the shard does");
  FOREBAY_CHECK(policy_bytes.load() >= policy_charge().total, "what the policy takes is charged");
}

}  // namespace forebay::detail
