#include "track/leak_stage.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "track/hooks.hpp"

namespace forebay::testing {
namespace {

using namespace literals;

TrackerOptions tracking(TrackingGrade grade, Clock* clock) {
  TrackerOptions options = Tracker::options();
  options.grade = grade;
  options.clock = clock;
  return options;
}

}  // namespace

LeakStage::LeakStage(TrackingGrade grade, std::uint64_t seed)
    : before_(Tracker::options()),
      random_(seed),
      budget_("process", {.limit = 8_GiB}, clock_),
      pool_(Pool::create(budget_.meter(Device::host()),
                         {.name = "blocks", .cleanup_interval = {}, .clock = &clock_})),
      tensors_(TensorPool::create(pool_, {.clock = &clock_})) {
  clock_.advance(std::chrono::hours{1});
  Tracker::set_options(tracking(grade, &clock_)).throw_if_error();
  detail::this_tracking.random = seed * 2654435761U | 1;
  detail::this_tracking.until_sample = 100000;
}

LeakStage::~LeakStage() {
  due_.clear();
  for (; !at_end_.empty(); at_end_.pop_back()) at_end_.back()();
  state_.reset();
  Tracker::set_options(before_).throw_if_error();
}

void LeakStage::take_for(double minutes, Bytes size) {
  const auto due = static_cast<std::size_t>(std::ceil(minutes));
  if (due_.size() <= due) due_.resize(due + 1);
  due_[due].push_back(pool_->acquire(size).value());
}

void LeakStage::serve_others() {
  const TagScope tag{"requests"};
  for (auto n = poisson(20); n > 0; --n) take_for(1 + 2 * uniform(), 64_KiB);
}

void LeakStage::next_minute() {
  if (!due_.empty()) due_.pop_front();
  tensors_->tick();
  pool_->tick();
  clock_.advance(std::chrono::minutes{1});
  ++minute_;
  observe();
}

void LeakStage::observe() {
  detector_.observe(clock_.now(), observe_tracker(std::chrono::hours{1}));
}

}  // namespace forebay::testing
