// Naive policies that remember who went.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cache/ghosts.hpp"
#include "naive_cache.hpp"

namespace forebay::testing {

class NaiveGhosts {
 public:
  void add(std::uint64_t key, std::uint64_t exact_bytes, std::uint64_t most, std::size_t count) {
    const std::uint64_t bytes = detail::Ghosts::as_kept(exact_bytes);
    if (bytes > most || count == 0) return;
    names_.push_back({key, bytes});
    while (names_.size() > count) forget_oldest();
    trim(most);
  }
  bool forget(std::uint64_t key) {
    return std::erase_if(names_, [key](const Name& name) { return name.key == key; }) > 0;
  }
  void forget_oldest() { names_.erase(names_.begin()); }
  void trim(std::uint64_t most) {
    while (bytes() > most) forget_oldest();
  }
  std::size_t count() const { return names_.size(); }
  std::uint64_t bytes() const {
    std::uint64_t bytes = 0;
    for (const Name& name : names_) bytes += name.bytes;
    return bytes;
  }

 private:
  struct Name {
    std::uint64_t key;
    std::uint64_t bytes;
  };
  std::vector<Name> names_;  // oldest first
};

// Two lists in one vector: `visited` tells who is in the second.
class NaiveTwoLists : public NaiveCache {
 public:
  using NaiveCache::NaiveCache;

 protected:
  std::uint64_t bytes_of(bool second) const {
    std::uint64_t bytes = 0;
    for (const Item& item : items_) bytes += item.visited == second ? item.bytes : 0;
    return bytes;
  }
  // items_.size() if there is none.
  std::size_t oldest_of(bool second) const {
    const auto found = std::find_if(items_.begin(), items_.end(),
                                    [second](const Item& item) { return item.visited == second; });
    return static_cast<std::size_t>(found - items_.begin());
  }
  bool none_of(bool second) const { return oldest_of(second) == items_.size(); }
};

class NaiveS3Fifo final : public NaiveTwoLists {
 public:
  using NaiveTwoLists::NaiveTwoLists;

 protected:
  void missed(const Item& item) override { returns_ = ghosts_.forget(item.key); }
  void resized() override { ghosts_.trim(main_part()); }
  void hit(std::size_t at) override {
    items_[at].frequency = std::min<std::uint64_t>(3, items_[at].frequency + 1);
  }
  std::size_t victim() override {
    for (;;) {
      if (none_of(false) || (!none_of(true) && bytes_of(true) > main_part())) {
        const std::size_t at = oldest_of(true);
        if (items_[at].frequency == 0) return at;
        --items_[at].frequency;
        to_end(at);
      } else {
        const std::size_t at = oldest_of(false);
        if (items_[at].frequency < 2) return at;
        items_[at].frequency = 0;
        items_[at].visited = true;
        to_end(at);
      }
    }
  }
  void insert(Item item) override {
    item.visited = returns_;
    NaiveTwoLists::insert(item);
  }
  void take_out(std::size_t at) override {
    const Item& item = items_[at];
    if (!item.visited) ghosts_.add(item.key, item.bytes, main_part(), peak() * 9 / 8);
    remove(at);
  }

 private:
  std::uint64_t main_part() const { return capacity_ - std::max<std::uint64_t>(1, capacity_ / 10); }
  NaiveGhosts ghosts_;
  bool returns_ = false;
};

class NaiveTwoQ final : public NaiveTwoLists {
 public:
  using NaiveTwoLists::NaiveTwoLists;

 protected:
  void missed(const Item& item) override { returns_ = ghosts_.forget(item.key); }
  void resized() override { ghosts_.trim(out_part()); }
  void hit(std::size_t at) override {
    if (items_[at].visited) to_end(at);
  }
  std::size_t victim() override {
    const bool over = bytes_of(false) > std::max<std::uint64_t>(1, capacity_ / 4);
    return oldest_of(!(none_of(true) || (!none_of(false) && over)));
  }
  void insert(Item item) override {
    item.visited = returns_;
    NaiveTwoLists::insert(item);
  }
  void take_out(std::size_t at) override {
    const Item& item = items_[at];
    if (!item.visited) ghosts_.add(item.key, item.bytes, out_part(), peak() * 9 / 16);
    remove(at);
  }

 private:
  std::uint64_t out_part() const { return std::max<std::uint64_t>(1, capacity_ / 2); }
  NaiveGhosts ghosts_;
  bool returns_ = false;
};

class NaiveArc final : public NaiveTwoLists {
 public:
  using NaiveTwoLists::NaiveTwoLists;

 protected:
  void missed(const Item& item) override {
    const auto once = static_cast<double>(once_.bytes());
    const auto often = static_cast<double>(often_.bytes());
    const auto bytes = static_cast<double>(item.bytes);
    from_once_ = once_.forget(item.key);
    from_often_ = !from_once_ && often_.forget(item.key);
    if (from_once_) {
      const auto step = static_cast<std::uint64_t>(bytes * std::max(1.0, often / once));
      target_ = std::min(capacity_, target_ + step);
    } else if (from_often_) {
      const auto step = static_cast<std::uint64_t>(bytes * std::max(1.0, once / often));
      target_ -= std::min(target_, step);
    }
  }
  void resized() override {
    target_ = std::min(target_, capacity_);
    once_.trim(capacity_);
    often_.trim(2 * capacity_);
    bound();
  }
  void weigh(Item& /*item*/, float /*cost*/) override { weighed_ = true; }
  void hit(std::size_t at) override {
    items_[at].visited = true;
    to_end(at);
    if (weighed_) bound();
    weighed_ = false;
  }
  std::size_t victim() override {
    const std::uint64_t once = bytes_of(false);
    const bool over = from_often_ ? once >= target_ : once > target_;
    return oldest_of(!(none_of(true) || (!none_of(false) && over)));
  }
  void insert(Item item) override {
    item.visited = from_once_ || from_often_;
    from_once_ = from_often_ = weighed_ = false;
    NaiveTwoLists::insert(item);
    bound();
  }
  void take_out(std::size_t at) override {
    const Item item = items_[at];
    if (item.visited) {
      often_.add(item.key, item.bytes, 2 * capacity_, kAny);
    } else {
      once_.add(item.key, item.bytes, capacity_, kAny);
    }
    remove(at);
  }

 private:
  void bound() {
    once_.trim(capacity_ - std::min(capacity_, bytes_of(false)));
    const std::uint64_t rest = used() + once_.bytes();
    often_.trim(2 * capacity_ - std::min(2 * capacity_, rest));
    while (once_.count() + often_.count() > peak()) {
      (often_.count() > 0 ? often_ : once_).forget_oldest();
    }
  }
  static constexpr std::size_t kAny = ~std::size_t{0};
  NaiveGhosts once_;
  NaiveGhosts often_;
  std::uint64_t target_ = 0;
  bool from_once_ = false;
  bool from_often_ = false;
  bool weighed_ = false;
};

}  // namespace forebay::testing
