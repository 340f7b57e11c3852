// MissRatioCurve: what an LRU cache of any size would miss, from one pass over the requests.
// MiniatureCurve: the same for any policy, at sizes that are given.
//
// Two samples. Of keys (SHARDS: Waldspurger et al., "Efficient MRC Construction with SHARDS", FAST
// 2015): of those whose hash is below a threshold, the bytes asked for between two requests of the
// same key, over the sampling rate, are its stack distance. A few hot keys that are in it or not
// would spoil it, so that it tells only of keys that are asked for again late. Of requests: some
// are drawn, each as likely as any other, and the key of each is watched until it is asked for
// again, or for `longest`; how hot a key is makes no difference.
//
// How large a cache has to be for that is told by the sample of keys where it has many that fit
// (it is true of that very stretch of requests), else by the mean of all such stretches, which the
// times of reuse give (Hu et al., "Kinetic modeling of data eviction in cache", ATC 2016).
//
// Miniatures: Waldspurger et al., ATC 2017.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "cache/hash.hpp"
#include "cache/key_index.hpp"
#include "cache/policy.hpp"
#include "cache/reuse_watch.hpp"
#include "cache/simulated_cache.hpp"

namespace forebay::detail {

struct CurveOptions {
  double sample_rate = 0.005;    // of keys, above 0 and at most 1
  std::size_t most_keys = 8192;  // the rate falls so that no more are remembered
  // Requests that are watched at a time; none: the sample of keys tells all, and has to be all keys
  // if a few of them are hot.
  std::size_t watches = 4096;
  std::uint32_t watched_of = 200;  // one request in so many is drawn, above 1
};

// Requests are taken one by one, each sampled one in O(log most_keys).
// Thread safety: none, but for slots().
class MissRatioCurve {
 public:
  // REQUIRES: the options are in their ranges, most_keys > 0. Exceptions: std::bad_alloc.
  explicit MissRatioCurve(const CurveOptions& options);

  // Allocates nothing.
  void request(const CacheRequest& request) noexcept;

  // The same in parts, for many callers that count by themselves: request() is to be told of those
  // whose sampling_hash() is in slots(), and of those that the caller drew; of the others how many
  // they were. They belong before the next one that is told.
  const std::shared_ptr<HashSlots>& slots() const noexcept { return slots_; }
  void passed(std::uint64_t requests, std::uint64_t bytes) noexcept {
    requests_ += requests;
    bytes_ += static_cast<double>(bytes);
  }
  void request(const CacheRequest& request, bool drawn) noexcept;
  // Closes all slots, for good.
  void stop() noexcept { slots_->close_all(); }
  // How many requests to count until one is drawn; at random.
  std::uint32_t next_draw(SmallRandom& random) const noexcept {
    return 1 + random.below(2 * watched_of_ - 1);
  }
  static std::uint64_t sampling_hash(std::uint64_t key) noexcept;

  // Mean bytes asked for in stretches of requests, by the length of the stretch.
  static constexpr std::size_t kTimes = std::size_t{48} * 16;
  using Footprint = std::array<double, kTimes>;
  // Takes a look at all that is remembered.
  Footprint footprint() const noexcept;
  // Of an LRU cache of this capacity, in the unit of CacheRequest::bytes; 1 before any request.
  // REQUIRES: footprint() was asked since the last request.
  double object_miss_ratio(std::uint64_t capacity, const Footprint& footprint) const noexcept;
  double byte_miss_ratio(std::uint64_t capacity, const Footprint& footprint) const noexcept;

  std::uint64_t requests() const noexcept { return requests_; }
  std::uint64_t sampled() const noexcept { return sampled_; }
  double sample_rate() const noexcept;  // of keys
  std::size_t metadata_bytes() const noexcept;

