#include "pool/thread_cache.hpp"

#include <algorithm>

namespace forebay::detail {
namespace {

constexpr std::uint32_t kMostBlocks = 64;  // of a class

std::uint32_t capacity_of(SizeClass size_class, std::uint64_t bytes) noexcept {
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(kMostBlocks, bytes / kClasses[size_class].bytes));
}

}  // namespace

std::uint64_t ThreadCache::bytes_needed() noexcept {
  return sizeof(ThreadCache) + std::uint64_t{kSmallClasses} * kMostBlocks * sizeof(SmallBlock) +
         kMaxContexts * sizeof(TagCounters);
}

void ThreadCache::set_up(std::uint64_t bytes_a_class, std::uint64_t bytes_of_large) noexcept {
  large_limit = bytes_of_large;
  keeps = bytes_of_large;
  auto* blocks = reinterpret_cast<SmallBlock*>(this + 1);
  for (SizeClass c = 0; c < kSmallClasses; ++c) {
    bins[c].blocks = blocks;
    bins[c].capacity = capacity_of(c, bytes_a_class);
    keeps += std::uint64_t{bins[c].capacity} * kClasses[c].bytes;
    blocks += kMostBlocks;
  }
  tags = reinterpret_cast<TagCounters*>(blocks);
}

}  // namespace forebay::detail
