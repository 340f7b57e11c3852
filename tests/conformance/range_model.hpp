// The naive model of an address range: for each page whether it is committed and what it holds.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <optional>
#include <vector>

#include "forebay/device.hpp"

namespace forebay::conformance {

// Does everything twice, on a range and on a list of its pages, and compares. Pages hold a byte
// of their own at both ends and in the middle; where the CPU does not reach, only the counts
// are compared.
// Thread safety: none; but several models may stand for disjoint stretches of one range, each of
// a thread.
class RangeModel {
 public:
  // Of the pages [first, first + count) of the range.
  RangeModel(AddressRange& range, bool readable, std::size_t first, std::size_t count)
      : range_(range), readable_(readable), first_(first), pages_(count) {}
  RangeModel(AddressRange& range, bool readable)
      : RangeModel(range, readable, 0, range.size() / range.page()) {}

  std::size_t size() const { return pages_.size(); }

  Status commit(std::size_t page, std::size_t count) {
    Status status = range_.commit(offset(page), range_.page() * count);
    if (!status.ok()) return status;
    for (std::size_t i = page; i < page + count; ++i) {
      if (!pages_[i]) pages_[i] = 0;
    }
    return status;
  }

  void decommit(std::size_t page, std::size_t count) {
    range_.decommit(offset(page), range_.page() * count);
    for (std::size_t i = page; i < page + count; ++i) pages_[i].reset();
  }

  // Writes those pages that are committed.
  void write(std::size_t page, std::size_t count, unsigned char value) {
    for (std::size_t i = page; i < page + count; ++i) {
      if (!pages_[i]) continue;
      pages_[i] = value;
      if (readable_) {
        for (std::byte* const place : places(i)) *place = std::byte{value};
      }
    }
  }

  Status adopt(std::size_t page, RangeModel& source, std::size_t source_page, std::size_t count) {
    const bool may = allows(page, source, source_page, count);
    Status status = range_.adopt(offset(page), source.range_, source.offset(source_page),
                                 range_.page() * count);
    EXPECT_EQ(status.code() == Code::invalid_argument, !may) << status.message();
    if (!status.ok()) return status;
    for (std::size_t i = 0; i < count; ++i) {
      pages_[page + i] = source.pages_[source_page + i];
      source.pages_[source_page + i].reset();
    }
    return status;
  }

  void check() const { EXPECT_TRUE(matches()) << "pages are not as they were left"; }

  // Compares page by page.
  bool matches() const {
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < pages_.size(); ++i) {
      const Bytes absent = range_.missing(offset(i), range_.page());
      if (absent != (pages_[i] ? Bytes{} : range_.page())) ++wrong;
      if (!readable_) continue;
      for (const std::byte* const place : places(i)) {
        if (*place != std::byte{pages_[i].value_or(0)}) ++wrong;
      }
    }
    return wrong == 0;
  }
  Bytes committed() const {
    Bytes bytes;
    for (const auto& page : pages_) {
      if (page) bytes += range_.page();
    }
    return bytes;
  }

 private:
  bool allows(std::size_t page, const RangeModel& source, std::size_t source_page,
              std::size_t count) const {
    for (std::size_t i = 0; i < count; ++i) {
      if (pages_[page + i] || !source.pages_[source_page + i]) return false;
    }
    return true;
  }

  Bytes offset(std::size_t page) const { return range_.page() * (first_ + page); }

  std::array<std::byte*, 3> places(std::size_t page) const {
    std::byte* const start = range_.data() + offset(page).count();
    const std::uint64_t size = range_.page().count();
    return {start, start + size / 2, start + size - 1};
  }

  AddressRange& range_;
  const bool readable_;
  const std::size_t first_;
  std::vector<std::optional<unsigned char>> pages_;  // the byte it holds; empty: not committed
};

}  // namespace forebay::conformance
