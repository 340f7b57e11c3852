#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "device/request.hpp"
#include "forebay/check.hpp"
#include "forebay/device.hpp"

namespace forebay {

Result<void*> MemoryResource::allocate(Bytes bytes, Bytes alignment, Stream stream) {
  return detail::refuse_bad_alloc([&]() -> Result<void*> {
    if (!detail::is_alignment(alignment) || bytes > detail::kLargestRequest) [[unlikely]] {
      return detail::check_request(name(), bytes, alignment);
    }
    if (bytes.is_zero()) return static_cast<void*>(nullptr);
    return do_allocate(bytes, alignment, stream);
  });
}

void MemoryResource::deallocate(void* block, Bytes bytes, Bytes alignment, Stream stream) noexcept {
  if (block == nullptr) return;
  FOREBAY_CHECK(!bytes.is_zero(), "a block of zero bytes is nullptr");
  do_deallocate(block, bytes, alignment, stream);
}

Result<std::unique_ptr<AddressRange>> MemoryResource::reserve_address(
    Bytes bytes, const AddressRangeOptions& options) {
  return detail::refuse_bad_alloc([&]() -> Result<std::unique_ptr<AddressRange>> {
    const Bytes page = options.page;
    if (!page.is_zero() && (!std::has_single_bit(page.count()) || page > kMaxAlignment)) {
      return Status{Code::invalid_argument,
                    fmt::format("{}: page of {} B is not allowed; it must be a power of two, at "
                                "most 2 MiB",
                                name(), page.count())};
    }
    return do_reserve_address(bytes, options);
  });
}

Result<std::unique_ptr<AddressRange>> MemoryResource::do_reserve_address(
    Bytes /*bytes*/, const AddressRangeOptions& /*options*/) {
  return Status{Code::unsupported, fmt::format("{}: has no virtual-memory management", name())};
}

void MemoryResource::stream_wait(Stream /*waiter*/, Stream /*earlier*/) noexcept {}

void MemoryResource::zero(void* data, Bytes bytes, Stream /*stream*/) noexcept {
  FOREBAY_CHECK(host_accessible(), "a resource that the CPU does not reach must override zero()");
  std::memset(data, 0, bytes.count());
}

void MemoryResource::copy(void* to, const void* from, Bytes bytes, Stream /*stream*/) noexcept {
  FOREBAY_CHECK(host_accessible(), "a resource that the CPU does not reach must override copy()");
  std::memcpy(to, from, bytes.count());
}

Bytes MemoryResource::good_size(Bytes bytes, Bytes /*alignment*/) const noexcept { return bytes; }

}  // namespace forebay
