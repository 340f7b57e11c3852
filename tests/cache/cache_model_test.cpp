// Random operations against a model that is naive: an ordered list, scanned each time. One shard
// and lru, so that the model says exactly who goes. After every step all figures and all contents
// must be the same, and the invariants must hold.

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "cache/wheel.hpp"
#include "forebay/cache.hpp"

namespace forebay {
namespace {

using Key = EpochKey<int>;
using Model = Cache<Key, std::uint64_t>;
constexpr std::uint64_t kBase = 32 + 64;  // of an entry: its block, and the bookkeeping
constexpr std::uint64_t kLine = 40 * kBase;
constexpr int kKeys = 60;

Key key_of(int n) { return {static_cast<std::uint64_t>(n % 5), n}; }

struct Entry {
  int key = 0;
  std::uint64_t value = 0;  // and what it weighs
  std::uint64_t deadline = 0;
  int pins = 0;
  bool live = true;
  bool aside = false;
  std::uint64_t charge() const { return kBase + value / 16 * 16; }
};
using EntryPointer = std::shared_ptr<Entry>;

class Naive {
 public:
  std::vector<EntryPointer> order;  // least recent first; without those set aside
  std::vector<EntryPointer> all;    // that are charged
  std::uint64_t line = kLine;
  std::uint64_t now = 0;
  std::uint64_t evicted = 0;
  std::uint64_t expired = 0;
  std::uint64_t replaced = 0;

  std::uint64_t used() const {
    std::uint64_t sum = 0;
    for (const auto& entry : all) sum += entry->charge();
    return sum;
  }
  EntryPointer live(int key) const {
    for (const auto& entry : all) {
      if (entry->key == key && entry->live) return entry;
    }
    return nullptr;
  }
  bool stale(const Entry& entry) const { return entry.deadline != 0 && entry.deadline <= now; }
  std::size_t count() const {
    return static_cast<std::size_t>(
        std::count_if(all.begin(), all.end(), [](const auto& entry) { return entry->live; }));
  }

  void leave(const EntryPointer& entry) {
    std::erase(order, entry);
    entry->live = false;
    entry->aside = false;
    if (entry->pins == 0) std::erase(all, entry);
  }
  void touch(const EntryPointer& entry) {
    if (entry->aside) return;
    std::erase(order, entry);
    order.push_back(entry);
  }
  EntryPointer find(int key) {
    const EntryPointer entry = live(key);
    if (entry == nullptr || stale(*entry)) return nullptr;
    touch(entry);
    return entry;
  }
  bool evict_one() {
    while (!order.empty()) {
      const EntryPointer entry = order.front();
      if (entry->pins == 0) {
        leave(entry);
        ++evicted;
        return true;
      }
      entry->aside = true;
      order.erase(order.begin());
    }
    return false;
  }
  void unpin(const EntryPointer& entry) {
    if (--entry->pins != 0) return;
    if (!entry->live) {
      std::erase(all, entry);
    } else if (entry->aside) {
      entry->aside = false;
      order.push_back(entry);
    }
  }
  // Nothing: refused.
  std::optional<PutOutcome> put(const Entry& made, bool only_if_absent) {
    if (made.charge() > line) return std::nullopt;
    const EntryPointer before = live(made.key);
    if (before != nullptr && stale(*before)) {
      leave(before);
      ++expired;
    } else if (before != nullptr && only_if_absent) {
      return PutOutcome::present;
    }
    while (used() + made.charge() > line) {
      if (!evict_one()) return std::nullopt;
    }
    const auto entry = std::make_shared<Entry>(made);
    const EntryPointer old = live(made.key);
    if (old != nullptr) {
      leave(old);
      ++replaced;
    }
    all.push_back(entry);
    order.push_back(entry);
    return old != nullptr ? PutOutcome::replaced : PutOutcome::inserted;
  }
  std::uint64_t cleanup() {
    std::uint64_t count = 0;
    for (const EntryPointer& entry : std::vector{all}) {
      if (!entry->live || !stale(*entry)) continue;
      leave(entry);
      ++count;
    }
    expired += count;
    return count;
  }
};

class Pair {
 public:
  Pair() : cache_(options(), {.weigher = [](const Key&, std::uint64_t v) { return Bytes{v}; }}) {}

  void step() {
    const int key = *rc::gen::inRange(0, kKeys);
    switch (*rc::gen::inRange(0, 16)) {
      case 0:
        return erase(key);
      case 1:
        return hold(key);
      case 2:
        return release();
      case 3:
        return advance();
      case 4:
        RC_ASSERT(cache_.cleanup_expired() == naive_.cleanup());
        return;
      case 5:
        return rarely();
      case 6:
      case 7:
      case 8:
        return put(key, true);
      case 9:
      case 10:
      case 11:
        return put(key, false);
      default:
        find(key);
    }
  }

