// PagedRegion: address space for one of the engine's buffers, charged and committed by pages.
//
// A buffer holds tensors. A fixed tensor is committed whole; a growing one (K or V of a layer)
// only up to the rows that set_rows() asks for. Tensors may share a page: it is counted once.
//
// Invariants:
//   1. the reservation's bytes = pages in runs_ x page size = the range's committed bytes;
//   2. runs_ is sorted, and no two runs touch.
//
// Thread safety: not thread-safe; its engine drives it.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "forebay/budget.hpp"
#include "forebay/device.hpp"

namespace forebay::llama {

// Where the rows of one tensor lie in its buffer. Offsets and sizes in bytes.
struct TensorRows {
  std::uint64_t offset = 0;
  std::uint64_t row_bytes = 0;
  std::uint64_t rows = 0;
};

class PagedRegion {
 public:
  explicit PagedRegion(std::unique_ptr<AddressRange> range) noexcept : range_(std::move(range)) {}

  // The pages go back first, then their charge.
  ~PagedRegion() { range_.reset(); }
  PagedRegion(const PagedRegion&) = delete;
  PagedRegion& operator=(const PagedRegion&) = delete;

  // Who pays from here on. REQUIRES: nothing is committed yet. Errors: those of reserve.
  Status charge_to(Budget& budget);

  // Adds a tensor that is committed whole, now. Errors: memory_refused, and nothing changes.
  Status add_fixed(std::uint64_t offset, std::uint64_t bytes);
  // Adds a tensor that grows; the present number of rows is committed. Errors: as above.
  Status add_growing(const TensorRows& tensor);

  // Commits the first `rows` rows of each growing tensor, no more. Growth is reserved first.
  // Error: memory_refused, and nothing changes. Shrinking cannot fail.
  Status set_rows(std::uint64_t rows);

  // Writes `value` over what is committed.
  void fill(std::uint8_t value) noexcept;

  std::byte* data() const noexcept { return range_->data(); }
  Bytes size() const noexcept { return range_->size(); }
  Bytes committed() const noexcept { return reservation_.bytes(); }

 private:
  struct Run {  // pages [first, last)
    std::uint64_t first = 0;
    std::uint64_t last = 0;
  };
  using Runs = std::vector<Run>;

  std::uint64_t page() const noexcept { return range_->page().count(); }
  Bytes bytes_of(const Runs& runs) const noexcept;
  Runs runs_for(std::uint64_t rows) const;
  static Runs difference(const Runs& from, const Runs& without);
  Status adopt(Runs wanted);
  Status commit_all_of(const Runs& runs);
  void decommit_all_of(const Runs& runs, std::size_t count) noexcept;
  Status add(const TensorRows& tensor, std::vector<TensorRows>& list);

  std::unique_ptr<AddressRange> range_;
  Reservation reservation_;
  std::vector<TensorRows> fixed_;
  std::vector<TensorRows> growing_;
  std::uint64_t rows_ = 0;
  Runs runs_;
};

}  // namespace forebay::llama
