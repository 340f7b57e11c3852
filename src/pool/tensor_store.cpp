#include "pool/tensor_store.hpp"

#include <algorithm>

#include "forebay/check.hpp"

namespace forebay::detail {
namespace {

// How many idle tensors of a key are looked at for one of the right stream; another costs an
// event.
constexpr int kStreamSearch = 16;

constexpr Clock::TimePoint kNotSeen = Clock::TimePoint::max();

// Steele et al., "Fast splittable pseudorandom number generators", OOPSLA 2014: the finalizer.
constexpr std::uint64_t mix(std::uint64_t value) noexcept {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
  return value ^ (value >> 31);
}

std::uint64_t weight(const TensorUse& use, TensorOrder order) noexcept {
  return order == TensorOrder::uses ? use.uses : use.bytes.count();
}

TensorUse use_of(const TensorEntry& entry) noexcept {
  return {entry.key->shape,
          entry.key->dtype,
          entry.uses,
          entry.hits,
          entry.live,
          entry.idle,
          entry.size * (entry.live + entry.idle)};
}

}  // namespace

// Horner's rule, one multiplication an extent; the finalizer spreads the sum over all bits.
std::size_t TensorKeyHash::operator()(const TensorKey& key) const {
  constexpr std::uint64_t kBase = 0x9e3779b97f4a7c15ULL;
  std::uint64_t sum = static_cast<std::uint64_t>(key.dtype) * 16 + key.shape.rank();
  for (const std::uint64_t extent : key.shape) sum = sum * kBase + extent;
  return mix(sum);
}

void TensorRecord::give_back() noexcept { home.take_back(*this); }
std::shared_ptr<const void> TensorRecord::keeper() const noexcept { return home.keeper(); }

TensorRecord* TensorStore::reuse(const TensorKey& key, Stream stream) noexcept {
  const auto found = entries_.find(key);
  if (found == entries_.end() || found->second.idle == 0) return nullptr;
  TensorEntry& entry = found->second;
  TensorRecord* record = entry.idle_tensors.front();
  TensorRecord* other = record;
  for (int i = 0; i < kStreamSearch && other != nullptr;
       ++i, other = entry.idle_tensors.after(*other)) {
    if (other->stream == stream) {
      record = other;
      break;
    }
  }
  entry.idle_tensors.remove(*record);
  idle_.remove(*record);
  --entry.idle;
  ++entry.live;
  --stats.idle_tensors;
  ++stats.live_tensors;
  stats.idle -= record->size;
  stats.live += record->size;
  return record;
}

TensorEntry& TensorStore::open(const TensorKey& key, Bytes size) {
  const auto [place, is_new] = entries_.try_emplace(key);
  TensorEntry& entry = place->second;
  if (is_new) {
    entry.key = &place->first;
    entry.size = size;
    ++stats.keys;
    while (entries_.size() > options_.max_keys && !empty_.empty()) forget(*empty_.back());
  } else if (!entry.has_tensors()) {
    empty_.remove(entry);
  }
  ++entry.pending;
  return entry;
}

void TensorStore::close(TensorEntry& entry) noexcept {
  --entry.pending;
  emptied(entry);
}

// A key that nobody ever got a tensor of is not worth a place.
void TensorStore::emptied(TensorEntry& entry) noexcept {
  if (entry.has_tensors()) return;
  empty_.push_front(entry);
  if (entry.uses == 0) forget(entry);
}

void TensorStore::add(TensorEntry& entry, TensorRecord& record) noexcept {
  record.entry = &entry;
  --entry.pending;
  ++entry.live;
  ++stats.live_tensors;
  stats.live += record.size;
  stats.peak_held = std::max(stats.peak_held, stats.live + stats.idle);
}

void TensorStore::count_use(TensorEntry& entry, bool hit) noexcept {
  ++entry.uses;
  ++entry.recent_uses;
  entry.hits += hit ? 1 : 0;
  ++stats.acquires;
  ++(hit ? stats.hits : stats.misses);
  stats.peak_live = std::max(stats.peak_live, stats.live);
}

void TensorStore::put_idle(TensorRecord& record, LeavingTensors& leaving) noexcept {
  TensorEntry& entry = *record.entry;
  record.idle_since = kNotSeen;
  entry.idle_tensors.push_front(record);
  idle_.push_front(record);
  --entry.live;
  ++entry.idle;
  --stats.live_tensors;
  ++stats.idle_tensors;
  stats.live -= record.size;
  stats.idle += record.size;
  // The latest stays: it is the one that caches still hold.
  if (entry.idle > options_.max_idle_per_key) remove_one(*entry.idle_tensors.back(), leaving);
  while (stats.idle > options_.max_idle) remove_one(*idle_.back(), leaving);
  keep_few_keys(leaving);
}

// Shapes that change with each request would pile up otherwise, one idle tensor each.
void TensorStore::keep_few_keys(LeavingTensors& leaving) noexcept {
  while (entries_.size() > options_.max_keys) {
    if (!empty_.empty()) {
      forget(*empty_.back());
    } else if (!idle_.empty()) {
      remove_one(*idle_.back(), leaving);
    } else {
      return;
    }
  }
}

void TensorStore::remove_live(TensorRecord& record, LeavingTensors& leaving) noexcept {
  TensorEntry& entry = *record.entry;
  --entry.live;
  --stats.live_tensors;
  stats.live -= record.size;
  ++stats.given_below;
  leaving.add(record);
  emptied(entry);
}

void TensorStore::remove_one(TensorRecord& record, LeavingTensors& leaving) noexcept {
  TensorEntry& entry = *record.entry;
  entry.idle_tensors.remove(record);
  idle_.remove(record);
  --entry.idle;
  --stats.idle_tensors;
  stats.idle -= record.size;
  ++stats.given_below;
  leaving.add(record);
  if (!entry.has_tensors()) empty_.push_front(entry);
}

void TensorStore::remove_idle(Bytes goal, LeavingTensors& leaving) noexcept {
  while (!idle_.empty() && leaving.bytes() < goal) remove_one(*idle_.back(), leaving);
}

// Those that were not seen yet are at the front: they came last.
void TensorStore::see_idle(Clock::TimePoint now) noexcept {
  TensorRecord* record = idle_.front();
  for (; record != nullptr && record->idle_since == kNotSeen; record = idle_.after(*record)) {
    record->idle_since = now;
  }
}

void TensorStore::remove_idle_since(Clock::TimePoint latest, LeavingTensors& leaving) noexcept {
  while (!idle_.empty() && idle_.back()->idle_since < latest) remove_one(*idle_.back(), leaving);
}

void TensorStore::remove_idle_of_rare(std::uint64_t min_uses, LeavingTensors& leaving) noexcept {
  for (auto place = entries_.begin(); place != entries_.end();) {
    TensorEntry& entry = (place++)->second;
    if (std::exchange(entry.recent_uses, 0) >= min_uses) continue;
    while (entry.idle != 0) remove_one(*entry.idle_tensors.back(), leaving);
    if (!entry.has_tensors()) forget(entry);
  }
}

void TensorStore::forget(TensorEntry& entry) noexcept {
  empty_.remove(entry);
  forgotten_uses_ += entry.uses;
  --stats.keys;
  entries_.erase(entries_.find(*entry.key));
}

// Insertion into a sorted handful: the map may hold thousands.
void TensorStore::find_top(std::vector<TensorUse>& best, TensorOrder order) const noexcept {
  std::size_t found = 0;
  for (const auto& [key, entry] : entries_) {
    const TensorUse use = use_of(entry);
    const auto end = best.begin() + static_cast<std::ptrdiff_t>(found);
    const auto place = std::find_if(best.begin(), end, [&](const TensorUse& other) {
      return weight(other, order) < weight(use, order);
    });
    if (place == best.end()) continue;
    if (found < best.size()) ++found;
    std::move_backward(place, best.begin() + static_cast<std::ptrdiff_t>(found) - 1,
                       best.begin() + static_cast<std::ptrdiff_t>(found));
    *place = use;
  }
  best.resize(found);
}

void TensorStore::validate_entry(const TensorEntry& entry) const {
  std::uint64_t idle = 0;
  const TensorRecord* record = entry.idle_tensors.front();
  for (; record != nullptr; record = entry.idle_tensors.after(*record)) {
    ++idle;
    FOREBAY_CHECK(record->entry == &entry && record->shape == entry.key->shape &&
                      record->dtype == entry.key->dtype && record->size == entry.size,
                  "an idle tensor under another's key");
  }
  FOREBAY_CHECK(idle == entry.idle && idle <= options_.max_idle_per_key,
                "a key's idle tensors do not add up");
  FOREBAY_CHECK(entry.hits <= entry.uses && entry.recent_uses <= entry.uses,
                "a key's uses do not add up");
}

void TensorStore::validate() const {
  TensorPoolStats sum;
  std::uint64_t uses = forgotten_uses_;
  std::uint64_t empty = 0;
  for (const auto& [key, entry] : entries_) {
    validate_entry(entry);
    sum.live += entry.size * entry.live;
    sum.idle += entry.size * entry.idle;
    sum.live_tensors += entry.live;
    sum.idle_tensors += entry.idle;
    uses += entry.uses;
    empty += entry.has_tensors() ? 0 : 1;
  }
  std::uint64_t listed = 0;
  for (const TensorRecord* record = idle_.front(); record != nullptr; ++listed) {
    const TensorRecord* const older = idle_.after(*record);
    FOREBAY_CHECK(older == nullptr || older->idle_since <= record->idle_since, "idle out of order");
    record = older;
  }
  for (const TensorEntry* entry = empty_.front(); entry != nullptr; entry = empty_.after(*entry)) {
    FOREBAY_CHECK(!entry->has_tensors(), "a key with tensors among the empty ones");
    --empty;
  }
  FOREBAY_CHECK(empty == 0, "an empty key is not among the empty ones");
  FOREBAY_CHECK(stats.live == sum.live && stats.live_tensors == sum.live_tensors,
                "live tensors do not add up");
  FOREBAY_CHECK(stats.idle == sum.idle && stats.idle_tensors == sum.idle_tensors &&
                    listed == sum.idle_tensors && stats.idle <= options_.max_idle,
                "idle tensors do not add up");
  FOREBAY_CHECK(stats.hits + stats.misses == stats.acquires && uses == stats.acquires,
                "acquires do not add up");
  FOREBAY_CHECK(stats.misses + stats.preallocated - stats.given_below ==
                    stats.live_tensors + stats.idle_tensors,
                "tensors taken and given do not add up");
  FOREBAY_CHECK(stats.keys == entries_.size(), "keys do not add up");
  FOREBAY_CHECK(stats.peak_live <= stats.peak_held && stats.peak_held >= stats.live + stats.idle,
                "a peak is below what it is the peak of");
}

}  // namespace forebay::detail