  void check() {
    const CacheStats stats = cache_.stats();
    RC_ASSERT(stats.used.count() == naive_.used());
    RC_ASSERT(stats.entries == naive_.count());
    RC_ASSERT(stats.evicted == naive_.evicted);
    RC_ASSERT(stats.expired == naive_.expired);
    RC_ASSERT(stats.replaced == naive_.replaced);
    RC_ASSERT(stats.entries - stats.set_aside == naive_.order.size());
    for (int key = 0; key != kKeys; ++key) {
      const auto found = cache_.peek(key_of(key));
      const EntryPointer expected = naive_.live(key);
      RC_ASSERT(bool{found} == (expected != nullptr && !naive_.stale(*expected)));
      if (found) RC_ASSERT(*found == expected->value);
    }
    for (const auto& [handle, entry] : held_) RC_ASSERT(*handle == entry->value);
    cache_.validate();
  }
  void end() {
    while (!held_.empty()) release();
    check();
  }

 private:
  CacheOptions options() {
    CacheOptions made;
    made.max_bytes = Bytes{kLine};
    made.policy = "lru";  // as the naive one's
    made.shards = 1;
    made.clock = &clock_;
    return made;
  }
  void find(int key) {
    const auto found = cache_.find(key_of(key));
    const EntryPointer expected = naive_.find(key);
    RC_ASSERT(bool{found} == (expected != nullptr));
    if (found) RC_ASSERT(*found == expected->value);
  }
  void put(int key, bool only_if_absent) {
    Entry made{.key = key, .value = *rc::gen::inRange<std::uint64_t>(0, 20) * 16};
    EntryOptions how;
    const auto ttl = *rc::gen::element(0, 0, 1, 50, 5000);
    if (ttl != 0) {
      how.ttl = std::chrono::milliseconds{ttl};
      made.deadline =
          naive_.now + (static_cast<std::uint64_t>(how.ttl.count()) >> detail::kTickShift) + 1;
    }
    const auto outcome = only_if_absent ? cache_.put_if_absent(key_of(key), made.value, how)
                                        : cache_.put(key_of(key), made.value, how);
    const auto expected = naive_.put(made, only_if_absent);
    RC_ASSERT(outcome.ok() == expected.has_value());
    if (expected) RC_ASSERT(*outcome == *expected);
  }
  void erase(int key) {
    const EntryPointer entry = naive_.live(key);
    const bool there = entry != nullptr && !naive_.stale(*entry);
    if (entry != nullptr) naive_.leave(entry);
    if (entry != nullptr && !there) ++naive_.expired;
    RC_ASSERT(cache_.erase(key_of(key)) == there);
  }
  void hold(int key) {
    auto found = cache_.find(key_of(key));
    const EntryPointer entry = naive_.find(key);
    RC_ASSERT(bool{found} == (entry != nullptr));
    if (!found) return;
    ++entry->pins;
    held_.emplace_back(std::move(found), entry);
  }
  void release() {
    if (held_.empty()) return;
    const auto at = *rc::gen::inRange<std::size_t>(0, held_.size());
    auto [handle, entry] = std::move(held_[at]);
    held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(at));
    handle.reset();
    naive_.unpin(entry);
  }
  void advance() {
    const auto ticks = *rc::gen::inRange<std::uint64_t>(0, 20);
    clock_.advance(Duration{static_cast<Duration::rep>(ticks << detail::kTickShift)});
    naive_.now += ticks;
  }
  void rarely() {
    switch (*rc::gen::inRange(0, 4)) {
      case 0:
        cache_.clear();
        for (const EntryPointer& entry : std::vector{naive_.all}) naive_.leave(entry);
        return;
      case 1:
        naive_.line = *rc::gen::inRange<std::uint64_t>(10, 40) * kBase;
        cache_.set_max_bytes(Bytes{naive_.line});
        if (naive_.used() > naive_.line) naive_.cleanup();
        while (naive_.used() > naive_.line && naive_.evict_one()) {
        }
        return;
      case 2: {
        const auto epoch = *rc::gen::inRange<std::uint64_t>(0, 3);
        std::uint64_t count = 0;
        for (const EntryPointer& entry : std::vector{naive_.all}) {
          if (!entry->live || key_of(entry->key).epoch >= epoch) continue;
          naive_.leave(entry);
          ++count;
        }
        RC_ASSERT(cache_.erase_epochs_before(epoch) == count);
        return;
      }
      default:
        RC_ASSERT(cache_.snapshot().size() ==
                  static_cast<std::size_t>(std::count_if(
                      naive_.all.begin(), naive_.all.end(),
                      [&](const auto& entry) { return entry->live && !naive_.stale(*entry); })));
    }
  }

  ManualClock clock_;
  Naive naive_;
  Model cache_;
  std::vector<std::pair<Model::Handle, EntryPointer>> held_;
};

RC_GTEST_PROP(CacheModel, DoesWhatTheNaiveOneDoes, ()) {
  Pair pair;
  const auto steps = *rc::gen::inRange(1, 400);
  for (int i = 0; i != steps; ++i) {
    pair.step();
    pair.check();
  }
  pair.end();
}

}  // namespace
}  // namespace forebay
