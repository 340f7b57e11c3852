// What threads see of a cache could have been seen in some order of one operation after another
// (Herlihy & Wing 1990): small histories are recorded, and all orders are tried (Wing & Gong 1993).
// FOREBAY_STRESS=n makes it n times as long.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "forebay/cache.hpp"

namespace forebay {
namespace {

enum class Kind { find, put, put_if_absent, erase };

struct Operation {
  Kind kind = Kind::find;
  int key = 0;
  int value = 0;   // that it puts
  int result = 0;  // found, 0: nothing; erase and put_if_absent: whether it did
  int begin = 0;
  int end = 0;
};

constexpr int kKeys = 2;
using Contents = std::array<int, kKeys>;

// Does an operation to `contents`; whether its result is what one would see.
bool apply(const Operation& operation, Contents& contents) {
  int& there = contents[static_cast<std::size_t>(operation.key)];
  switch (operation.kind) {
    case Kind::find:
      return operation.result == there;
    case Kind::put:
      there = operation.value;
      return true;
    case Kind::put_if_absent:
      if (operation.result != (there == 0 ? 1 : 0)) return false;
      if (there == 0) there = operation.value;
      return true;
    case Kind::erase:
      if (operation.result != (there != 0 ? 1 : 0)) return false;
      there = 0;
      return true;
  }
  return false;
}

class Search {
 public:
  explicit Search(const std::vector<Operation>& history) : history_(history) {}
  bool run() { return extend(0, {}); }

 private:
  // Next may come whatever began before anything that is left has ended.
  bool extend(unsigned done, Contents contents) {
    if (done + 1 == 1U << history_.size()) return true;
    if (!seen_.insert({done, contents}).second) return false;
    int first_end = 1 << 30;
    for (std::size_t i = 0; i != history_.size(); ++i) {
      if ((done >> i & 1) == 0) first_end = std::min(first_end, history_[i].end);
    }
    for (std::size_t i = 0; i != history_.size(); ++i) {
      if ((done >> i & 1) != 0 || history_[i].begin > first_end) continue;
      Contents after = contents;
      if (apply(history_[i], after) && extend(done | 1U << i, after)) return true;
    }
    return false;
  }
  const std::vector<Operation>& history_;
  std::set<std::pair<unsigned, Contents>> seen_;
};

TEST(CacheLinearizable, TheSearchRefusesWhatCannotBe) {
  // A value is found after one that replaced it was found.
  EXPECT_FALSE(Search({{Kind::put, 0, 1, 0, 0, 1},
                       {Kind::put, 0, 2, 0, 2, 7},
                       {Kind::find, 0, 0, 2, 3, 4},
                       {Kind::find, 0, 0, 1, 5, 6}})
                   .run());
  EXPECT_TRUE(Search({{Kind::put, 0, 1, 0, 0, 1},
                      {Kind::put, 0, 2, 0, 2, 7},
                      {Kind::find, 0, 0, 1, 3, 4},
                      {Kind::find, 0, 0, 2, 5, 6}})
                  .run());
  EXPECT_FALSE(Search({{Kind::put, 0, 1, 0, 0, 1}, {Kind::find, 0, 0, 0, 2, 3}}).run());
}

class Recorder {
 public:
  explicit Recorder(std::uint64_t seed) : seed_(seed) {
    CacheOptions options;
    options.shards = 1;
    options.background_expiry = false;
    cache_ = std::make_unique<Cache<int, int>>(options);
  }

  std::vector<Operation> run() {
    std::vector<std::thread> threads;
    threads.reserve(kThreads);
    for (int t = 0; t != kThreads; ++t) threads.emplace_back([this, t] { work(t); });
    for (std::thread& thread : threads) thread.join();
    std::vector<Operation> history;
    for (const auto& part : parts_) history.insert(history.end(), part.begin(), part.end());
    return history;
  }

 private:
  static constexpr int kThreads = 3;
  static constexpr int kOperations = 5;

  void work(int thread) {
    std::mt19937_64 random{seed_ * 31 + static_cast<std::uint64_t>(thread)};
    auto& part = parts_[static_cast<std::size_t>(thread)];
    part.reserve(kOperations);
    Cache<int, int>::Handle held;  // so that values are replaced while they are pinned
    ++ready_;
    while (ready_ != kThreads) {
    }
    for (int i = 0; i != kOperations; ++i) {
      Operation made;
      made.kind = static_cast<Kind>(random() % 4);
      made.key = static_cast<int>(random() % kKeys);
      made.value = thread * kOperations + i + 1;
      made.begin = ++time_;
      perform(made, held, random() % 2 == 0);
      made.end = ++time_;
      part.push_back(made);
    }
  }
  void perform(Operation& made, Cache<int, int>::Handle& held, bool keeps) {
    switch (made.kind) {
      case Kind::find: {
        auto found = cache_->find(made.key);
        made.result = found ? *found : 0;
        if (keeps) held = std::move(found);
        break;
      }
      case Kind::put:
        static_cast<void>(cache_->put(made.key, made.value));
        break;
      case Kind::put_if_absent:
        made.result =
            cache_->put_if_absent(made.key, made.value).value() == PutOutcome::inserted ? 1 : 0;
        break;
      case Kind::erase:
        made.result = cache_->erase(made.key) ? 1 : 0;
        break;
    }
  }

  const std::uint64_t seed_;
  std::unique_ptr<Cache<int, int>> cache_;
  std::array<std::vector<Operation>, kThreads> parts_;
  std::atomic<int> ready_{0};
  std::atomic<int> time_{0};
};

TEST(CacheLinearizable, ThreeThreadsSeeOneOrder) {
  const char* factor = std::getenv("FOREBAY_STRESS");
  const int histories = 400 * (factor == nullptr ? 1 : std::max(1, std::atoi(factor)));
  for (int i = 0; i != histories; ++i) {
    const auto history = Recorder{static_cast<std::uint64_t>(i)}.run();
    ASSERT_EQ(history.size(), 15U);
    ASSERT_TRUE(Search{history}.run()) << "history " << i;
  }
}

}  // namespace
}  // namespace forebay
