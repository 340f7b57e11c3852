// What a trace of cache requests is about: how many objects, how many bytes.
#pragma once

#include <span>

#include "cache/simulated_cache.hpp"
#include "trace/key_table.hpp"

namespace forebay::trace {

struct CacheDemand {
  std::uint64_t requests = 0;
  std::uint64_t left_out = 0;         // of no bytes
  std::uint64_t objects = 0;          // distinct keys
  std::uint64_t footprint_bytes = 0;  // of them, each at its first request's size
  std::uint64_t bytes = 0;            // of all requests
  double cost = 0;                    // of all requests
  std::uint64_t largest = 0;          // request, bytes
  bool exact = true;                  // else objects and footprint_bytes are estimates
  bool sizes_differ = false;
  bool has_cost = false;
};

// Counts in bounded memory. Up to `most_kept` objects it is exact; from there on it keeps those
// whose hash begins with a zero bit more each time that they become too many, and estimates by
// them: 1 / sqrt(most_kept) off, more where few large objects have most of the bytes.
// (Adaptive sampling by Wegman, as in Flajolet, Computing 1990.)
class Footprint {
 public:
  static constexpr std::size_t kMostKept = std::size_t{1} << 23;  // 256 MiB of tables at most
  explicit Footprint(std::size_t most_kept = kMostKept) : most_kept_(most_kept) {}

  void add(std::span<const detail::CacheRequest> requests);
  const CacheDemand& demand() noexcept;

 private:
  void add(const detail::CacheRequest& request, std::uint64_t hash);
  void thin();
  // Tables use the low bits.
  bool kept(std::uint64_t hash) const noexcept {
    return dropped_bits_ == 0 || hash >> (kBits - dropped_bits_) == 0;
  }

  static constexpr unsigned kBits = 64;
  std::size_t most_kept_;
  KeyTable sizes_;
  unsigned dropped_bits_ = 0;
  std::uint64_t kept_bytes_ = 0;
  std::uint64_t first_size_ = 0;
  CacheDemand demand_;
};

}  // namespace forebay::trace
