// SimulatedCache: a cache of names, without values: for replays and for miniature simulations.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cache/policy.hpp"

namespace forebay::detail {

struct CacheRequest {
  std::uint64_t key = 0;
  std::uint64_t bytes = 1;
  float cost = 1;  // microseconds to make it again
  float utility = 0;
};

struct CacheCounts {
  std::uint64_t requests = 0;
  std::uint64_t hits = 0;
  std::uint64_t bytes_requested = 0;
  std::uint64_t bytes_missed = 0;
  std::uint64_t evictions = 0;
  std::uint64_t refused = 0;  // larger than the cache, or not let in
  double cost_missed = 0;
};

// Never holds more than its capacity. An object whose size changes is updated, and goes if it does
// not fit any more. Thread safety: none.
class SimulatedCache {
 public:
  SimulatedCache(PolicyKind kind, const PolicyOptions& options);
  ~SimulatedCache();
  SimulatedCache(SimulatedCache&&) noexcept;
  SimulatedCache& operator=(SimulatedCache&&) noexcept;

  // Whether it was a hit. Exceptions: std::bad_alloc; then the request did not happen.
  bool request(const CacheRequest& request);
  void resize(std::uint64_t capacity);
  const CacheCounts& counts() const noexcept;
  std::uint64_t used() const noexcept;  // in the unit of the capacity
  std::size_t entries() const noexcept;
  std::size_t metadata_bytes() const noexcept;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace forebay::detail
