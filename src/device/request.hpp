// What every resource checks and says about a request.
#pragma once

#include <new>
#include <string_view>

#include "forebay/bytes.hpp"
#include "forebay/device.hpp"
#include "forebay/status.hpp"

namespace forebay::detail {

// No object may be larger than a pointer difference can tell. Above this nothing needs to
// be asked, and below it rounding to any alignment or size class cannot overflow.
inline constexpr Bytes kLargestRequest{(1ULL << 63) - 1};

// (x & (x - 1): a population count is a call on the oldest machines that this runs on.)
constexpr bool is_alignment(Bytes alignment) noexcept {
  const std::uint64_t bits = alignment.count();
  return bits - 1 < kMaxAlignment.count() && (bits & (bits - 1)) == 0;
}

// Errors: invalid_argument (alignment), memory_refused (more than kLargestRequest).
Status check_request(std::string_view resource, Bytes bytes, Bytes alignment);

// "gpu0: asked 2 GiB, 1 GiB free of 40 GiB"
Status does_not_fit(std::string_view resource, Bytes asked, Bytes free, Bytes capacity);

// Whether [offset, offset + bytes) is whole pages inside the range.
bool are_pages(const AddressRange& range, Bytes offset, Bytes bytes) noexcept;
// invalid_argument unless they are. `verb`: what was to be done with them.
Status check_pages(std::string_view verb, const AddressRange& range, Bytes offset, Bytes bytes);
// invalid_argument unless all pages of `source` are committed and none of `range` is.
Status check_adoption(const AddressRange& range, Bytes offset, const AddressRange& source,
                      Bytes source_offset, Bytes bytes);
// The refusal of a `source` that is of another resource.
Status foreign_source(std::string_view resource);

// The refusal for when the process cannot even allocate bookkeeping. Made when the library
// is loaded: handing it out allocates nothing.
const Status& out_of_host_memory() noexcept;

// What `operation` returns; a Status if it threw for want of memory.
template <typename Operation>
auto refuse_bad_alloc(Operation operation) -> decltype(operation()) {
  try {
    return operation();
  } catch (const MemoryRefused& refused) {
    return refused.status();
  } catch (const std::bad_alloc&) {
    return out_of_host_memory();
  }
}

}  // namespace forebay::detail
