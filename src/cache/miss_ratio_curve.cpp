#include "cache/miss_ratio_curve.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "cache/hash.hpp"

namespace forebay::detail {
namespace {

// Hashes are compared by 32 bits: rates down to 2^-32.
constexpr double kHashes = 4294967296.0;
// A distance is known to 1.1 %.
constexpr double kBucketsPerOctave = 64;
constexpr std::size_t kBuckets = std::size_t{64} * 64;
// Of groups four buckets an octave: they correct, and need not be exact.
constexpr std::size_t kFinePerCoarse = 16;
constexpr std::size_t kCoarse = kBuckets / kFinePerCoarse + 1;

std::uint64_t threshold_of(double rate) noexcept {
  return static_cast<std::uint64_t>(std::max(1.0, rate * kHashes));
}

}  // namespace

std::uint64_t MissRatioCurve::sampling_hash(std::uint64_t key) noexcept {
  return mix_key(mix_key(key) ^ 0x5a17c0deULL) >> 32U;
}

MissRatioCurve::MissRatioCurve(const CurveOptions& options)
    : most_keys_(options.most_keys),
      threshold_(threshold_of(options.sample_rate)),
      tree_(4 * options.most_keys + 5),
      distances_(kBuckets + 1),
      groups_(kGroups * kCoarse) {
  // All that is ever needed is taken here: requests do not fail then.
  keys_.reserve(most_keys_ + 1);
  free_.reserve(most_keys_ + 1);
  highest_.reserve(most_keys_ + 1);
  by_time_.reserve(most_keys_ + 1);
  index_.make_room(most_keys_ + 1);
}

double MissRatioCurve::sample_rate() const noexcept {
  return static_cast<double>(threshold_) / kHashes;
}

std::size_t MissRatioCurve::bucket_of(double distance) noexcept {
  const auto bucket = static_cast<std::size_t>(std::log2(distance + 1) * kBucketsPerOctave);
  return std::min(bucket, kBuckets - 1);
}

void MissRatioCurve::request(const CacheRequest& request) noexcept {
  const std::uint64_t bytes = std::max<std::uint64_t>(request.bytes, 1);
  const std::uint64_t hash = sampling_hash(request.key);
  const std::uint64_t name = mix_key(request.key);
  if (hash < threshold_ && now_ + 1 >= tree_.size()) renumber();
  ++requests_;
  bytes_ += static_cast<double>(bytes);
  if (hash >= threshold_) return;
  ++sampled_;

  const double weight = 1 / sample_rate();
  EntryId id = find(name);
  std::size_t bucket = kBuckets;
  if (id != kNoEntry) {
    Key& key = keys_[id];
    // What was asked for since, and the key itself: it has to fit as well.
    const std::uint64_t since = total_ - sum_to(key.time);
    const double distance = static_cast<double>(since) * weight + static_cast<double>(bytes);
    bucket = bucket_of(distance);
    subtract(key.time, key.bytes);
  } else {
    if (free_.empty()) {
      id = static_cast<EntryId>(keys_.size());
      keys_.emplace_back();
    } else {
      id = free_.back();
      free_.pop_back();
    }
    index_.add(name, id);
    highest_.emplace_back(hash, id);
    std::push_heap(highest_.begin(), highest_.end());
  }
  note(bucket, name, weight, bytes);
  keys_[id] = {name, bytes, ++now_};
  add(now_, bytes);
  if (highest_.size() > most_keys_) drop_highest();
}

EntryId MissRatioCurve::find(std::uint64_t hash) const noexcept {
  return index_.find(hash, [&](EntryId id) { return keys_[id].hash == hash; });
}

// The rate falls to below the highest hash; all keys with it go.
void MissRatioCurve::drop_highest() noexcept {
  threshold_ = std::max<std::uint64_t>(highest_.front().first, 1);
  while (!highest_.empty() && highest_.front().first >= threshold_) {
    const EntryId id = highest_.front().second;
    std::pop_heap(highest_.begin(), highest_.end());
    highest_.pop_back();
    index_.remove(keys_[id].hash, id);
    subtract(keys_[id].time, keys_[id].bytes);
    free_.push_back(id);
  }
}

void MissRatioCurve::add(std::size_t time, std::uint64_t bytes) noexcept {
  total_ += bytes;
  for (; time < tree_.size(); time += time & (~time + 1)) tree_[time] += bytes;
}

void MissRatioCurve::subtract(std::size_t time, std::uint64_t bytes) noexcept {
  total_ -= bytes;
  for (; time < tree_.size(); time += time & (~time + 1)) tree_[time] -= bytes;
}

std::uint64_t MissRatioCurve::sum_to(std::size_t time) const noexcept {
  std::uint64_t sum = 0;
  for (; time > 0; time &= time - 1) sum += tree_[time];
  return sum;
}

// The times in use get the lowest numbers. There are four times as many numbers as keys, so this
// costs O(log) a request, amortised.
void MissRatioCurve::renumber() noexcept {
  by_time_.clear();
  for (const auto& [hash, id] : highest_) by_time_.push_back(id);
  std::sort(by_time_.begin(), by_time_.end(),
            [this](EntryId a, EntryId b) { return keys_[a].time < keys_[b].time; });
  std::fill(tree_.begin(), tree_.end(), 0);
  total_ = 0;
  now_ = 0;
  for (const EntryId id : by_time_) {
    keys_[id].time = ++now_;
    add(now_, keys_[id].bytes);
  }
}

void MissRatioCurve::note(std::size_t bucket, std::uint64_t name, double weight,
                          std::uint64_t bytes) noexcept {
  const Weight more{weight, weight * static_cast<double>(bytes)};
  const std::size_t group = name % kGroups;
  for (Weight* const to :
       {&distances_[bucket], &groups_[group * kCoarse + bucket / kFinePerCoarse]}) {
    to->requests += more.requests;
    to->bytes += more.bytes;
  }
}

MissRatioCurve::Weight MissRatioCurve::missed(std::uint64_t capacity) const noexcept {
  Weight missed;
  for (std::size_t bucket = bucket_of(static_cast<double>(capacity)) + 1; bucket <= kBuckets;
       ++bucket) {
    missed.requests += distances_[bucket].requests;
    missed.bytes += distances_[bucket].bytes;
  }
  return missed;
}

// A sample has more or less than its share of the requests, and that many misses too many or too
// few for each of them: none if a hot key makes the difference, which is hit nearly always (the
// correction "SHARDS-adj" of the paper), but many if cold ones do. Groups of the sampled keys tell:
// the slope of their misses over their requests. What is lacking beyond what they differ by is of
// hot keys that are not in the sample.
double MissRatioCurve::excess_misses(std::uint64_t capacity, double Weight::*unit,
                                     double excess) const noexcept {
  std::array<double, kGroups> asked{};
  std::array<double, kGroups> missed{};
  const std::size_t fits = bucket_of(static_cast<double>(capacity)) / kFinePerCoarse;
  for (std::size_t group = 0; group < kGroups; ++group) {
    for (std::size_t bucket = 0; bucket < kCoarse; ++bucket) {
      const double here = groups_[group * kCoarse + bucket].*unit;
      asked[group] += here;
      if (bucket > fits) missed[group] += here;
    }
  }
  const double mean_asked = std::accumulate(asked.begin(), asked.end(), 0.0) / double{kGroups};
  const double mean_missed = std::accumulate(missed.begin(), missed.end(), 0.0) / double{kGroups};
  double together = 0;
  double alone = 0;
  for (std::size_t group = 0; group < kGroups; ++group) {
    together += (asked[group] - mean_asked) * (missed[group] - mean_missed);
    alone += (asked[group] - mean_asked) * (asked[group] - mean_asked);
  }
  if (alone <= 0) return 0;
  const double deviation = std::sqrt(alone * double{kGroups} / double{kGroups - 1});
  return std::clamp(together / alone, 0.0, 1.0) * std::max(excess, -deviation);
}

double MissRatioCurve::ratio(std::uint64_t capacity, double Weight::*unit,
                             double all) const noexcept {
  if (requests_ == 0) return 1;
  double seen = 0;
  for (const Weight& weight : distances_) seen += weight.*unit;
  const double excess = excess_misses(capacity, unit, seen - all);
  return std::clamp((missed(capacity).*unit - excess) / all, 0.0, 1.0);
}

double MissRatioCurve::object_miss_ratio(std::uint64_t capacity) const noexcept {
  return ratio(capacity, &Weight::requests, static_cast<double>(requests_));
}

double MissRatioCurve::byte_miss_ratio(std::uint64_t capacity) const noexcept {
  return ratio(capacity, &Weight::bytes, bytes_);
}

std::size_t MissRatioCurve::metadata_bytes() const noexcept {
  return keys_.capacity() * sizeof(Key) + free_.capacity() * sizeof(EntryId) +
         highest_.capacity() * sizeof(highest_[0]) + by_time_.capacity() * sizeof(EntryId) +
         index_.metadata_bytes() + tree_.capacity() * sizeof(tree_[0]) +
         (distances_.capacity() + groups_.capacity()) * sizeof(Weight);
}

MiniatureCurve::MiniatureCurve(PolicyKind kind, const std::vector<std::uint64_t>& capacities,
                               double sample_rate, const PolicyOptions& options)
    : threshold_(threshold_of(sample_rate)), capacities_(capacities), rate_(sample_rate) {
  for (const std::uint64_t capacity : capacities_) {
    PolicyOptions small = options;
    small.capacity = std::max<std::uint64_t>(
        1, static_cast<std::uint64_t>(std::llround(static_cast<double>(capacity) * sample_rate)));
    caches_.emplace_back(kind, small);
  }
}

void MiniatureCurve::request(const CacheRequest& request) {
  ++requests_;
  bytes_ += static_cast<double>(request.bytes);
  if (MissRatioCurve::sampling_hash(request.key) >= threshold_) return;
  for (SimulatedCache& cache : caches_) cache.request(request);
}

std::vector<MiniatureCurve::Point> MiniatureCurve::points() const {
  std::vector<Point> points;
  points.reserve(caches_.size());
  for (std::size_t i = 0; i < caches_.size(); ++i) {
    Point point{capacities_[i]};
    const CacheCounts& counts = caches_[i].counts();
    const auto missed = static_cast<double>(counts.requests - counts.hits);
    if (requests_ > 0) {
      point.object_miss_ratio = std::min(1.0, missed / rate_ / static_cast<double>(requests_));
      point.byte_miss_ratio =
          std::min(1.0, static_cast<double>(counts.bytes_missed) / rate_ / bytes_);
    }
    points.push_back(point);
  }
  return points;
}

}  // namespace forebay::detail
