#include "pool/record_table.hpp"

#include <sys/mman.h>

namespace forebay::detail {

std::optional<Mapping> map_bookkeeping(Bytes bytes) noexcept {
  const Bytes size = whole_pages(bytes);
  auto mapped = Mapping::map(size, Access::read_write, kMaxAlignment);
  if (mapped && size > kMaxAlignment) {
    // Without huge pages it is only slower.
    static_cast<void>(::madvise(mapped->data() + kMaxAlignment.count(),
                                (size - kMaxAlignment).count(), MADV_HUGEPAGE));
  }
  return mapped;
}

}  // namespace forebay::detail
