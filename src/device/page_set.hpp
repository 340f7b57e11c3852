// PageSet: a set of pages of an address range: which ones are committed.
//
// One bit a page. The bits of a large range are mapped, not allocated, so that a range of
// terabytes takes memory for those bits only that were ever set. Nothing is allocated after
// the constructor: giving back cannot fail.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

#include "device/mapping.hpp"
#include "forebay/bytes.hpp"

namespace forebay::detail {

// Offsets and sizes are multiples of the page, inside the range.
// Cost: 64 pages a step; 1 MiB of 4 KiB pages is four.
// Thread safety: thread-safe; its mutex is held over the bits only.
class PageSet {
 public:
  // Throws std::bad_alloc if the bits cannot be had. A use of host_mappings() if they are mapped.
  PageSet(Bytes size, Bytes page);

  Bytes bytes() const noexcept { return page_ * count_.load(std::memory_order_relaxed); }
  // Bytes of [offset, offset + bytes) that are not in the set.
  Bytes missing(Bytes offset, Bytes bytes) const noexcept;
  void insert(Bytes offset, Bytes bytes) noexcept;
  // Returns the bytes that were in the set.
  Bytes erase(Bytes offset, Bytes bytes) noexcept;
  // Offset of the first page of the set in [offset, offset + bytes); the end if there is none.
  Bytes first_in(Bytes offset, Bytes bytes) const noexcept;

 private:
  std::uint64_t pages_in(Bytes offset, Bytes bytes) const noexcept;

  const Bytes page_;
  mutable std::mutex mutex_;
  std::unique_ptr<std::uint64_t[]> small_;
  Mapping large_;
  std::uint64_t* bits_;                  // guarded by mutex_: small_ or large_
  std::atomic<std::uint64_t> count_{0};  // changed under mutex_
};

}  // namespace forebay::detail
