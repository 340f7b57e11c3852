// EventTimeline: the most live bytes of each span of time, with spans as long as they must be.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "telemetry/event_analysis.hpp"

namespace forebay::events {

class EventTimeline {
 public:
  explicit EventTimeline(std::size_t points) : most_(std::max<std::size_t>(points, 2)) {}

  // Time goes forward. `most`: meanwhile; `live`: from here on.
  void add(std::uint64_t nanoseconds, std::uint64_t most, std::uint64_t live) {
    while (nanoseconds / width_ >= most_) halve();
    const auto span = static_cast<std::size_t>(nanoseconds / width_);
    if (span >= spans_.size()) spans_.resize(span + 1, live_);
    spans_[span] = std::max(spans_[span], most);
    live_ = live;
  }

  std::vector<TimePoint> points() const {
    std::vector<TimePoint> points;
    for (std::size_t i = 0; i < spans_.size(); ++i) {
      points.push_back({static_cast<double>(i * width_) / 1e9, spans_[i]});
    }
    return points;
  }

 private:
  void halve() {
    for (std::size_t i = 0; i < spans_.size(); i += 2) {
      spans_[i / 2] = std::max(spans_[i], spans_[std::min(i + 1, spans_.size() - 1)]);
    }
    spans_.resize((spans_.size() + 1) / 2);
    width_ *= 2;
  }

  std::size_t most_;
  std::uint64_t width_ = 10'000'000;  // nanoseconds; from the resolution of the file on
  std::uint64_t live_ = 0;
  std::vector<std::uint64_t> spans_;
};

}  // namespace forebay::events
