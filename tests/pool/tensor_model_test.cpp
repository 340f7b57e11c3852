// TensorPool against a naive model, over random operations.
#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <map>
#include <random>
#include <vector>

#include "forebay/tensor.hpp"
#include "support/watched_resource.hpp"

namespace forebay {
namespace {

using namespace literals;

constexpr std::size_t kMaxIdle = 3;

// What should be idle: of each key, the addresses, latest first.
class Model {
 public:
  using Key = std::pair<std::uint64_t, DataType>;

  // The address that a hit must have; null if it must be a miss.
  void* take(const Key& key) {
    auto& idle = idle_[key];
    if (idle.empty()) return nullptr;
    void* const data = idle.front();
    idle.pop_front();
    return data;
  }
  void give(const Key& key, void* data) {
    auto& idle = idle_[key];
    idle.push_front(data);
    if (idle.size() > kMaxIdle) idle.pop_back();
  }
  void clear() { idle_.clear(); }
  std::size_t idle() const {
    std::size_t count = 0;
    for (const auto& [key, idle] : idle_) count += idle.size();
    return count;
  }

 private:
  std::map<Key, std::deque<void*>> idle_;
};

struct Live {
  Tensor tensor;
  Model::Key key;
  int pattern;
};

class TensorModelTest : public ::testing::TestWithParam<unsigned> {
 protected:
  void acquire() {
    const Model::Key key{1 + random_() % 5, random_() % 2 == 0 ? DataType::f32 : DataType::i8};
    void* const expected = model_.take(key);
    const std::uint64_t hits = tensors_->stats().hits;
    Tensor tensor = tensors_->acquire({key.first, 3}, key.second).value();
    ASSERT_EQ(tensors_->stats().hits - hits, expected == nullptr ? 0U : 1U);
    if (expected != nullptr) {
      ASSERT_EQ(tensor.data(), expected);
    }
    const int pattern = static_cast<int>(random_() % 256);
    std::memset(tensor.data(), pattern, tensor.size().count());
    live_.push_back({std::move(tensor), key, pattern});
  }

  void release() {
    if (live_.empty()) return;
    std::swap(live_[random_() % live_.size()], live_.back());
    Live& last = live_.back();
    for (const std::byte byte : last.tensor.bytes()) {
      ASSERT_EQ(static_cast<int>(byte), last.pattern);
    }
    model_.give(last.key, last.tensor.data());
    live_.pop_back();
  }

  void give_everything_idle_below() {
    switch (random_() % 3) {
      case 0:
        tensors_->reclaim(Bytes::unlimited());
        break;
      case 1:
        tensors_->cleanup_unused(~std::uint64_t{0});
        break;
      default:
        tensors_->tick();  // sees them
        clock_.advance(std::chrono::seconds{61});
        tensors_->tick();
    }
    model_.clear();
  }

  std::minstd_rand random_{GetParam()};
  ManualClock clock_;
  const std::shared_ptr<testing::WatchedResource> upstream_ =
      std::make_shared<testing::WatchedResource>();
  const std::shared_ptr<Pool> pool_ = Pool::create(upstream_);
  const std::shared_ptr<TensorPool> tensors_ =
      TensorPool::create(pool_, {.max_idle_per_key = kMaxIdle, .max_keys = 64, .clock = &clock_});
  Model model_;
  std::vector<Live> live_;
};

TEST_P(TensorModelTest, HandsOutJustWhatTheModelSays) {
  for (int step = 0; step < 3000; ++step) {
    const auto dice = random_() % 100;
    if (dice < 50) {
      acquire();
    } else if (dice < 99) {
      release();
    } else {
      give_everything_idle_below();
    }
    if (HasFatalFailure()) return;
    tensors_->validate();
    const TensorPoolStats stats = tensors_->stats();
    ASSERT_EQ(stats.idle_tensors, model_.idle());
    ASSERT_EQ(stats.live_tensors, live_.size());
    ASSERT_EQ(pool_->stats().live_blocks, stats.live_tensors + stats.idle_tensors);
  }
  EXPECT_GT(tensors_->stats().hits, 500U);
  EXPECT_GT(tensors_->stats().misses, 50U);
}
INSTANTIATE_TEST_SUITE_P(Seeds, TensorModelTest, ::testing::Range(1U, 6U));

}  // namespace
}  // namespace forebay
