// ReservedArray: an array whose elements never move. Addresses for all of them are reserved at
// once; memory comes when an element is first written, as zeroes.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <new>
#include <optional>

#include "device/mapping.hpp"

namespace forebay::detail {

// Thread safety: that of the elements.
template <typename T>
class ReservedArray {
 public:
  // Throws std::bad_alloc if the process has no such addresses left.
  explicit ReservedArray(std::uint64_t size) : size_(size) {
    const Bytes bytes = align_up(Bytes{size * sizeof(T)}, system_page()).value_or(Bytes{});
    auto mapped = Mapping::map(bytes, Access::read_write, kMaxAlignment);
    if (!mapped) throw std::bad_alloc{};
    // Beyond what a small cache needs, huge pages: a look-up misses the TLB otherwise.
    if (bytes > kMaxAlignment) {
      static_cast<void>(::madvise(mapped->data() + kMaxAlignment.count(),
                                  (bytes - kMaxAlignment).count(), MADV_HUGEPAGE));
    }
    memory_ = std::move(*mapped);
    data_ = reinterpret_cast<T*>(memory_.data());
  }

  std::uint64_t size() const noexcept { return size_; }
  T* data() const noexcept { return data_; }
  T& operator[](std::uint64_t index) const noexcept { return data_[index]; }
  // Gives the pages that lie wholly in [from, to) back: their elements are zeroes again.
  void discard(std::uint64_t from, std::uint64_t to) noexcept {
    const std::uint64_t page = system_page().count();
    const std::uint64_t begin = (from * sizeof(T) + page - 1) / page * page;
    const std::uint64_t end = to * sizeof(T) / page * page;
    if (begin < end) detail::discard(memory_.data() + begin, Bytes{end - begin});
  }

 private:
  std::uint64_t size_;
  Mapping memory_;
  T* data_ = nullptr;
};

}  // namespace forebay::detail
