#include "cache/shared_curve.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace forebay::detail {
namespace {

constexpr std::uint64_t kPart = 64;
constexpr std::uint64_t kLeast = 256ULL << 10U;
constexpr std::uint64_t kMost = 1ULL << 20U;
// Measured by a test (CacheCurve, TakesWhatItSays): fixed, and for each key that is remembered.
constexpr std::uint64_t kFixedBytes = 134ULL << 10U;
constexpr std::uint64_t kBytesPerKey = 106;

}  // namespace

std::uint64_t SharedCurve::bytes_for(std::uint64_t max_bytes) noexcept {
  if (max_bytes < 16 * kLeast) return 0;
  return std::clamp(max_bytes / kPart, kLeast, kMost);
}

SharedCurve::SharedCurve(std::uint64_t bytes) {
  curve_.emplace(
      CurveOptions{.most_keys = static_cast<std::size_t>((bytes - kFixedBytes) / kBytesPerKey)});
  threshold_ = curve_->threshold();
  metadata_ = sizeof(*this) + curve_->metadata_bytes();
}

void SharedCurve::request(const EntryFacts& facts, Tally& tally) noexcept {
  const std::uint64_t hash = MissRatioCurve::sampling_hash(facts.hash);
  if (hash >= threshold_.load(std::memory_order_relaxed)) {
    ++tally.requests;
    tally.bytes += facts.bytes;
    return;
  }
  const std::lock_guard lock{mutex_};
  if (!curve_) return;
  const Tally told = std::exchange(tally, {});
  curve_->passed(told.requests, told.bytes);
  curve_->request({.key = facts.hash, .bytes = facts.bytes});
  threshold_.store(curve_->threshold(), std::memory_order_relaxed);
}

void SharedCurve::close() noexcept {
  const std::lock_guard lock{mutex_};
  curve_.reset();
  metadata_ = sizeof(*this);
  threshold_.store(0, std::memory_order_relaxed);
}

std::vector<MissRatioPoint> SharedCurve::points(std::uint64_t max_bytes) const {
  constexpr int kPerOctave = 4;
  constexpr int kFirst = -6 * kPerOctave;
  constexpr int kLast = 3 * kPerOctave;
  std::vector<MissRatioPoint> points;
  const std::lock_guard lock{mutex_};
  if (!curve_ || curve_->requests() == 0) return points;
  points.reserve(kLast - kFirst + 1);
  for (int i = kFirst; i <= kLast; ++i) {
    const double size = static_cast<double>(max_bytes) * std::exp2(double{1} * i / kPerOctave);
    const auto bytes = static_cast<std::uint64_t>(std::max(size, 1.0));
    points.push_back(
        {Bytes{bytes}, curve_->object_miss_ratio(bytes), curve_->byte_miss_ratio(bytes)});
  }
  return points;
}

}  // namespace forebay::detail
