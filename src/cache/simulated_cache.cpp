#include "cache/simulated_cache.hpp"

#include <algorithm>
#include <utility>

#include "cache/hash.hpp"
#include "cache/short_float.hpp"
#include "forebay/check.hpp"

namespace forebay::detail {
namespace {

constexpr std::uint64_t kMostBytes = (std::uint64_t{1} << 48U) - 1;

}  // namespace

SimulatedCache::SimulatedCache(PolicyKind kind, const PolicyOptions& options)
    : SimulatedCache(make_policy(kind, options), options.capacity) {}

SimulatedCache::SimulatedCache(std::unique_ptr<EvictionPolicy> policy,
                               std::uint64_t capacity) noexcept
    : policy_(std::move(policy)), capacity_(capacity) {
  FOREBAY_CHECK(policy_ != nullptr, "this kind of policy is not made by make_policy()");
  FOREBAY_CHECK(capacity_ > 0, "a cache needs a capacity");
  policy_->use_facts(*this);
}

SimulatedCache::SimulatedCache(SimulatedCache&& other) noexcept
    : policy_(std::move(other.policy_)),
      capacity_(other.capacity_),
      used_(other.used_),
      entry_count_(other.entry_count_),
      free_(other.free_),
      index_(std::move(other.index_)),
      entries_(std::move(other.entries_)),
      counts_(other.counts_) {
  policy_->use_facts(*this);
}

bool SimulatedCache::request(const CacheRequest& request) {
  const EntryFacts facts =
      as_kept({mix_key(request.key), std::clamp<std::uint64_t>(request.bytes, 1, kMostBytes),
               request.cost, request.utility});
  const EntryId id = find(request.key, facts.hash);
  const bool hit = id != kNoEntry;
  bool let_in = true;
  if (!hit) {
    let_in = insert(request.key, facts);
  } else if (entries_[id].bytes == facts.bytes) {
    policy_->hit(id);
  } else {
    update(id, facts);
  }

  ++counts_.requests;
  counts_.bytes_requested += request.bytes;
  counts_.cost_requested += request.cost;
  if (hit) {
    ++counts_.hits;
  } else {
    counts_.bytes_missed += request.bytes;
    counts_.cost_missed += request.cost;
    if (!let_in) ++counts_.refused;
  }
  return hit;
}

void SimulatedCache::prefetch(std::uint64_t key) const noexcept { index_.prefetch(mix_key(key)); }

bool SimulatedCache::erase(std::uint64_t key) noexcept {
  const EntryId id = find(key, mix_key(key));
  if (id == kNoEntry) return false;
  policy_->erased(id);
  release(id);
  return true;
}

void SimulatedCache::resize(std::uint64_t capacity) {
  FOREBAY_CHECK(capacity > 0, "a cache needs a capacity");
  policy_->resized(capacity);
  capacity_ = capacity;
  make_place(0, {.bytes = 0});
}

std::size_t SimulatedCache::metadata_bytes() const noexcept {
  return policy_->metadata_bytes() + index_.metadata_bytes() + entries_.capacity() * sizeof(Entry);
}

EntryFacts SimulatedCache::facts_of(EntryId id) const noexcept {
  const Entry& entry = entries_[id];
  return {mix_key(entry.key), entry.bytes, lengthened(entry.cost)};
}

bool SimulatedCache::contains(std::uint64_t key) const noexcept {
  return find(key, mix_key(key)) != kNoEntry;
}

EntryId SimulatedCache::find(std::uint64_t key, std::uint64_t hash) const noexcept {
  return index_.find(hash, [&](EntryId id) { return entries_[id].key == key; });
}

void SimulatedCache::update(EntryId id, const EntryFacts& facts) noexcept {
  if (facts.bytes > capacity_) {
    policy_->erased(id);
    release(id);
    return;
  }
  used_ += facts.bytes - entries_[id].bytes;
  policy_->updated(id, facts);
  entries_[id].bytes = facts.bytes & kMostBytes;
  entries_[id].cost = shortened(facts.cost);
  make_place(0, {.bytes = 0});
}

// Whether it was let in. All that can fail comes before the first eviction, but for the policy's
// inserted(), which cannot fail for the number of an entry that has just gone.
bool SimulatedCache::insert(std::uint64_t key, const EntryFacts& facts) {
  if (facts.bytes > capacity_) return false;
  index_.make_room(entry_count_ + 1);
  if (free_ == kNoEntry) next_number();
  policy_->missed(facts);
  if (!make_place(facts.bytes, facts)) return false;
  const EntryId id = free_;
  policy_->inserted(id, facts);
  free_ = static_cast<EntryId>(entries_[id].bytes);
  entries_[id] = {key, facts.bytes & kMostBytes, shortened(facts.cost)};
  index_.add(facts.hash, id);
  used_ += facts.bytes;
  ++entry_count_;
  return true;
}

// Puts one more on the list of free numbers.
EntryId SimulatedCache::next_number() {
  const auto id = static_cast<EntryId>(entries_.size());
  if (entries_.size() == entries_.capacity()) entries_.reserve(id + id / 4 + 16);
  entries_.push_back({0, free_, 0});
  free_ = id;
  return id;
}

// Whether the policy gave as many as it takes.
bool SimulatedCache::make_place(std::uint64_t room, const EntryFacts& incoming) noexcept {
  while (used_ > capacity_ - room) {
    const EntryId id = policy_->victim(incoming);
    if (id == kNoEntry) return false;
    evict(id);
  }
  return true;
}

void SimulatedCache::evict(EntryId id) noexcept {
  policy_->evicted(id);
  ++counts_.evictions;
  release(id);
}

void SimulatedCache::release(EntryId id) noexcept {
  Entry& entry = entries_[id];
  index_.remove(mix_key(entry.key), id);
  used_ -= entry.bytes;
  entry.bytes = free_;
  free_ = id;
  --entry_count_;
}

}  // namespace forebay::detail
