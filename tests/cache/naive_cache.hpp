// The policies written down as their papers describe them, with linear searches: slow, and easy to
// see to be right. The real ones must do the same request by request.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "cache/simulated_cache.hpp"

namespace forebay::testing {

class NaiveCache {
 public:
  struct Item {
    std::uint64_t key = 0;
    std::uint64_t bytes = 0;
    float utility = 0;
    bool visited = false;
    std::uint64_t frequency = 0;
    std::uint64_t last = 0;
    float weight = 0;
    double priority = 0;
  };

  explicit NaiveCache(std::uint64_t capacity) : capacity_(capacity) {}
  virtual ~NaiveCache() = default;
  NaiveCache(const NaiveCache&) = delete;
  NaiveCache& operator=(const NaiveCache&) = delete;

  bool request(const detail::CacheRequest& request) {
    ++now_;
    const std::uint64_t bytes = std::max<std::uint64_t>(request.bytes, 1);
    const auto found = find(request.key);
    if (found != items_.end()) {
      if (found->bytes == bytes) {
        hit(position(found));
      } else if (bytes > capacity_) {
        remove(position(found));  // not a victim: it ages nobody
      } else {
        found->bytes = bytes;
        found->utility = request.utility;
        weigh(*found, request.cost);
        hit(position(found));
        shrink_to(capacity_);
      }
      return true;
    }
    if (bytes > capacity_) return false;
    Item item{.key = request.key, .bytes = bytes, .utility = request.utility};
    missed(item);
    while (used() > capacity_ - bytes) {
      if (!lets_in(item)) return false;
      take_out(victim());
    }
    weigh(item, request.cost);
    peak_ = std::max(peak_, items_.size() + 1);
    insert(item);
    return false;
  }
  void erase(std::uint64_t key) {
    const auto found = find(key);
    if (found != items_.end()) remove(position(found));
  }
  void resize(std::uint64_t capacity) {
    capacity_ = capacity;
    resized();
    shrink_to(capacity);
  }

  std::uint64_t used() const {
    std::uint64_t bytes = 0;
    for (const Item& item : items_) bytes += item.bytes;
    return bytes;
  }
  std::vector<std::uint64_t> keys() const {
    std::vector<std::uint64_t> keys;
    for (const Item& item : items_) keys.push_back(item.key);
    std::sort(keys.begin(), keys.end());
    return keys;
  }
  // Takes all out; their keys in the order in which they go.
  std::vector<std::uint64_t> drain() {
    std::vector<std::uint64_t> keys;
    while (!items_.empty()) {
      const std::size_t at = victim();
      keys.push_back(items_[at].key);
      take_out(at);
    }
    return keys;
  }

 protected:
  virtual void missed(const Item& /*item*/) {}
  virtual void resized() {}
  virtual void hit(std::size_t at) = 0;
  virtual std::size_t victim() = 0;
  virtual void insert(Item item) { items_.push_back(item); }
  virtual void take_out(std::size_t at) { remove(at); }
  virtual void remove(std::size_t at) { items_.erase(items_.begin() + static_cast<long>(at)); }
  virtual void weigh(Item& /*item*/, float /*cost*/) {}
  virtual bool lets_in(const Item& /*item*/) { return true; }
  // The most entries that there have been at a time.
  std::size_t peak() const { return peak_; }

  void to_end(std::size_t at) {
    const auto item = items_.begin() + static_cast<long>(at);
    std::rotate(item, item + 1, items_.end());
  }

  std::uint64_t capacity_;
  std::uint64_t now_ = 0;
  std::vector<Item> items_;  // oldest first

 private:
  std::size_t peak_ = 0;

  std::vector<Item>::iterator find(std::uint64_t key) {
    return std::find_if(items_.begin(), items_.end(),
                        [key](const Item& item) { return item.key == key; });
  }
  std::size_t position(std::vector<Item>::iterator item) {
    return static_cast<std::size_t>(item - items_.begin());
  }
  void shrink_to(std::uint64_t capacity) {
    while (used() > capacity) take_out(victim());
  }
};

class NaiveFifo : public NaiveCache {
 public:
  using NaiveCache::NaiveCache;

 protected:
  void hit(std::size_t /*at*/) override {}
  std::size_t victim() override { return 0; }
};

class NaiveLru final : public NaiveFifo {
 public:
  using NaiveFifo::NaiveFifo;

 protected:
  void hit(std::size_t at) override { to_end(at); }
};

class NaiveClock final : public NaiveFifo {
 public:
  using NaiveFifo::NaiveFifo;

 protected:
  void hit(std::size_t at) override { items_[at].visited = true; }
  std::size_t victim() override {
    while (items_.front().visited) {
      items_.front().visited = false;
      to_end(0);
    }
    return 0;
  }
};

class NaiveSieve final : public NaiveFifo {
 public:
  using NaiveFifo::NaiveFifo;

 protected:
  void hit(std::size_t at) override { items_[at].visited = true; }
  // hand_ == size: past the newest, from where it goes on at the oldest.
  std::size_t victim() override {
    hand_ %= items_.size();
    while (items_[hand_].visited) {
      items_[hand_].visited = false;
      hand_ = (hand_ + 1) % items_.size();
    }
    return hand_;
  }
  void insert(Item item) override {
    if (hand_ >= items_.size()) hand_ = 0;
    NaiveFifo::insert(item);
  }
  void remove(std::size_t at) override {
    if (at < hand_) --hand_;
    NaiveFifo::remove(at);
    if (hand_ >= items_.size()) hand_ = 0;
  }

 private:
  std::size_t hand_ = 0;
};

class NaiveUtility final : public NaiveFifo {
 public:
  using NaiveFifo::NaiveFifo;

 protected:
  void hit(std::size_t at) override { to_end(at); }
  std::size_t victim() override {
    const auto least = std::min_element(
        items_.begin(), items_.end(),
        [](const Item& a, const Item& b) { return a.utility < b.utility; });  // the first of equals
    return static_cast<std::size_t>(least - items_.begin());
  }
  bool lets_in(const Item& item) override { return item.utility >= items_[victim()].utility; }
};

// With a weight of one: lfu.
class NaiveGreedyDual final : public NaiveFifo {
 public:
  enum class Weight { one, one_by_size, cost_by_size };

  NaiveGreedyDual(std::uint64_t capacity, Weight weight) : NaiveFifo(capacity), weight_(weight) {}

 protected:
  void hit(std::size_t at) override {
    rate(items_[at]);
    to_end(at);
  }
  std::size_t victim() override {
    const auto least =
        std::min_element(items_.begin(), items_.end(),
                         [](const Item& a, const Item& b) { return a.priority < b.priority; });
    return static_cast<std::size_t>(least - items_.begin());
  }
  void insert(Item item) override {
    rate(item);
    NaiveFifo::insert(item);
  }
  void take_out(std::size_t at) override {
    age_ = items_[at].priority;
    remove(at);
  }
  // In single precision, as the policy keeps it: a tie must be a tie in both.
  void weigh(Item& item, float cost) override {
    const auto bytes = static_cast<float>(item.bytes);
    if (weight_ == Weight::one) item.weight = 1;
    if (weight_ == Weight::one_by_size) item.weight = 1 / bytes;
    if (weight_ == Weight::cost_by_size) item.weight = cost / bytes;
  }

 private:
  void rate(Item& item) {
    ++item.frequency;
    item.priority = age_ + double{item.weight} * static_cast<double>(item.frequency);
  }

  const Weight weight_;
  double age_ = 0;
};

}  // namespace forebay::testing
