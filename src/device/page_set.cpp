#include "device/page_set.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace forebay::detail {
namespace {

template <typename Bits>
auto pages_of(Bits& bits, Bytes page, Bytes offset, Bytes bytes) noexcept {
  const auto first = bits.begin() + static_cast<std::ptrdiff_t>(offset / page);
  return std::pair{first, first + static_cast<std::ptrdiff_t>(bytes / page)};
}

}  // namespace

Bytes PageSet::missing(Bytes offset, Bytes bytes) const noexcept {
  const auto [first, last] = pages_of(bits_, page_, offset, bytes);
  return page_ * static_cast<std::uint64_t>(std::count(first, last, false));
}

void PageSet::insert(Bytes offset, Bytes bytes) noexcept {
  count_ += missing(offset, bytes) / page_;
  const auto [first, last] = pages_of(bits_, page_, offset, bytes);
  std::fill(first, last, true);
}

Bytes PageSet::erase(Bytes offset, Bytes bytes) noexcept {
  const Bytes erased = bytes - missing(offset, bytes);
  const auto [first, last] = pages_of(bits_, page_, offset, bytes);
  std::fill(first, last, false);
  count_ -= erased / page_;
  return erased;
}

bool are_pages(const AddressRange& range, Bytes offset, Bytes bytes) noexcept {
  const std::uint64_t page = range.page().count();
  return offset.count() % page == 0 && bytes.count() % page == 0 && offset <= range.size() &&
         bytes <= range.size() - offset;
}

Status check_pages(const AddressRange& range, Bytes offset, Bytes bytes) {
  if (are_pages(range, offset, bytes)) return {};
  return {Code::invalid_argument,
          fmt::format("commit of {} B at offset {} B: must be multiples of {} B within {} B",
                      bytes.count(), offset.count(), range.page().count(), range.size().count())};
}

}  // namespace forebay::detail
