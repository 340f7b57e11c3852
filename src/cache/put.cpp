// The way of an entry into the cache.

#include <algorithm>
#include <new>
#include <tuple>
#include <utility>

#include "cache/core.hpp"
#include "cache/hash.hpp"
#include "forebay/check.hpp"

namespace forebay::detail {
namespace {

constexpr Duration kLongest = std::chrono::hours{200 * 24};

constexpr std::uint32_t kRoundsAboveTheLine = 2;
constexpr const char* kNoBookkeeping = "the cache finds no memory for bookkeeping";

}  // namespace

// What a put has taken until its entry is in: given back unless it is.
struct CacheImpl::Fresh {
  Fresh(CacheImpl& of, CacheShard& its) noexcept : impl(of), shard(its) {}
  Fresh(const Fresh&) = delete;
  Fresh& operator=(const Fresh&) = delete;
  ~Fresh() {
    if (built) {
      impl.destroy_block(block);
    } else if (block != nullptr) {
      impl.memory->deallocate(block, bytes, Bytes{impl.type.alignment});
    }
    if (asked != 0) impl.used.fetch_sub(asked, std::memory_order_acq_rel);
    if (charge != 0) impl.release_charge(charge, 0);
    if (counted) impl.release_count(1);
    if (!gone.empty()) settle_numbers(shard, gone);
  }

  // What is to be charged beyond what was, the policy's part with it, and what may be saved up for
  // a switch of policies. REQUIRES: the lock.
  std::pair<std::uint64_t, std::uint64_t> price(const EntryFacts& facts, bool is_new) const {
    const PolicyCharge policy = shard.policy_charge();
    const std::uint64_t saved = shard.policy_bytes.load();
    const std::uint64_t needed =
        facts.bytes + policy.entry + policy.total - std::min(policy.total, saved);
    const bool saves = is_new && saved < policy.goal && policy.goal > policy.total;
    return {needed - std::min(needed, charge),
            saves ? std::min(policy.goal - saved, policy.instalment) : 0};
  }

