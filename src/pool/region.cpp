#include "pool/region.hpp"

#include <new>

namespace forebay::detail {

std::atomic<Region*>* g_directory = nullptr;

// Reserved for all of the address space at once, one word for every 2 MiB: a gibibyte of
// addresses, of which only the pages that name a region take memory.
bool prepare_directory() noexcept {
  static const bool prepared = [] {
    auto mapped = Mapping::map(Bytes{kDirectorySize * sizeof(std::atomic<Region*>)},
                               Access::read_write, system_page());
    if (!mapped) return false;
    g_directory = reinterpret_cast<std::atomic<Region*>*>(mapped->data());
    mapped->release();  // for as long as the process lives
    return true;
  }();
  return prepared;
}

Region::Region(PoolCore* a_core, PageHeap* a_heap, std::uint64_t bytes)
    : core(a_core), heap(a_heap), pages(static_cast<std::uint32_t>(pages_of(bytes))) {
  auto mapped = map_bookkeeping(Bytes{std::uint64_t{pages} * sizeof(ExtentId)});
  if (!mapped) throw std::bad_alloc{};
  map = std::move(*mapped);
}

bool Region::place(std::uintptr_t at) noexcept {
  const std::uintptr_t last = at + ((std::uint64_t{pages} << kPageShift) - 1);
  if (last >> kRegionShift >= kDirectorySize) return false;
  base = at;
  for (std::uintptr_t i = at >> kRegionShift; i <= last >> kRegionShift; ++i) {
    below = g_directory[i].exchange(this, std::memory_order_acq_rel);
  }
  return true;
}

Region::~Region() {
  if (base == 0) return;
  for (std::uintptr_t i = base >> kRegionShift; i <= (end() - 1) >> kRegionShift; ++i) {
    g_directory[i].store(below, std::memory_order_release);
  }
}

}  // namespace forebay::detail
