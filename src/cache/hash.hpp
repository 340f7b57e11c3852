// Mixing of keys, and the small random numbers of the policies that draw.
#pragma once

#include <cstdint>

namespace forebay::detail {

// splitmix64 (Steele, Lea, Flood, OOPSLA 2014). A bijection: equal hashes are equal keys.
constexpr std::uint64_t mix_key(std::uint64_t key) noexcept {
  key += 0x9e3779b97f4a7c15ULL;
  key = (key ^ (key >> 30U)) * 0xbf58476d1ce4e5b9ULL;
  key = (key ^ (key >> 27U)) * 0x94d049bb133111ebULL;
  return key ^ (key >> 31U);
}

// Good enough to pick victims with, one multiplication chain a number. Thread safety: none.
class SmallRandom {
 public:
  explicit constexpr SmallRandom(std::uint64_t seed) noexcept : state_(seed) {}

  constexpr std::uint64_t next() noexcept {
    const std::uint64_t state = state_;
    state_ += 0x9e3779b97f4a7c15ULL;
    return mix_key(state);
  }
  // From [0, bound) without a division (Lemire 2019; its bias of bound / 2^32 does not matter
  // here). REQUIRES: bound > 0.
  constexpr std::uint32_t below(std::uint32_t bound) noexcept {
    return static_cast<std::uint32_t>(((next() >> 32U) * bound) >> 32U);
  }

 private:
  std::uint64_t state_;
};

}  // namespace forebay::detail
