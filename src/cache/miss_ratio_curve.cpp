#include "cache/miss_ratio_curve.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "cache/hash.hpp"

namespace forebay::detail {
namespace {

// Hashes are compared by 32 bits: rates down to 2^-32.
constexpr double kHashes = 4294967296.0;
// A distance is known to 2.2 %, a time to 4.4 %; both up to 2^48.
constexpr double kBucketsPerOctave = 32;
constexpr std::size_t kBuckets = std::size_t{48} * 32;
constexpr double kTimesPerOctave = 16;
// Of sampled keys that fit, from which on their distances are believed more than the mean of all.
constexpr double kManyKeys = 1000;
// Watches that share a slot with something hot cost, those that do not nothing.
constexpr unsigned kSlotsPerWatch = 32;

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
      watched_of_(options.watched_of),
      // Draws are random: there is room for some more than the mean of them.
      longest_(std::uint64_t{options.watches} * options.watched_of * 3 / 4),
      tree_(4 * options.most_keys + 5),
      slots_(std::make_shared<HashSlots>(
          std::max(10U, static_cast<unsigned>(std::bit_width(options.watches * kSlotsPerWatch))))),
      watches_(options.watches),
      until_draw_(next_draw(random_)),
      watched_{std::vector<Weight>(kTimes), std::vector<Weight>(kBuckets)},
      late_{std::vector<Weight>(kTimes), std::vector<Weight>(kBuckets)} {
  // All that is ever needed is taken here: requests do not fail then.
  keys_.reserve(most_keys_ + 1);
  free_.reserve(most_keys_ + 1);
  highest_.reserve(most_keys_ + 1);
  by_time_.reserve(most_keys_ + 1);
  index_.make_room(most_keys_ + 1);
  slots_->open_only_to(threshold_ - 1);
}

double MissRatioCurve::sample_rate() const noexcept {
  return static_cast<double>(threshold_) / kHashes;
}

std::size_t MissRatioCurve::bucket_of(double distance) noexcept {
  const auto bucket = static_cast<std::size_t>(std::log2(distance + 1) * kBucketsPerOctave);
  return std::min(bucket, kBuckets - 1);
}

std::size_t MissRatioCurve::time_bucket(std::uint64_t time) noexcept {
  const double octaves = std::log2(static_cast<double>(std::max<std::uint64_t>(time, 1)));
  return std::min(static_cast<std::size_t>(octaves * kTimesPerOctave), kTimes - 1);
}

void MissRatioCurve::request(const CacheRequest& request) noexcept {
  passed(1, std::max<std::uint64_t>(request.bytes, 1));
  const bool drawn = --until_draw_ == 0;
  if (drawn) until_draw_ = next_draw(random_);
  if (drawn || slots_->has(sampling_hash(request.key))) this->request(request, drawn);
}

void MissRatioCurve::request(const CacheRequest& request, bool drawn) noexcept {
  const CacheRequest sized{.key = request.key, .bytes = std::max<std::uint64_t>(request.bytes, 1)};
  const std::uint64_t hash = sampling_hash(request.key);
  const std::uint64_t name = mix_key(request.key);
  drop_old_watches();
  finish_watch(sized, name, hash);
  if (hash < threshold_) sample(sized, name, hash);
  if (drawn && longest_ != 0) begin_watch(sized, name, hash);
}

// The bytes of what was asked for since, and the key itself: it has to fit as well.
double MissRatioCurve::distance_since(std::size_t time, std::uint64_t own) const noexcept {
  return static_cast<double>(total_ - sum_to(time)) / sample_rate() + static_cast<double>(own);
}

void MissRatioCurve::finish_watch(const CacheRequest& request, std::uint64_t name,
                                  std::uint64_t hash) noexcept {
  const auto watch = watches_.take(name);
  if (!watch) return;
  close_slot(hash);
  note(watched_, requests_ - watch->at, distance_since(watch->place, request.bytes),
       {1, static_cast<double>(watch->bytes)});
}

// A slot is for one watch, so that it can be closed with it. Those of the sample stay open.
void MissRatioCurve::begin_watch(const CacheRequest& request, std::uint64_t name,
                                 std::uint64_t hash) noexcept {
  if (hash >= threshold_ && slots_->has(hash)) return;
  ++sampled_;
  drawn_.requests += 1;
  drawn_.bytes += static_cast<double>(request.bytes);
  slots_->open(hash);
  watches_.add({name, hash, request.bytes, requests_, now_});
}

void MissRatioCurve::drop_old_watches() noexcept {
  while (!watches_.empty() && (watches_.oldest_is_gone() || watches_.full() ||
                               requests_ - watches_.oldest().at > longest_)) {
    if (!watches_.oldest_is_gone()) close_slot(watches_.oldest().hash);
    watches_.drop_oldest();
  }
}

void MissRatioCurve::close_slot(std::uint64_t hash) noexcept {
  if (hash >= threshold_) slots_->close(hash);
}

void MissRatioCurve::sample(const CacheRequest& request, std::uint64_t name,
                            std::uint64_t hash) noexcept {
  if (now_ + 1 >= tree_.size()) renumber();
  ++sampled_;
  const double rate = sample_rate();
  const Weight weight{1 / rate, static_cast<double>(request.bytes) / rate};
  EntryId id = find(name);
  if (id == kNoEntry || requests_ - keys_[id].at > longest_) add_to(late_all_, weight);
  if (id != kNoEntry) {
    const Key& key = keys_[id];
    if (requests_ - key.at > longest_) {
      note(late_, requests_ - key.at, distance_since(key.time, request.bytes), weight);
    }
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
  keys_[id] = {name, request.bytes, ++now_, requests_};
  add(now_, request.bytes);
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
  reopen_slots();
}

void MissRatioCurve::reopen_slots() noexcept {
  slots_->open_only_to(threshold_ - 1);
  watches_.for_each([this](const ReuseWatch::Watch& watch) { slots_->open(watch.hash); });
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
  watches_.move_places([this](std::size_t place) {
    const auto later = std::partition_point(by_time_.begin(), by_time_.end(),
                                            [&](EntryId id) { return keys_[id].time <= place; });
    return static_cast<std::size_t>(later - by_time_.begin());
  });
  std::fill(tree_.begin(), tree_.end(), 0);
  total_ = 0;
  now_ = 0;
  for (const EntryId id : by_time_) {
    keys_[id].time = ++now_;
    add(now_, keys_[id].bytes);
  }
}

void MissRatioCurve::note(Reuses& reuses, std::uint64_t time, double distance,
                          Weight weight) noexcept {
  add_to(reuses.times[time_bucket(time)], weight);
  add_to(reuses.distances[bucket_of(distance)], weight);
}

// What one request stands for. The sample of keys has too many requests that come late, or too few;
// the watches say how many there are.
MissRatioCurve::Scales MissRatioCurve::scales(double Weight::*unit) const noexcept {
  const double all = unit == &Weight::bytes ? bytes_ : static_cast<double>(requests_);
  Scales made;
  double late = all;
  if (drawn_.*unit > 0) {
    made.watched = all / (drawn_.*unit);
    for (const Weight& weight : watched_.times) late -= made.watched * weight.*unit;
  }
  if (late_all_.*unit > 0) made.late = std::max(late, 0.0) / (late_all_.*unit);
  return made;
}

double MissRatioCurve::hits_by_distance(double capacity, double Weight::*unit) const noexcept {
  const Scales scale = scales(unit);
  const std::size_t fits = bucket_of(capacity);
  double hits = 0;
  for (std::size_t bucket = 0; bucket <= fits; ++bucket) {
    hits += scale.watched * watched_.distances[bucket].*unit +
            scale.late * late_.distances[bucket].*unit;
  }
  return hits;
}

// The end of a bucket of times.
double MissRatioCurve::time_end(std::size_t bucket) noexcept {
  return std::floor(std::exp2(static_cast<double>(bucket + 1) / kTimesPerOctave));
}

// In a stretch of requests the bytes of those are asked for that are the last of their keys in it:
// with each request more, on average, the bytes of one that is not asked for again within the
// stretch so far. Of those that are still waited for it is only known that they were not asked for
// again until now (Kaplan and Meier, 1958).
MissRatioCurve::Footprint MissRatioCurve::footprint() const noexcept {
  Footprint waiting{};  // first bytes by age, then the sums of stretches
  double early = 0;
  double late = 0;
  watches_.for_each([&](const ReuseWatch::Watch& watch) {
    waiting[time_bucket(requests_ - watch.at)] += static_cast<double>(watch.bytes);
  });
  Footprint waiting_late{};
  for (const auto& [hash, id] : highest_) {
    const Key& key = keys_[id];
    if (requests_ - key.at <= longest_) continue;
    const double bytes = static_cast<double>(key.bytes) / sample_rate();
    waiting_late[time_bucket(requests_ - key.at)] += bytes;
    late += bytes;
  }
  for (const Weight& weight : late_.times) late += weight.bytes;
  early = drawn_.bytes;
  double fresh = requests_ == 0 ? 0 : bytes_ / static_cast<double>(requests_);
  double sum = 0;
  double from = 0;
  for (std::size_t bucket = 0; bucket != kTimes; ++bucket) {
    const double to = time_end(bucket);
    const auto left_of = [](double& at_risk, double again, double ended) {
      const double left = at_risk > 0 ? std::max(0.0, 1 - again / at_risk) : 1;
      at_risk -= again + ended;
      return left;
    };
    const double left = left_of(early, watched_.times[bucket].bytes, waiting[bucket]) *
                        left_of(late, late_.times[bucket].bytes, waiting_late[bucket]);
    sum += (to - from) * fresh * (1 + left) / 2;
    fresh *= left;
    waiting[bucket] = sum;
    from = to;
  }
  return waiting;
}

double MissRatioCurve::hits_by_time(const Footprint& footprint, double capacity,
                                    double Weight::*unit) const noexcept {
  const Scales scale = scales(unit);
  double hits = 0;
  double before = 0;
  for (std::size_t bucket = 0; bucket != kTimes; ++bucket) {
    const double here =
        scale.watched * watched_.times[bucket].*unit + scale.late * late_.times[bucket].*unit;
    if (footprint[bucket] > capacity) {
      return hits + here * (capacity - before) / (footprint[bucket] - before);
    }
    hits += here;
    before = footprint[bucket];
  }
  return hits;
}

// From 0 to 1: how many sampled keys fit says how well their distances are known.
double MissRatioCurve::trust_in_distances(double capacity) const noexcept {
  if (total_ == 0) return 0;
  const double mean = static_cast<double>(total_) / static_cast<double>(highest_.size());
  const double fit = capacity * sample_rate() / mean;
  const double many = kManyKeys * (1 - sample_rate());
  return fit * fit * fit / (fit * fit * fit + many * many * many);
}

double MissRatioCurve::ratio(const Footprint& footprint, std::uint64_t capacity,
                             double Weight::*unit, double all) const noexcept {
  if (requests_ == 0) return 1;
  const auto fits = static_cast<double>(capacity);
  const double trust = trust_in_distances(fits);
  const double hits =
      trust * hits_by_distance(fits, unit) + (1 - trust) * hits_by_time(footprint, fits, unit);
  return std::clamp(1 - hits / all, 0.0, 1.0);
}

double MissRatioCurve::object_miss_ratio(std::uint64_t capacity,
                                         const Footprint& footprint) const noexcept {
  return ratio(footprint, capacity, &Weight::requests, static_cast<double>(requests_));
}

double MissRatioCurve::byte_miss_ratio(std::uint64_t capacity,
                                       const Footprint& footprint) const noexcept {
  return ratio(footprint, capacity, &Weight::bytes, bytes_);
}

std::size_t MissRatioCurve::metadata_bytes() const noexcept {
  const std::size_t reuses = watched_.times.capacity() + watched_.distances.capacity() +
                             late_.times.capacity() + late_.distances.capacity();
  return keys_.capacity() * sizeof(Key) + free_.capacity() * sizeof(EntryId) +
         highest_.capacity() * sizeof(highest_[0]) + by_time_.capacity() * sizeof(EntryId) +
         index_.metadata_bytes() + tree_.capacity() * sizeof(tree_[0]) + reuses * sizeof(Weight) +
         slots_->metadata_bytes() + watches_.metadata_bytes();
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
