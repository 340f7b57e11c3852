// What a trace of cache requests is about: how many objects, how many bytes.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "cache/simulated_cache.hpp"

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
  static constexpr std::size_t kMostKept = std::size_t{1} << 23;  // 128 MiB
  explicit Footprint(std::size_t most_kept = kMostKept)
      : most_kept_(most_kept), slots_(kLeastSlots, kEmpty) {}

  // Exceptions: std::bad_alloc.
  void add(std::span<const detail::CacheRequest> requests);
  const CacheDemand& demand() noexcept;

 private:
  static constexpr unsigned kBits = 64;
  static constexpr std::size_t kLeastSlots = 4096;
  static constexpr std::uint64_t kEmpty = 0;

  void count(const detail::CacheRequest& request) noexcept;
  void keep(std::uint64_t hash, std::uint64_t bytes);
  std::size_t find(std::uint64_t hash) const noexcept;
  // Into a table of so many slots, those that are still kept.
  void rehash(std::size_t slots);
  bool kept(std::uint64_t hash) const noexcept {
    return dropped_bits_ == 0 || hash >> (kBits - dropped_bits_) == 0;
  }

  std::size_t most_kept_;
  std::vector<std::uint64_t> slots_;  // hashes; the low bits say where
  std::vector<std::uint64_t> hashes_;
  std::size_t size_ = 0;
  unsigned dropped_bits_ = 0;
  // First sizes, by how many zero bits the hash begins with: whatever is dropped can be left out.
  std::array<std::uint64_t, kBits + 1> bytes_by_zeros_{};
  std::uint64_t first_size_ = 0;
  CacheDemand demand_;
};

}  // namespace forebay::trace
