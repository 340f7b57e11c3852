#include "device/page_set.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <new>

#include "device/fail_point.hpp"

namespace forebay::detail {
namespace {

using namespace literals;

constexpr std::uint64_t kWordBits = 64;
// Above this a mapping costs less than zeroing: 128 MiB of 4 KiB pages, 64 GiB of huge ones.
constexpr Bytes kMapFrom = 4_KiB + 1_B;

Bytes bits_size(Bytes size, Bytes page) noexcept {
  return 8_B * ((size / page + kWordBits - 1) / kWordBits);
}

Mapping map_bits(Bytes bytes) {
  const auto size = align_up(bytes, system_page());
  if (!size || host_mappings().fails()) throw std::bad_alloc{};
  auto mapping = Mapping::map(*size, Access::read_write, system_page());
  if (!mapping) throw std::bad_alloc{};
  // One bit must not cost 2 MiB. Fails only where there are no huge pages.
  static_cast<void>(::madvise(mapping->data(), size->count(), MADV_NOHUGEPAGE));
  return std::move(*mapping);
}

// Calls visit(word, mask of the wanted bits) from the word of `first` to that of `last - 1`.
template <typename Visit>
void for_each_word(std::uint64_t* bits, std::uint64_t first, std::uint64_t last, Visit visit) {
  while (first < last) {
    const std::uint64_t shift = first % kWordBits;
    const std::uint64_t length = std::min(kWordBits - shift, last - first);
    visit(bits[first / kWordBits], ~std::uint64_t{0} >> (kWordBits - length) << shift);
    first += length;
  }
}

std::uint64_t ones(std::uint64_t word) noexcept {
  return static_cast<std::uint64_t>(std::popcount(word));
}

}  // namespace

PageSet::PageSet(Bytes size, Bytes page) : page_(page) {
  const Bytes bytes = bits_size(size, page);
  if (bytes < kMapFrom) {
    small_ = std::make_unique<std::uint64_t[]>(bytes.count() / 8);
    bits_ = small_.get();
  } else {
    large_ = map_bits(bytes);
    bits_ = reinterpret_cast<std::uint64_t*>(large_.data());
  }
}

std::uint64_t PageSet::pages_in(Bytes offset, Bytes bytes) const noexcept {
  std::uint64_t pages = 0;
  for_each_word(bits_, offset / page_, (offset + bytes) / page_,
                [&](std::uint64_t word, std::uint64_t mask) { pages += ones(word & mask); });
  return pages;
}

Bytes PageSet::missing(Bytes offset, Bytes bytes) const noexcept {
  const std::lock_guard lock{mutex_};
  return bytes - page_ * pages_in(offset, bytes);
}

void PageSet::insert(Bytes offset, Bytes bytes) noexcept {
  std::uint64_t added = 0;
  const std::lock_guard lock{mutex_};
  for_each_word(bits_, offset / page_, (offset + bytes) / page_,
                [&](std::uint64_t& word, std::uint64_t mask) {
                  added += ones(mask & ~word);
                  word |= mask;
                });
  count_.fetch_add(added, std::memory_order_relaxed);
}

// Writes only words that change: an empty set of a large range stays without memory.
Bytes PageSet::erase(Bytes offset, Bytes bytes) noexcept {
  std::uint64_t erased = 0;
  const std::lock_guard lock{mutex_};
  for_each_word(bits_, offset / page_, (offset + bytes) / page_,
                [&](std::uint64_t& word, std::uint64_t mask) {
                  if ((word & mask) == 0) return;
                  erased += ones(word & mask);
                  word &= ~mask;
                });
  count_.fetch_sub(erased, std::memory_order_relaxed);
  return page_ * erased;
}

Bytes PageSet::first_in(Bytes offset, Bytes bytes) const noexcept {
  std::uint64_t page = offset / page_;
  const std::uint64_t last = (offset + bytes) / page_;
  const std::lock_guard lock{mutex_};
  while (page < last) {
    const std::uint64_t rest = bits_[page / kWordBits] >> page % kWordBits;
    if (rest != 0) {
      page += static_cast<std::uint64_t>(std::countr_zero(rest));
      break;
    }
    page += kWordBits - page % kWordBits;
  }
  return page_ * std::min(page, last);
}

}  // namespace forebay::detail
