// Costs and scores as an entry's header keeps them.
#pragma once

#include <bit>
#include <cstdint>

#include "cache/policy.hpp"

namespace forebay::detail {

// Half of a float: seven bits of mantissa are enough for a score.
inline std::uint16_t shortened(float value) noexcept {
  return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);
}
inline float lengthened(std::uint16_t value) noexcept {
  return std::bit_cast<float>(std::uint32_t{value} << 16);
}

// As a header will tell of them: policies are given nothing else, so that they decide the same
// whether they keep what they were told or ask for it later.
inline EntryFacts as_kept(EntryFacts facts) noexcept {
  facts.cost = lengthened(shortened(facts.cost));
  facts.utility = lengthened(shortened(facts.utility));
  return facts;
}

}  // namespace forebay::detail
