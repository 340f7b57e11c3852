// LeakStage: where the loads of the leak corpus play: real pools and budgets, a clock that is
// turned by hand, and the growth detector that looks on once a minute.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "forebay/budget.hpp"
#include "forebay/buffer.hpp"
#include "forebay/clock.hpp"
#include "forebay/pool.hpp"
#include "forebay/tensor.hpp"
#include "forebay/tracker.hpp"

namespace forebay::testing {

class LeakStage {
 public:
  // Tracking is set to `grade` with the stage's clock; its samples depend on `seed` alone.
  LeakStage(TrackingGrade grade, std::uint64_t seed);
  ~LeakStage();
  LeakStage(const LeakStage&) = delete;
  LeakStage& operator=(const LeakStage&) = delete;

  Pool& pool() { return *pool_; }
  const std::shared_ptr<Pool>& shared_pool() { return pool_; }
  TensorPool& tensors() { return *tensors_; }
  Budget& budget() { return budget_; }
  Clock& clock() { return clock_; }
  int minute() const { return minute_; }
  std::mt19937_64& random() { return random_; }
  double uniform() { return std::uniform_real_distribution<>{}(random_); }
  std::uint64_t poisson(double mean) {
    return mean <= 0 ? 0 : std::poisson_distribution<std::uint64_t>{mean}(random_);
  }

  // A block that goes back after `minutes`.
  void take_for(double minutes, Bytes size);
  // Requests of other parts of the program, a minute of them.
  void serve_others();
  // To the next minute: what is due goes back, pools give back, the detector looks.
  void next_minute();
  std::vector<Growth> growing() const { return detector_.growing(); }

  // What a leak needs so as to be one: state that outlives the call, by the leak's name.
  template <typename State>
  State& state() {
    static_assert(std::is_default_constructible_v<State>);
    if (!state_) state_ = std::make_shared<State>();
    return *std::static_pointer_cast<State>(state_);
  }
  // Done when all is over, last first, so that the next load finds nothing of this one.
  void at_end(std::function<void()> clean) { at_end_.push_back(std::move(clean)); }

 private:
  void observe();

  ManualClock clock_;
  TrackerOptions before_;
  std::mt19937_64 random_;
  Budget budget_;
  std::shared_ptr<Pool> pool_;
  std::shared_ptr<TensorPool> tensors_;
  GrowthDetector detector_;
  int minute_ = 0;
  std::deque<std::vector<Buffer>> due_;  // by minute from now
  std::shared_ptr<void> state_;
  std::vector<std::function<void()>> at_end_;
};

// One way to leak: `leak` loses about 32 KiB a call, in a function of this name.
struct LeakKind {
  std::string name;
  std::string series = "tag";  // kind of the series that tells
  void (*leak)(LeakStage&) = nullptr;
  std::uint64_t blocks_bytes = 32 << 10;  // a call, as asked for, of four calls' mean
};
const std::vector<LeakKind>& leak_kinds();

// A load that leaks nothing; `minute` plays one minute of it.
struct SteadyKind {
  std::string name;
  void (*minute)(LeakStage&) = nullptr;
};
const std::vector<SteadyKind>& steady_kinds();

}  // namespace forebay::testing
