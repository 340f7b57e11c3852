// Size classes: eight a doubling, from 64 bytes up.
#pragma once

#include <bit>

#include "forebay/bytes.hpp"

namespace forebay::detail {

inline constexpr Bytes kSmallestClass{64};

// The size of the class that serves `bytes`: below 64 bytes 64, else less than an eighth
// more than asked. Between 2^k and 2^(k+1) classes are 2^(k-3) apart, and that step is
// less than an eighth of every size there. Saturates at unlimited.
constexpr Bytes class_size(Bytes bytes) noexcept {
  if (bytes <= kSmallestClass) return kSmallestClass;
  const auto doubling = std::bit_width(bytes.count() - 1) - 1;
  return align_up(bytes, Bytes{1ULL << (doubling - 3)}).value_or(Bytes::unlimited());
}

}  // namespace forebay::detail
