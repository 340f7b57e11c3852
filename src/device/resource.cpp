#include "device/request.hpp"
#include "forebay/check.hpp"
#include "forebay/device.hpp"

namespace forebay {

Result<void*> MemoryResource::allocate(Bytes bytes, Bytes alignment, Stream stream) {
  return detail::refuse_bad_alloc([&]() -> Result<void*> {
    if (Status refused = detail::check_request(name(), bytes, alignment); !refused.ok()) {
      return refused;
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

Bytes MemoryResource::good_size(Bytes bytes, Bytes /*alignment*/) const noexcept { return bytes; }

}  // namespace forebay
