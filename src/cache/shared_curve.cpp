#include "cache/shared_curve.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace forebay::detail {
namespace {

constexpr std::uint64_t kPart = 64;
constexpr std::uint64_t kLeast = 256ULL << 10U;
constexpr std::uint64_t kMost = 1ULL << 20U;
// Checked by a test (CacheCurve, TakesWhatItSays): fixed; for each key that is remembered; for each
// request that is watched, of which there is one for that many bytes.
constexpr std::uint64_t kFixedBytes = 74ULL << 10U;
constexpr std::uint64_t kBytesPerKey = 111;
constexpr std::uint64_t kBytesPerWatch = 70;
constexpr std::uint64_t kWatchEvery = 256;

CurveOptions options_for(std::uint64_t bytes) {
  CurveOptions made;
  made.watches = bytes / kWatchEvery;
  made.most_keys = (bytes - kFixedBytes - made.watches * kBytesPerWatch) / kBytesPerKey;
  return made;
}

}  // namespace

std::uint64_t SharedCurve::bytes_for(std::uint64_t max_bytes) noexcept {
  if (max_bytes < 16 * kLeast) return 0;
  return std::clamp(max_bytes / kPart, kLeast, kMost);
}

SharedCurve::SharedCurve(std::uint64_t bytes) {
  curve_.emplace(options_for(bytes));
  slots_ = curve_->slots();
  metadata_ = sizeof(*this) + curve_->metadata_bytes();
}

SharedCurve::Tally SharedCurve::tally() noexcept {
  const std::lock_guard lock{mutex_};
  Tally made;
  made.random = SmallRandom{++tallies_};
  if (curve_) made.until_draw = curve_->next_draw(made.random);
  return made;
}

void SharedCurve::request(const EntryFacts& facts, Tally& tally) noexcept {
  ++tally.requests;
  tally.bytes += facts.bytes;
  const bool drawn = --tally.until_draw == 0;
  if (!drawn && !slots_->has(MissRatioCurve::sampling_hash(facts.hash))) return;
  const std::lock_guard lock{mutex_};
  if (!curve_) return;
  curve_->passed(std::exchange(tally.requests, 0), std::exchange(tally.bytes, 0));
  if (drawn) tally.until_draw = curve_->next_draw(tally.random);
  curve_->request({.key = facts.hash, .bytes = facts.bytes}, drawn);
}

void SharedCurve::close() noexcept {
  const std::lock_guard lock{mutex_};
  if (!curve_) return;
  curve_->stop();
  curve_.reset();
  metadata_ = sizeof(*this) + slots_->metadata_bytes();
}

std::vector<MissRatioPoint> SharedCurve::points(std::uint64_t max_bytes) const {
  constexpr int kPerOctave = 4;
  constexpr int kFirst = -6 * kPerOctave;
  constexpr int kLast = 3 * kPerOctave;
  std::vector<MissRatioPoint> points;
  const std::lock_guard lock{mutex_};
  if (!curve_ || curve_->requests() == 0) return points;
  points.reserve(kLast - kFirst + 1);
  const MissRatioCurve::Footprint footprint = curve_->footprint();
  MissRatioPoint last;
  for (int i = kFirst; i <= kLast; ++i) {
    const double size = static_cast<double>(max_bytes) * std::exp2(double{1} * i / kPerOctave);
    const auto bytes = static_cast<std::uint64_t>(std::max(size, 1.0));
    // A larger cache misses no more: what says so is a sample's error.
    last = {Bytes{bytes}, std::min(last.objects, curve_->object_miss_ratio(bytes, footprint)),
            std::min(last.bytes, curve_->byte_miss_ratio(bytes, footprint))};
    points.push_back(last);
  }
  return points;
}

}  // namespace forebay::detail
