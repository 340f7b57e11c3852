#include <algorithm>
#include <utility>

#include "forebay/governor.hpp"

namespace forebay {

// Both halves are reserved here, so that record() cannot fail for want of memory once it
// has begun to change the log.
StageLog::StageLog(const Budget& budget, const PressureMonitor& monitor, std::size_t capacity,
                   std::function<void(const Stage&)> sink, Clock& clock)
    : budget_(budget),
      monitor_(monitor),
      capacity_(capacity),
      sink_(std::move(sink)),
      clock_(clock),
      start_(clock.now()) {
  first_.reserve(capacity / 2);
  latest_.reserve(capacity - capacity / 2);
}

Stage StageLog::record(std::string name) {
  const BudgetStats budget = budget_.stats();
  const auto reading = monitor_.read();
  Stage stage{std::move(name), clock_.now() - start_, budget.used,
              budget.peak,     budget.limit,          reading ? reading->resident : Bytes{}};
  keep(stage);
  if (sink_) sink_(stage);
  return stage;
}

void StageLog::keep(Stage stage) {
  const std::size_t latest = capacity_ - capacity_ / 2;
  const std::lock_guard lock{mutex_};
  if (first_.size() < capacity_ / 2) {
    first_.push_back(std::move(stage));
  } else if (latest_.size() < latest) {
    latest_.push_back(std::move(stage));
  } else {
    ++dropped_;
    if (latest == 0) return;
    latest_[next_] = std::move(stage);
    next_ = (next_ + 1) % latest;
  }
}

std::vector<Stage> StageLog::stages() const {
  const std::lock_guard lock{mutex_};
  std::vector<Stage> all = first_;
  const auto oldest = latest_.begin() + static_cast<std::ptrdiff_t>(next_);
  all.insert(all.end(), oldest, latest_.end());
  all.insert(all.end(), latest_.begin(), oldest);
  return all;
}

std::uint64_t StageLog::dropped() const noexcept {
  const std::lock_guard lock{mutex_};
  return dropped_;
}

}  // namespace forebay
