// FrequencySketch: about how often a hash was seen lately, in 8 bytes an entry.
//
// A count-min sketch of 4-bit counters with conservative aging (Einziger, Friedman, Manes,
// "TinyLFU", ACM TOS 2017): when fourteen times as many requests as entries have been counted,
// all counters are halved. The four counters of a hash lie in one cache line, as in Caffeine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace forebay::detail {

// Thread safety: none.
class FrequencySketch {
 public:
  static constexpr unsigned kMaxFrequency = 15;

  // Serves a cache of that many entries; what was counted stays. Never shrinks.
  // Exceptions: std::bad_alloc, then nothing has changed.
  void make_room(std::size_t entries);
  // REQUIRES, like frequency(): make_room() was called.
  void count(std::uint64_t hash) noexcept;
  unsigned frequency(std::uint64_t hash) const noexcept;

  std::size_t metadata_bytes() const noexcept { return blocks_.capacity() * sizeof(Block); }

 private:
  struct alignas(64) Block {
    std::uint64_t words[8] = {};
  };

  std::size_t block_of(std::uint64_t hash) const noexcept {
    const std::uint64_t upper = hash >> 32U & upper_mask_;
    return upper < blocks_.size() ? upper : upper & (upper_mask_ >> 1U);
  }
  void halve() noexcept;

  std::vector<Block> blocks_;
  std::uint64_t upper_mask_ = 0;  // of the bits that choose among them, or one too many
  std::uint64_t counted_ = 0;
  std::uint64_t sample_ = 0;  // halved when so many are counted
};

}  // namespace forebay::detail
