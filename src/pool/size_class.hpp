// Size classes of small blocks: which exist, which serves a request, and the slab that each
// is cut from.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace forebay::detail {

using SizeClass = std::uint8_t;

inline constexpr std::uint32_t kPageShift = 12;
inline constexpr std::uint64_t kPage = 1ULL << kPageShift;  // of the pool, in bytes

// Multiples of 16 B up to 128 B, then eight classes a doubling: a block is less than an
// eighth larger than what was asked.
inline constexpr std::uint64_t kSmallGrain = 16;
inline constexpr std::uint64_t kEvenlySpaced = 128;
inline constexpr std::uint64_t kSmallMax = 32ULL << 10;
inline constexpr SizeClass kSmallClasses = 72;

// REQUIRES: 0 < bytes <= kSmallMax.
constexpr SizeClass class_of(std::uint64_t bytes) noexcept {
  if (bytes <= kEvenlySpaced) return static_cast<SizeClass>((bytes - 1) / kSmallGrain);
  const std::uint64_t last = bytes - 1;
  const auto log = static_cast<std::uint32_t>(std::bit_width(last)) - 1;
  return static_cast<SizeClass>(8 + (log - 7) * 8 + ((last >> (log - 3)) & 7));
}

constexpr std::uint64_t class_bytes(SizeClass size_class) noexcept {
  if (size_class < 8) return (size_class + 1U) * kSmallGrain;
  const std::uint32_t above = size_class - 8U;
  return (9ULL + above % 8) << (above / 8 + 4);
}

// What is worth knowing of a class before it is used.
struct ClassLayout {
  std::uint32_t bytes = 0;       // of a block
  std::uint32_t slab_pages = 0;  // of a slab
  std::uint32_t slab_blocks = 0;
  std::uint64_t inverse = 0;  // see block_at()
};

// The smallest slab, of 64 KiB steps up to 256 KiB, that holds eight blocks and wastes at most a
// 32nd at its end; failing that, the one that wastes the least.
constexpr ClassLayout layout_of(SizeClass size_class) noexcept {
  constexpr std::uint64_t kStep = 16;
  const std::uint64_t bytes = class_bytes(size_class);
  std::uint64_t best = 0;
  std::uint64_t best_waste = 0;
  for (std::uint64_t pages = kStep; pages <= 4 * kStep; pages += kStep) {
    const std::uint64_t size = pages * kPage;
    const std::uint64_t waste = size % bytes;
    if (best * kPage / bytes < 8 || waste * best < best_waste * pages) {
      best = pages;
      best_waste = waste;
    }
    if (size / bytes >= 8 && waste * 32 <= size) break;
  }
  return {static_cast<std::uint32_t>(bytes), static_cast<std::uint32_t>(best),
          static_cast<std::uint32_t>(best * kPage / bytes), (1ULL << 40) / bytes + 1};
}

inline constexpr auto kClasses = [] {
  std::array<ClassLayout, kSmallClasses> classes{};
  for (SizeClass c = 0; c < kSmallClasses; ++c) classes[c] = layout_of(c);
  return classes;
}();

// The block of a slab that `offset` (bytes from its start) lies in: a division by the size of
// the block, as a multiplication. Exact, for offset * bytes < 2^40.
constexpr std::uint32_t block_at(const ClassLayout& layout, std::uint64_t offset) noexcept {
  return static_cast<std::uint32_t>((offset * layout.inverse) >> 40);
}

// The smallest class from class_of(bytes) on whose blocks are all aligned to 2^log. Slabs start
// at a page, so alignments up to a page can be had.
inline constexpr auto kAlignedClasses = [] {
  std::array<std::array<SizeClass, kSmallClasses>, kPageShift + 1> table{};
  for (std::uint32_t log = 0; log <= kPageShift; ++log) {
    for (SizeClass c = 0; c < kSmallClasses; ++c) {
      SizeClass aligned = c;
      while (class_bytes(aligned) % (1ULL << log) != 0) ++aligned;
      table[log][c] = aligned;
    }
  }
  return table;
}();

// REQUIRES: 0 < bytes <= kSmallMax; alignment a power of two, at most a page.
constexpr SizeClass class_of(std::uint64_t bytes, std::uint64_t alignment) noexcept {
  const SizeClass unaligned = class_of(bytes);
  if (alignment <= kSmallGrain) return unaligned;
  return kAlignedClasses[static_cast<std::uint32_t>(std::countr_zero(alignment))][unaligned];
}

// Small blocks come from slabs, all others are runs of pages.
constexpr bool is_small(std::uint64_t bytes, std::uint64_t alignment) noexcept {
  return bytes <= kSmallMax && alignment <= kPage;
}

constexpr std::uint64_t pages_of(std::uint64_t bytes) noexcept {
  return (bytes + kPage - 1) >> kPageShift;
}

}  // namespace forebay::detail
