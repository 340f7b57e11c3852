#include "device/address_space.hpp"

#include <algorithm>
#include <iterator>

#include "forebay/check.hpp"

namespace forebay::detail {

AddressSpace::AddressSpace(Bytes region) noexcept
    : region_(align_up(region, system_page()).value_or(system_page())) {}

std::uintptr_t AddressSpace::take(Bytes size, Bytes alignment) {
  const auto room = align_up(size, system_page());
  const std::uint64_t mask = alignment.count() - 1;
  for (int attempt = 0; attempt < 2; ++attempt) {
    for (auto hole = holes_.begin(); hole != holes_.end(); ++hole) {
      const std::uintptr_t start = (hole->first + mask) & ~mask;
      const std::uint64_t skipped = start - hole->first;
      if (hole->second < skipped || hole->second - skipped < size.count()) continue;
      return take_from(hole, size.count(), start);
    }
    if (!room || !add_region(*room)) return 0;
  }
  return 0;
}

// The nodes of both maps are made before anything is changed.
std::uintptr_t AddressSpace::take_from(Ranges::iterator hole, std::uint64_t size,
                                       std::uintptr_t start) {
  const std::uint64_t before = start - hole->first;
  const std::uint64_t after = hole->second - before - size;
  Ranges spare;
  spare.emplace(start, size);
  if (before != 0 && after != 0) spare.emplace(start + size, after);

  blocks_.insert(spare.extract(start));
  if (before != 0) {
    hole->second = before;
    if (after != 0) holes_.insert(spare.extract(start + size));
    return start;
  }
  auto rest = holes_.extract(hole);
  if (after == 0) return start;
  rest.key() = start + size;
  rest.mapped() = after;
  holes_.insert(std::move(rest));
  return start;
}

Bytes AddressSpace::give(std::uintptr_t address) noexcept {
  auto block = blocks_.extract(address);
  FOREBAY_CHECK(!block.empty(), "the address is not that of a live block of this device");
  const Bytes size{block.mapped()};
  auto hole = holes_.insert(std::move(block)).position;
  const auto next = std::next(hole);
  if (next != holes_.end() && hole->first + hole->second == next->first) {
    hole->second += next->second;
    holes_.erase(next);
  }
  if (hole == holes_.begin()) return size;
  const auto previous = std::prev(hole);
  if (previous->first + previous->second == hole->first) {
    previous->second += hole->second;
    holes_.erase(hole);
  }
  return size;
}

// Regions are aligned to the largest alignment, so a fresh one always has room for a
// block of its size.
bool AddressSpace::add_region(Bytes needed) {
  auto region = Mapping::map(std::max(needed, region_), Access::none, kMaxAlignment);
  if (!region) region = Mapping::map(needed, Access::none, kMaxAlignment);
  if (!region) return false;
  const auto start = reinterpret_cast<std::uintptr_t>(region->data());
  const Bytes size = region->size();
  regions_.reserve(regions_.size() + 1);
  holes_.emplace(start, size.count());
  regions_.push_back(std::move(*region));
  return true;
}

}  // namespace forebay::detail
