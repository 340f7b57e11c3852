// LIRS with the paper's stack and queue as they are drawn there.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cache/ghosts.hpp"
#include "naive_cache.hpp"

namespace forebay::testing {

class NaiveLirs final : public NaiveCache {
 public:
  using NaiveCache::NaiveCache;

 protected:
  void hit(std::size_t at) override {
    const std::uint64_t key = items_[at].key;
    const bool stacked = in_stack(key);
    push(key);
    if (items_[at].visited) {
      prune();
    } else if (stacked) {
      std::erase(queue_, key);
      items_[at].visited = true;
    } else {
      std::erase(queue_, key);
      queue_.push_back(key);
    }
    settle();
  }
  std::size_t victim() override {
    if (queue_.empty()) demote();
    return item(queue_.front());
  }
  void insert(Item newcomer) override {
    const bool returns =
        std::erase_if(names_, [&](const Name& name) { return name.key == newcomer.key; }) != 0;
    newcomer.visited = returns || used() + newcomer.bytes <= lir_part();
    push(newcomer.key);
    NaiveCache::insert(newcomer);
    if (newcomer.visited) {
      settle();
    } else {
      queue_.push_back(newcomer.key);
    }
  }
  void take_out(std::size_t at) override {
    const Item gone = items_[at];
    std::erase(queue_, gone.key);
    NaiveCache::remove(at);
    const std::uint64_t bytes = detail::Ghosts::as_kept(gone.bytes);
    if (in_stack(gone.key) && bytes <= 2 * capacity_) {
      names_.push_back({gone.key, bytes});
    } else {
      std::erase(stack_, gone.key);
    }
    bound();
  }
  void remove(std::size_t at) override {
    const std::uint64_t key = items_[at].key;
    std::erase(queue_, key);
    std::erase(stack_, key);
    NaiveCache::remove(at);
    prune();
  }
  void resized() override {
    settle();
    bound();
  }

 private:
  struct Name {
    std::uint64_t key;
    std::uint64_t bytes;
  };

  // Of items: `visited` says LIR.
  std::uint64_t lir_part() const { return capacity_ - std::max<std::uint64_t>(1, capacity_ / 100); }
  std::uint64_t lir_bytes() const {
    std::uint64_t bytes = 0;
    for (const Item& item : items_) bytes += item.visited ? item.bytes : 0;
    return bytes;
  }
  std::size_t lir_count() const {
    return static_cast<std::size_t>(
        std::count_if(items_.begin(), items_.end(), [](const Item& item) { return item.visited; }));
  }
  std::size_t item(std::uint64_t key) const {
    const auto found = std::find_if(items_.begin(), items_.end(),
                                    [key](const Item& item) { return item.key == key; });
    return static_cast<std::size_t>(found - items_.begin());
  }
  bool is_lir(std::uint64_t key) const {
    const std::size_t at = item(key);
    return at != items_.size() && items_[at].visited;
  }
  bool in_stack(std::uint64_t key) const {
    return std::find(stack_.begin(), stack_.end(), key) != stack_.end();
  }

  void push(std::uint64_t key) {
    std::erase(stack_, key);
    stack_.push_back(key);
  }
  void demote() {
    const auto bottom = std::find_if(stack_.begin(), stack_.end(),
                                     [this](std::uint64_t key) { return is_lir(key); });
    const std::uint64_t key = *bottom;
    items_[item(key)].visited = false;
    stack_.erase(bottom);
    queue_.push_back(key);
    prune();
  }
  void settle() {
    while (lir_bytes() > lir_part() && lir_count() > 1) demote();
    if (lir_count() > 0) prune();
  }
  void prune() {
    while (!stack_.empty() && !is_lir(stack_.front())) forget(stack_.front());
  }
  // Names of those who went, no more than two capacities of them, and little more than two for each
  // entry that there has been.
  void bound() {
    const auto bytes = [this] {
      std::uint64_t sum = 0;
      for (const Name& name : names_) sum += name.bytes;
      return sum;
    };
    while (bytes() > 2 * capacity_ || names_.size() > 2 * peak() * 9 / 8) {
      forget(names_.front().key);
    }
    prune();
  }
  void forget(std::uint64_t key) {
    std::erase(stack_, key);
    std::erase_if(names_, [key](const Name& name) { return name.key == key; });
  }

  std::vector<std::uint64_t> stack_;  // bottom first
  std::vector<std::uint64_t> queue_;  // HIR entries, the first to go first
  std::vector<Name> names_;           // in the order in which they went
};

}  // namespace forebay::testing
