// SizeBins: free extents by size, the smallest that fits in constant time.
//
// Two levels of bins, linear within each doubling, and a bitmap of those that are not empty
// (Masmano et al., "TLSF: a new dynamic memory allocator for real-time systems", ECRTS 2004).
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "pool/extent.hpp"

namespace forebay::detail {

// Thread safety: not thread-safe; the pool locks.
class SizeBins {
 public:
  explicit SizeBins(ExtentTable& extents) noexcept : extents_(&extents) {}

  void insert(ExtentId id) noexcept;
  void erase(ExtentId id) noexcept;
  // One of at least `pages`, of the smallest bin that has one for sure; 0 if there is none.
  ExtentId find(std::uint32_t pages) const noexcept;
  // The first, from the bin of `pages` on, that `fits(id)`; 0 if none does. Looks at all.
  template <typename Fits>
  ExtentId find_if(std::uint32_t pages, Fits fits) const noexcept {
    for (std::uint32_t bin = first_from(bin_of(pages)); bin != kBins; bin = first_from(bin + 1)) {
      for (ExtentId id = heads_[bin]; id != 0; id = (*extents_)[id].next) {
        if (fits(id)) return id;
      }
    }
    return 0;
  }
  // The first of the largest that is not empty; 0 if all are. Follow `next` for more of its bin.
  ExtentId largest() const noexcept;
  bool empty() const noexcept { return summary_ == 0; }

 private:
  // Exact up to 32 pages, then 16 bins a doubling.
  static constexpr std::uint32_t kExact = 32;
  static constexpr std::uint32_t kBins = kExact + 16 * 27;
  static constexpr std::uint32_t kWords = (kBins + 63) / 64;

  static constexpr std::uint32_t bin_of(std::uint32_t pages) noexcept {
    if (pages < kExact) return pages;
    const auto log = static_cast<std::uint32_t>(std::bit_width(pages)) - 1;
    return kExact + (log - 5) * 16 + ((pages >> (log - 4)) & 15);
  }
  std::uint32_t first_from(std::uint32_t bin) const noexcept;

  ExtentTable* extents_;
  std::uint64_t summary_ = 0;  // bit i: words_[i] is not zero
  std::array<std::uint64_t, kWords> words_{};
  std::array<ExtentId, kBins> heads_{};
};

}  // namespace forebay::detail