 private:
  struct Key {
    std::uint64_t hash = 0;
    std::uint64_t bytes = 0;
    std::size_t time = 0;  // in the tree
    std::uint64_t at = 0;  // by the count of requests
  };
  struct Weight {
    double requests = 0;
    double bytes = 0;
  };
  struct Scales {
    double watched = 0;
    double late = 0;
  };
  // Requests of keys that were asked for before, by the time since and by the distance. Those that
  // were watched count once, those of the sample of keys for as many as they stand for.
  struct Reuses {
    std::vector<Weight> times;
    std::vector<Weight> distances;
  };

  static std::size_t time_bucket(std::uint64_t time) noexcept;
  static std::size_t bucket_of(double distance) noexcept;
  void finish_watch(const CacheRequest& request, std::uint64_t name, std::uint64_t hash) noexcept;
  void begin_watch(const CacheRequest& request, std::uint64_t name, std::uint64_t hash) noexcept;
  void drop_old_watches() noexcept;
  void close_slot(std::uint64_t hash) noexcept;
  void sample(const CacheRequest& request, std::uint64_t name, std::uint64_t hash) noexcept;
  static void add_to(Weight& sum, Weight more) noexcept {
    sum.requests += more.requests;
    sum.bytes += more.bytes;
  }
  static void note(Reuses& reuses, std::uint64_t time, double distance, Weight weight) noexcept;
  double distance_since(std::size_t time, std::uint64_t own) const noexcept;
  Scales scales(double Weight::*unit) const noexcept;
  double hits_by_distance(double capacity, double Weight::*unit) const noexcept;
  static double time_end(std::size_t bucket) noexcept;
  double hits_by_time(const Footprint& footprint, double capacity,
                      double Weight::*unit) const noexcept;
  double trust_in_distances(double capacity) const noexcept;
  double ratio(const Footprint& footprint, std::uint64_t capacity, double Weight::*unit,
               double all) const noexcept;
  void add(std::size_t time, std::uint64_t bytes) noexcept;
  void subtract(std::size_t time, std::uint64_t bytes) noexcept;
  std::uint64_t sum_to(std::size_t time) const noexcept;
  void renumber() noexcept;
  void drop_highest() noexcept;
  void reopen_slots() noexcept;
  EntryId find(std::uint64_t hash) const noexcept;

  std::size_t most_keys_;
  std::uint64_t threshold_;
  std::uint32_t watched_of_;
  std::uint64_t longest_;  // requests that a watch lasts
  std::vector<Key> keys_;
  std::vector<EntryId> free_;
  std::vector<std::pair<std::uint64_t, EntryId>> highest_;  // a heap of hashes
  std::vector<EntryId> by_time_;                            // for renumber()
  KeyIndex index_;
  std::vector<std::uint64_t> tree_;  // Fenwick: bytes of keys by when they were last asked for
  std::size_t now_ = 0;
  std::uint64_t total_ = 0;
  std::shared_ptr<HashSlots> slots_;
  ReuseWatch watches_;
  SmallRandom random_{1};
  std::uint32_t until_draw_;
  Weight drawn_;
  Reuses watched_;   // asked for again within longest_
  Reuses late_;      // later; of the sample of keys
  Weight late_all_;  // the same, with those of keys that had not been asked for before
  std::uint64_t requests_ = 0;
  std::uint64_t sampled_ = 0;
  double bytes_ = 0;
};

// Thread safety: none.
class MiniatureCurve {
 public:
  struct Point {
    std::uint64_t capacity = 0;
    double object_miss_ratio = 1;
    double byte_miss_ratio = 1;
  };

  // REQUIRES: capacities above 0, 0 < sample_rate <= 1, a kind that make_policy() makes.
  // Exceptions: std::bad_alloc.
  MiniatureCurve(PolicyKind kind, const std::vector<std::uint64_t>& capacities, double sample_rate,
                 const PolicyOptions& options = {});

  void request(const CacheRequest& request);  // Exceptions: std::bad_alloc.
  std::vector<Point> points() const;          // Exceptions: std::bad_alloc.

 private:
  std::uint64_t threshold_;
  std::vector<std::uint64_t> capacities_;
  std::vector<SimulatedCache> caches_;
  std::uint64_t requests_ = 0;
  double bytes_ = 0;
  double rate_;
};

}  // namespace forebay::detail
