// Release on drop: blocks end in random order on two threads, and their bytes are back in the
// budget.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <random>
#include <stdexcept>
#include <thread>
#include <vector>

#include "forebay/budget.hpp"
#include "forebay/pool.hpp"
#include "forebay/tracker.hpp"
#include "pool/measure.hpp"
#include "tracking/work.hpp"

namespace forebay::bench {
namespace {

constexpr std::uint64_t kBatches = 10;
constexpr double kPatience = 5e9;  // ns that a batch's bytes may be away

// Sizes are log-uniform.
struct Kind {
  double least;
  double most;
  bool pooled;
};

Kind kind_of(const std::string& variant) {
  if (variant == "small") return {16, 4096, true};
  if (variant == "large") return {64 << 10, 1 << 20, true};
  if (variant == "direct") return {16, 1 << 20, false};
  throw std::runtime_error{"no variant " + variant};
}

Bytes tracked_bytes() {
  std::uint64_t sum = 0;
  for (const TagStats& tag : Tracker::tags()) sum += tag.live.count();
  return Bytes{sum};
}

class Dropping {
 public:
  explicit Dropping(const Kind& kind)
      : kind_(kind), budget_("drop", {.limit = Bytes{1ULL << 43}}), metered_(meter()) {
    PoolOptions options;
    options.max_retained = Bytes{};
    if (kind.pooled) pool_ = Pool::create(metered_, options);
  }

  void batch(std::uint64_t count) {
    std::vector<Buffer> blocks;
    blocks.reserve(count);
    while (blocks.size() < count) blocks.push_back(block());
    std::shuffle(blocks.begin(), blocks.end(), random_);
    held_ = std::max(held_, budget_.stats().used);
    drop_all(blocks);
    if (pool_ != nullptr) {
      if (!pool_->stats().live.is_zero() || pool_->stats().live_blocks != 0) ++wrong_;
      pool_->validate();
    }
    if (!tracked_bytes().is_zero()) ++wrong_;
    budget_.validate();
    dropped_ += count;
  }

  Figures figures() const {
    return {{"most_us", *std::max_element(waits_.begin(), waits_.end()) / 1e3},
            {"mean_us", mean_wait() / 1e3},
            {"left_at_once", left_},
            {"held_bytes", static_cast<double>(held_.count())},
            {"missing", missing_},
            {"wrong", wrong_},
            {"drops", static_cast<double>(dropped_)}};
  }

 private:
  std::shared_ptr<MemoryResource> meter() { return budget_.meter(Device::host()); }

  Buffer block() {
    std::uniform_real_distribution<double> exponent{std::log(kind_.least), std::log(kind_.most)};
    const Bytes size{static_cast<std::uint64_t>(std::exp(exponent(random_)))};
    return pool_ != nullptr ? pool_->acquire(size).value()
                            : Buffer::allocate(metered_, size).value();
  }

  // Half of them on each of two threads; whoever is last looks at the budget.
  void drop_all(std::vector<Buffer>& blocks) {
    std::atomic<int> running{2};
    const auto drop = [&](std::size_t from, std::size_t to) {
      for (std::size_t i = from; i != to; ++i) blocks[i].reset();
      if (running.fetch_sub(1) == 1) await_zero();
    };
    std::thread other{drop, 0, blocks.size() / 2};
    drop(blocks.size() / 2, blocks.size());
    other.join();
  }

  void await_zero() {
    const double start = wall_ns();
    double now = start;
    Bytes used = budget_.stats().used;
    left_ = std::max(left_, static_cast<double>(used.count()));
    while (!used.is_zero() && now - start < kPatience) {
      std::this_thread::yield();
      used = budget_.stats().used;
      now = wall_ns();
    }
    if (!used.is_zero()) ++missing_;
    waits_.push_back(wall_ns() - start);
  }

  double mean_wait() const {
    double sum = 0;
    for (const double wait : waits_) sum += wait;
    return sum / static_cast<double>(waits_.size());
  }

  Kind kind_;
  std::mt19937_64 random_{7};
  Budget budget_;
  std::shared_ptr<MemoryResource> metered_;
  std::shared_ptr<Pool> pool_;
  std::vector<double> waits_;  // ns
  Bytes held_;
  double left_ = 0;     // bytes still charged when the last drop returned
  double missing_ = 0;  // batches whose bytes never came back
  double wrong_ = 0;    // counts that were not zero
  std::uint64_t dropped_ = 0;
};

}  // namespace

Figures drop_work(const WorkOptions& options) {
  Dropping dropping{kind_of(options.variant)};
  for (std::uint64_t i = 0; i != kBatches; ++i) dropping.batch(options.count / kBatches);
  return dropping.figures();
}

}  // namespace forebay::bench
