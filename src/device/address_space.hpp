// AddressSpace: hands out distinct, aligned addresses that must never be touched.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "device/mapping.hpp"
#include "forebay/bytes.hpp"

namespace forebay::detail {

// First fit over reserved regions; a block given back joins the holes beside it. Reserves another
// region when no hole fits: addresses are plentiful, so a want of holes is never a refusal.
// O(holes) to take, O(log blocks) to give: for simulations, not for speed.
//
// Invariant: blocks and holes tile the regions.
// Thread safety: not thread-safe; its device locks.
class AddressSpace {
 public:
  // Reserves at least `region` bytes at a time.
  explicit AddressSpace(Bytes region) noexcept;

  // An address of `size` free bytes; 0 if the system has no more addresses. Throws
  // std::bad_alloc, and changes nothing, if bookkeeping cannot be allocated.
  // REQUIRES: size > 0; alignment a power of two, at most kMaxAlignment.
  std::uintptr_t take(Bytes size, Bytes alignment);
  // The bytes that were taken at `address`. Aborts if it is not that of a live block.
  Bytes give(std::uintptr_t address) noexcept;

 private:
  using Ranges = std::map<std::uintptr_t, std::uint64_t>;  // start -> length

  bool add_region(Bytes needed);
  std::uintptr_t take_from(Ranges::iterator hole, std::uint64_t size, std::uintptr_t start);

  Bytes region_;
  std::vector<Mapping> regions_;
  Ranges holes_;
  Ranges blocks_;
};

}  // namespace forebay::detail
