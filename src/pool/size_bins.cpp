#include "pool/size_bins.hpp"

namespace forebay::detail {

void SizeBins::insert(ExtentId id) noexcept {
  Extent& extent = (*extents_)[id];
  const std::uint32_t bin = bin_of(extent.pages);
  const ExtentId head = heads_[bin];
  extent.next = head;
  extent.previous = 0;
  if (head != 0) (*extents_)[head].previous = id;
  heads_[bin] = id;
  words_[bin / 64] |= 1ULL << (bin % 64);
  summary_ |= 1ULL << (bin / 64);
}

void SizeBins::erase(ExtentId id) noexcept {
  const Extent& extent = (*extents_)[id];
  if (extent.next != 0) (*extents_)[extent.next].previous = extent.previous;
  if (extent.previous != 0) {
    (*extents_)[extent.previous].next = extent.next;
    return;
  }
  const std::uint32_t bin = bin_of(extent.pages);
  heads_[bin] = extent.next;
  if (extent.next != 0) return;
  words_[bin / 64] &= ~(1ULL << (bin % 64));
  if (words_[bin / 64] == 0) summary_ &= ~(1ULL << (bin / 64));
}

std::uint32_t SizeBins::first_from(std::uint32_t bin) const noexcept {
  std::uint32_t word = bin / 64;
  if (bin >= kBins) return kBins;
  const std::uint64_t rest = words_[word] & (~0ULL << (bin % 64));
  if (rest != 0) return word * 64 + static_cast<std::uint32_t>(std::countr_zero(rest));
  const std::uint64_t above = word == 63 ? 0 : summary_ & (~0ULL << (word + 1));
  if (above == 0) return kBins;
  word = static_cast<std::uint32_t>(std::countr_zero(above));
  return word * 64 + static_cast<std::uint32_t>(std::countr_zero(words_[word]));
}

// Every extent of a higher bin fits; of its own bin some may. A few are tried: the fit is tighter,
// and the time stays constant.
ExtentId SizeBins::find(std::uint32_t pages) const noexcept {
  constexpr int kTries = 4;
  const std::uint32_t bin = bin_of(pages);
  ExtentId id = heads_[bin];
  for (int i = 0; id != 0 && i < kTries; ++i) {
    if ((*extents_)[id].pages >= pages) return id;
    id = (*extents_)[id].next;
  }
  const std::uint32_t higher = first_from(bin + 1);
  return higher == kBins ? 0 : heads_[higher];
}

ExtentId SizeBins::largest() const noexcept {
  if (summary_ == 0) return 0;
  const auto word = 63U - static_cast<std::uint32_t>(std::countl_zero(summary_));
  const auto bit = 63U - static_cast<std::uint32_t>(std::countl_zero(words_[word]));
  return heads_[word * 64 + bit];
}

}  // namespace forebay::detail
