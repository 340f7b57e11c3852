// MissRatioCurve: what an LRU cache of any size would miss, from one pass over the requests.
// MiniatureCurve: the same for any policy, at sizes that are given.
//
// SHARDS: Waldspurger et al., "Efficient MRC Construction with SHARDS", FAST 2015: of the keys
// whose hash is below a threshold, the bytes asked for between two requests of the same key, over
// the sampling rate, are its stack distance. Miniatures: the same authors, ATC 2017.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "cache/key_index.hpp"
#include "cache/policy.hpp"
#include "cache/simulated_cache.hpp"

namespace forebay::detail {

struct CurveOptions {
  double sample_rate = 0.01;     // of keys, above 0 and at most 1
  std::size_t most_keys = 8192;  // the rate falls so that no more are remembered
};

// Requests are taken one by one, each sampled one in O(log most_keys).
// Thread safety: none.
class MissRatioCurve {
 public:
  // REQUIRES: the options are in their ranges, most_keys > 0. Exceptions: std::bad_alloc.
  explicit MissRatioCurve(const CurveOptions& options);

  // Allocates nothing.
  void request(const CacheRequest& request) noexcept;
  // The same for requests of keys that are not sampled.
  void passed(std::uint64_t requests, std::uint64_t bytes) noexcept {
    requests_ += requests;
    bytes_ += static_cast<double>(bytes);
  }
  // Keys are sampled whose sampling_hash() is below it; it falls.
  std::uint64_t threshold() const noexcept { return threshold_; }
  static std::uint64_t sampling_hash(std::uint64_t key) noexcept;

  // Of an LRU cache of this capacity, in the unit of CacheRequest::bytes; 1 before any request.
  double object_miss_ratio(std::uint64_t capacity) const noexcept;
  double byte_miss_ratio(std::uint64_t capacity) const noexcept;

  std::uint64_t requests() const noexcept { return requests_; }
  std::uint64_t sampled() const noexcept { return sampled_; }
  double sample_rate() const noexcept;
  std::size_t metadata_bytes() const noexcept;

 private:
  struct Key {
    std::uint64_t hash = 0;
    std::uint64_t bytes = 0;
    std::size_t time = 0;
  };
  struct Weight {
    double requests = 0;
    double bytes = 0;
  };
  static constexpr std::size_t kGroups = 16;

  static std::size_t bucket_of(double distance) noexcept;
  Weight missed(std::uint64_t capacity) const noexcept;
  void note(std::size_t bucket, std::uint64_t name, double weight, std::uint64_t bytes) noexcept;
  double ratio(std::uint64_t capacity, double Weight::*unit, double all) const noexcept;
  double excess_misses(std::uint64_t capacity, double Weight::*unit, double excess) const noexcept;
  void add(std::size_t time, std::uint64_t bytes) noexcept;
  void subtract(std::size_t time, std::uint64_t bytes) noexcept;
  std::uint64_t sum_to(std::size_t time) const noexcept;
  void renumber() noexcept;
  void drop_highest() noexcept;
  EntryId find(std::uint64_t hash) const noexcept;

  std::size_t most_keys_;
  std::uint64_t threshold_;
  std::vector<Key> keys_;
  std::vector<EntryId> free_;
  std::vector<std::pair<std::uint64_t, EntryId>> highest_;  // a heap of hashes
  std::vector<EntryId> by_time_;                            // for renumber()
  KeyIndex index_;
  std::vector<std::uint64_t> tree_;  // Fenwick: bytes of keys by when they were last asked for
  std::size_t now_ = 0;
  std::uint64_t total_ = 0;
  std::vector<Weight> distances_;  // the last: of keys that were not known
  std::vector<Weight> groups_;     // the same, coarsely, by groups of keys
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
