// PageSet: which pages of an address range are committed. One bit a page, made once, so
// that giving back allocates nothing.
#pragma once

#include <cstddef>
#include <vector>

#include "forebay/bytes.hpp"
#include "forebay/device.hpp"
#include "forebay/status.hpp"

namespace forebay::detail {

class PageSet {
 public:
  PageSet(Bytes size, Bytes page) : page_(page), bits_(size / page) {}

  Bytes committed() const noexcept { return page_ * count_; }
  // Bytes of [offset, offset + bytes) that are not in the set.
  Bytes missing(Bytes offset, Bytes bytes) const noexcept;
  void insert(Bytes offset, Bytes bytes) noexcept;
  // Returns the bytes that were in the set.
  Bytes erase(Bytes offset, Bytes bytes) noexcept;

 private:
  Bytes page_;
  std::vector<bool> bits_;
  std::size_t count_ = 0;
};

// invalid_argument unless [offset, offset + bytes) is whole pages inside the range.
Status check_pages(const AddressRange& range, Bytes offset, Bytes bytes);
bool are_pages(const AddressRange& range, Bytes offset, Bytes bytes) noexcept;

}  // namespace forebay::detail