  CacheImpl& impl;
  CacheShard& shard;
  Departures gone;           // what made room for it: destroyed, their numbers not free yet
  std::uint64_t charge = 0;  // what it is charged: its own part, and more for the policy's memory
  std::uint64_t asked = 0;   // charged to the cache, and not to the budget yet
  std::uint64_t wish = 0;    // for a switch of policies to come
  bool counted = false;      // as an entry
  bool told = false;         // that it was missed
  void* block = nullptr;
  Bytes bytes;
  const void* key = nullptr;
  bool built = false;
};

std::uint64_t CacheImpl::charge_of(const EntryDraft& draft) const noexcept {
  constexpr std::uint64_t kMost = std::uint64_t{~std::uint32_t{0}} * kChargeUnit;
  if (draft.tail > kMost || draft.weight > kMost) return ~std::uint64_t{0};
  std::uint64_t charge = draft.weight + entry_charge;
  if (draft.tail != 0) {
    const Bytes block{type.size + draft.tail};
    charge += memory->good_size(block, Bytes{type.alignment}).count() - smallest_block;
  }
  if (charge > kMost) return ~std::uint64_t{0};
  return (charge + kChargeUnit - 1) / kChargeUnit * kChargeUnit;
}

// Rounded up: nothing is dropped before its time. Zero: none.
std::uint64_t CacheImpl::deadline_for(const EntryOptions& entry) const {
  Duration ttl = entry.ttl;
  if (options.max_age != Duration::zero()) {
    ttl = ttl == Duration::zero() ? options.max_age : std::min(ttl, options.max_age);
  }
  if (ttl == Duration::zero()) return 0;
  const auto nanoseconds = static_cast<std::uint64_t>(std::min(ttl, kLongest).count());
  std::uint64_t deadline = ticks() + (nanoseconds >> kTickShift) + 1;
  // The word's zero says that there is none.
  if (static_cast<std::uint32_t>(deadline) == 0) ++deadline;
  return deadline;
}

Status CacheImpl::refusal(std::uint64_t asked, std::string_view why) const {
  std::uint64_t pinned = 0;
  std::uint64_t all = 0;
  for (const auto& shard : shards) {
    pinned += shard->aside.load() + shard->leaving.load();
    all += shard->charged_entries();
  }
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(longest_aside()).count();
  const std::string for_how_long =
      seconds == 0 ? "" : ", one for " + std::to_string(seconds) + " s at least";
  return {Code::memory_refused, "cache " + options.name + ": asked " + to_string(Bytes{asked}) +
                                    ", used " + to_string(Bytes{used.load()}) + " of " +
                                    to_string(Bytes{max_bytes.load()}) + " in " +
                                    std::to_string(all) + " entries, " + std::to_string(pinned) +
                                    " of them pinned" + for_how_long + ": " + std::string{why}};
}

bool CacheImpl::try_charge(std::uint64_t bytes, bool for_entry) noexcept {
  if (for_entry && counted && !try_count()) return false;
  std::uint64_t now = used.load(std::memory_order_relaxed);
  do {
    const std::uint64_t most = max_bytes.load(std::memory_order_relaxed);
    if (now > most || bytes > most - now) {
      if (for_entry) release_count(1);
      return false;
    }
  } while (!used.compare_exchange_weak(now, now + bytes, std::memory_order_acq_rel));
  std::uint64_t highest = peak.load(std::memory_order_relaxed);
  while (highest < now + bytes &&
         !peak.compare_exchange_weak(highest, now + bytes, std::memory_order_relaxed)) {
  }
  return true;
}

void CacheImpl::release_charge(std::uint64_t bytes, std::uint64_t count) noexcept {
  if (budget != nullptr) budget->deallocate(budget.get(), Bytes{bytes}, Bytes{1});
  used.fetch_sub(bytes, std::memory_order_acq_rel);
  release_count(count);
}

bool CacheImpl::try_count() noexcept {
  std::uint64_t count = entries.load(std::memory_order_relaxed);
  do {
    if (count >= options.max_entries) return false;
  } while (!entries.compare_exchange_weak(count, count + 1, std::memory_order_acq_rel));
  return true;
}

bool CacheImpl::lacks(std::uint64_t bytes, std::uint64_t leaving,
                      std::uint64_t leaving_entries) const noexcept {
  // What is leaving is still charged.
  if (counted && entries.load(std::memory_order_relaxed) - leaving_entries >= options.max_entries) {
    return true;
  }
  return used.load(std::memory_order_relaxed) - leaving + bytes >
         max_bytes.load(std::memory_order_relaxed);
}

// The entry of the newcomer's key; one past its deadline goes first. REQUIRES: the lock.
EntryId CacheImpl::look_up_fresh(CacheShard& shard, const EntryDraft& draft, Departures& out) {
  const EntryId there = shard.look_up(draft.hash, draft.key, draft.same_key);
  if (there == kNoEntry) return kNoEntry;
  if (!is_stale(shard.headers[there].state.load(), [this] { return ticks(); })) return there;
  shard.take_out(there, RemovalReason::expired, listened(), out);
  return kNoEntry;
}

// Evicts what is in the way of the newcomer, and of a wish beside it. REQUIRES: the lock.
EvictionOutcome CacheImpl::make_way(CacheShard& shard, const EntryFacts& facts, std::uint64_t asked,
                                    std::uint64_t wish, Fresh& fresh) noexcept {
  Departures& out = fresh.gone;
  // What was past its deadline is on its way as well.
  std::uint64_t bytes = 0;
  std::uint64_t n = 0;
  for (const auto& departure : out.all()) {
    if (!departure.claimed) continue;
    bytes += shard.headers[departure.id].charge();
    ++n;
  }
  EvictionOutcome outcome = EvictionOutcome::done;
  const auto evict = [&](const EntryFacts& incoming) {
    outcome = shard.evict(incoming, out);
    if (outcome != EvictionOutcome::done) return false;
    bytes += shard.headers[out.all().back().id].charge();
    ++n;
    return true;
  };
  while (!out.full() && lacks(asked, bytes + shard.spare(), n)) {
    if (!evict(facts)) return outcome;
  }
  // Nobody is compared with it, and nothing is refused for its sake.
  while (wish != 0 && !out.full() && lacks(asked + wish, bytes + shard.spare(), n)) {
    if (!evict({.bytes = 0})) break;
  }
  return EvictionOutcome::done;
}

// Charges the newcomer, after evicting what is in its way. An outcome if the put ends here; none,
// with a refusal or without, otherwise.
std::optional<PutOutcome> CacheImpl::make_room(CacheShard& shard, const EntryDraft& draft,
                                               const EntryFacts& facts, PinnedEntry* pinned,
                                               Fresh& fresh, Status& why) {
  Departures& out = fresh.gone;
  bool declined = false;
  for (std::uint32_t rounds = 0;; ++rounds) {
    bool exhausted = false;  // the shard has no more to give
    std::uint64_t asked = 0;
    std::uint64_t wish = 0;
    {
      const std::lock_guard lock{shard.mutex};
      free_numbers(shard, out);
      shard.drain(shard_of(facts.hash), *readers);
      const EntryId there = look_up_fresh(shard, draft, out);
      if (there != kNoEntry && draft.only_if_absent) {
        if (pinned != nullptr) *pinned = pin(shard, there);
        return PutOutcome::present;
      }
      try {
        if (there == kNoEntry && draft.asked_for && !std::exchange(fresh.told, true)) {
          shard.missed(facts);
        }
      } catch (const std::bad_alloc&) {
        why = Status{Code::memory_refused, kNoBookkeeping};
      }
      std::tie(asked, wish) = fresh.price(facts, there == kNoEntry);
      if (why.ok()) {
        const auto eviction = make_way(shard, facts, asked, wish, fresh);
        exhausted = eviction != EvictionOutcome::done;
        declined = eviction == EvictionOutcome::declined;
      }
      shard.detach(out);
      if (!out.all().empty()) shard.fetch_next_victims();
      out.add_spare(shard.take_spare());
      if (declined) shard.declined.add(1);
    }
    const bool some_left = !out.empty();
    settle(shard, out);
    const bool charged = !declined && why.ok() && try_charge(asked, !fresh.counted);
    if (charged) {
      fresh.asked = asked;
      fresh.wish = wish;
      fresh.counted = true;
    }
    // The line was lowered: whoever did that evicts, and a put helps a little.
    if (!charged && rounds == kRoundsAboveTheLine && used.load() > max_bytes.load()) {
      why = refusal(asked, "the line was lowered, and entries are still to go");
    }
    // Where nothing had to go, another thread has taken the room that there was.
    if (!charged && !declined && why.ok() &&
        (some_left || !exhausted || make_room_elsewhere(shard, asked))) {
      continue;
    }
    if (declined) return PutOutcome::declined;
    if (!charged && why.ok()) why = refusal(asked, "nothing is left that could be evicted");
    return std::nullopt;
  }
}

// When a shard has nothing more to give, others do, in turn. Whether any did.
bool CacheImpl::make_room_elsewhere(const CacheShard& shard, std::uint64_t bytes) noexcept {
  const auto count = static_cast<std::uint32_t>(shards.size());
  const std::uint32_t first = next_victim_shard.fetch_add(1, std::memory_order_relaxed);
  for (std::uint32_t i = 0; i != count; ++i) {
    const std::uint32_t index = (first + i) % count;
    if (shards[index].get() == &shard) continue;
    if (evict_from(index, bytes) != 0) return true;
  }
  // Somebody else may have given room meanwhile.
  return !lacks(bytes, 0, 0);
}

Status CacheImpl::build(const EntryDraft& draft, Fresh& fresh) {
  fresh.bytes = Bytes{type.size + draft.tail};
  auto block = memory->allocate(fresh.bytes, Bytes{type.alignment});
  if (!block) return block.status().with_context("cache " + options.name);
  fresh.block = *block;
  fresh.key = draft.construct(fresh.block, draft.parts);
  fresh.built = true;
  return {};
}

// What make_room() has charged here is charged to the budget too.
Status CacheImpl::charge_budget(Fresh& fresh) {
  if (budget != nullptr && fresh.asked != 0) {
    const auto granted = budget->allocate(Bytes{fresh.asked}, Bytes{1});
    if (!granted) return granted.status();
  }
  fresh.charge += std::exchange(fresh.asked, 0);
  return {};
}

// A part of what the shard's policy waits for, if it can be had.
void CacheImpl::save_up(Fresh& fresh) {
  const std::uint64_t wish = std::exchange(fresh.wish, 0);
  if (wish == 0 || !try_charge(wish, false)) return;
  fresh.asked = wish;
  if (charge_budget(fresh).ok()) return;
  used.fetch_sub(std::exchange(fresh.asked, 0), std::memory_order_acq_rel);
}

Result<PutOutcome> CacheImpl::put(EntryDraft& draft, PinnedEntry* pinned) {
  const EntryFacts facts =
      as_kept({draft.hash, charge_of(draft), draft.options.cost, draft.options.utility});
  if (draft.options.ttl < Duration::zero()) {
    return Status{Code::invalid_argument,
                  "cache " + options.name + ": a time to live must not be negative"};
  }
  const auto refuse = [this](Status why) {
    refused.fetch_add(1, std::memory_order_relaxed);
    return why;
  };
  CacheShard& shard = *shards[shard_of(draft.hash)];
  const std::uint64_t most = max_bytes.load(std::memory_order_relaxed);
  const std::uint64_t for_policy = shard.newcomer_bytes.load();
  if (facts.bytes > most || for_policy > most - facts.bytes) {
    return refuse(refusal(facts.bytes + for_policy, "it is larger than the cache"));
  }
  Fresh fresh{*this, shard};
  try {
    for (;;) {
      Status why;
      if (auto end = make_room(shard, draft, facts, pinned, fresh, why)) return *end;
      if (!why.ok()) return refuse(std::move(why));
      if (Status granted = charge_budget(fresh); !granted.ok()) return refuse(std::move(granted));
      save_up(fresh);
      if (!fresh.built) {
        if (Status built = build(draft, fresh); !built.ok()) return refuse(std::move(built));
        draft.key = fresh.key;
      }
      if (auto outcome = put_in(shard, draft, facts, fresh, pinned)) return *outcome;
    }
  } catch (const std::bad_alloc&) {
    return refuse(Status{Code::memory_refused, kNoBookkeeping});
  }
}

// Nobody has it pinned: another block takes its place under the same number, so that the policy
// knows it still. A reader who comes by meanwhile looks again under the lock.
bool CacheImpl::replace_in_place(CacheShard& shard, EntryId id, const EntryFacts& facts,
                                 std::uint64_t word, Fresh& fresh) noexcept {
  EntryHeader& header = shard.headers[id];
  std::uint64_t old = header.state.load(std::memory_order_relaxed);
  do {
    if ((old & (kPinMask | kAside)) != 0) return false;
  } while (!header.state.compare_exchange_weak(old, kBusy, std::memory_order_acq_rel));
  shard.wheel.unlink(id);
  std::swap(header.block, fresh.block);
  fresh.charge += header.charge() - facts.bytes;
  shard.policy->updated(id, facts);  // asks for what was true before
  header.describe(facts);
  header.state.fetch_add(kLive - kBusy + word, std::memory_order_acq_rel);
  shard.removed[static_cast<std::size_t>(RemovalReason::replaced)].add(1);
  return true;
}

// A number of its own. `old`, if any, has the same key, and is set aside: a policy may know entries
// by their hash. Throws std::bad_alloc, and the cache holds what it did.
EntryId CacheImpl::add(CacheShard& shard, const EntryDraft& draft, const EntryFacts& facts,
                       std::uint64_t word, Fresh& fresh, EntryId old, Departures& out) {
  if (draft.epoch) shard.epochs.prepare(*draft.epoch);
  if (old == kNoEntry && !shard.table.make_room(facts.hash)) throw std::bad_alloc{};
  const EntryId id = shard.headers.take();
  if (id == kNoEntry) throw std::bad_alloc{};
  try {
    shard.policy->inserted(id, facts);
  } catch (...) {
    shard.headers.give(id);
    throw;
  }
  EntryHeader& header = shard.headers[id];
  header.block = std::exchange(fresh.block, nullptr);
  header.hash = facts.hash;
  header.describe(facts);
  fresh.built = false;
  fresh.counted = false;
  // The rest is for what the policy takes of memory.
  shard.policy_bytes.add(std::exchange(fresh.charge, 0) - facts.bytes);
  // Live before it is in the table, so that whoever finds it there finds it whole; and in the slot
  // of the old one, so that a reader finds one or the other.
  header.state.fetch_add(kLive + word, std::memory_order_acq_rel);
  shard.in_policy.add(1);
  if (draft.epoch) shard.epochs.link(id, *draft.epoch);
  if (old == kNoEntry) {
    shard.table.insert(facts.hash, id);
  } else {
    shard.table.replace(facts.hash, old, id);
    shard.take_out(old, RemovalReason::replaced, listened(), out);
  }
  return id;
}

PinnedEntry CacheImpl::pin(CacheShard& shard, EntryId id) noexcept {
  EntryHeader& header = shard.headers[id];
  header.state.fetch_add(1, std::memory_order_acq_rel);
  return {&header.state, header.block};
}

// None if the shard's policy has begun a switch since room was made, and takes more for an entry.
std::optional<PutOutcome> CacheImpl::put_in(CacheShard& shard, const EntryDraft& draft,
                                            const EntryFacts& facts, Fresh& fresh,
                                            PinnedEntry* pinned) {
  const std::uint64_t deadline = deadline_for(draft.options);
  const std::uint64_t word = deadline << kDeadlineShift;
  Departures out;
  PutOutcome outcome = PutOutcome::inserted;
  {
    const std::lock_guard lock{shard.mutex};
    free_numbers(shard, fresh.gone);
    if (!shard.pays_for_newcomer(fresh.charge - facts.bytes)) return std::nullopt;
    if (deadline != 0) shard.wheel.prepare();
    const EntryId there = shard.look_up(facts.hash, fresh.key, draft.same_key);
    EntryId id = there;
    if (there != kNoEntry && draft.only_if_absent) {
      outcome = PutOutcome::present;
    } else {
      bool in_place = false;
      if (there != kNoEntry) {
        outcome = PutOutcome::replaced;
        do {
          in_place = replace_in_place(shard, there, facts, word, fresh);
        } while (!in_place && !shard.set_aside(there));
      }
      if (!in_place) id = add(shard, draft, facts, word, fresh, there, out);
      if (deadline != 0) shard.wheel.link(id, deadline);
      if (deadline != 0 && deadline < shard.next_due.load()) shard.note_next_due();
      shard.insertions.add(1);
      shard.note_bookkeeping();
      out.add_spare(shard.take_spare());
    }
    if (pinned != nullptr) *pinned = pin(shard, id);
  }
  if (deadline != 0) await(deadline);
  if (outcome == PutOutcome::replaced && fresh.built && listened()) {
    type.removed(type.context, fresh.block, RemovalReason::replaced);
  }
  if (!out.empty()) settle_and_free(shard, out);
  return outcome;
}

// The doors.

Result<PutOutcome> CacheCore::put(const EntryDraft& draft, PinnedEntry* pinned) {
  EntryDraft mixed = draft;
  mixed.hash = mix_key(draft.hash);
  return impl_->put(mixed, pinned);
}

}  // namespace forebay::detail
