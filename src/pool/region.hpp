// Region: a stretch of addresses that a pool got from upstream, and the map from its pages to
// extents. The process-wide directory finds the region of an address.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "device/mapping.hpp"
#include "forebay/device.hpp"
#include "pool/extent.hpp"

namespace forebay::detail {

class PoolCore;
class PageHeap;

// Regions start at multiples of this and share none of it with another region. (A region of a
// pool over a pool lies inside one of that pool's, and hides it until it goes.)
inline constexpr std::uint32_t kRegionShift = 21;
inline constexpr std::uint64_t kRegionGrain = 1ULL << kRegionShift;

struct Region {
  // Addresses that are committed piece by piece, or (range empty) a block of upstream's.
  // Throws std::bad_alloc if the map cannot be made.
  Region(PoolCore* a_core, PageHeap* a_heap, std::uint64_t bytes);
  ~Region();
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  // Enters it into the directory. False if the address is beyond what the directory covers.
  bool place(std::uintptr_t at) noexcept;

  std::uintptr_t end() const noexcept { return base + (std::uint64_t{pages} << kPageShift); }
  std::uint32_t page_of(std::uintptr_t address) const noexcept {
    return static_cast<std::uint32_t>((address - base) >> kPageShift);
  }
  // Every extent is here at its first page, slabs at every page, guarded blocks at their guard
  // pages too; other pages name whatever began there last.
  ExtentId& extent_at(std::uintptr_t address) const noexcept {
    return reinterpret_cast<ExtentId*>(map.data())[page_of(address)];
  }

  PoolCore* const core;
  PageHeap* const heap;
  std::uintptr_t base = 0;
  const std::uint32_t pages;
  Mapping map;
  std::unique_ptr<AddressRange> range;
  Region* below = nullptr;  // of a block: the region of the pool that it came from, if it did
  bool closed = false;      // nothing that is free here is taken (but to go upstream)
};

// Makes the directory; false if the process has no addresses for it.
bool prepare_directory() noexcept;

extern std::atomic<Region*>* g_directory;
inline constexpr std::uint64_t kDirectorySize = 1ULL << (48 - kRegionShift);

// Null if no pool has it.
inline Region* region_of(std::uintptr_t address) noexcept {
  const std::uintptr_t index = address >> kRegionShift;
  if (index >= kDirectorySize) [[unlikely]] {
    return nullptr;
  }
  return g_directory[index].load(std::memory_order_acquire);
}

}  // namespace forebay::detail
