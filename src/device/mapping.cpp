#include "device/mapping.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <utility>

#include "forebay/check.hpp"

namespace forebay::detail {
namespace {

constexpr int kPrivate = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
constexpr int kReadWrite = PROT_READ | PROT_WRITE;

}  // namespace

Bytes system_page() noexcept {
  static const Bytes page{static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE))};
  return page;
}

Mapping::Mapping(Mapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, Bytes{})) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  if (this == &other) return *this;
  reset();
  data_ = std::exchange(other.data_, nullptr);
  size_ = std::exchange(other.size_, Bytes{});
  return *this;
}

// Maps up to one alignment more than asked and cuts both ends off: mmap itself aligns to
// pages only.
std::optional<Mapping> Mapping::map(Bytes bytes, Access access, Bytes alignment) noexcept {
  const Bytes extra = saturating_sub(alignment, system_page());
  const auto total = checked_add(bytes, extra);
  if (!total) return std::nullopt;
  const int protection = access == Access::none ? PROT_NONE : kReadWrite;
  void* const mapped = ::mmap(nullptr, total->count(), protection, kPrivate, -1, 0);
  if (mapped == MAP_FAILED) return std::nullopt;

  auto* const start = static_cast<std::byte*>(mapped);
  const Bytes address{reinterpret_cast<std::uintptr_t>(start)};
  const Bytes head = align_up(address, alignment).value_or(address) - address;
  const Bytes tail = extra - head;
  if (!head.is_zero()) unmap(start, head);
  if (!tail.is_zero()) unmap(start + (head + bytes).count(), tail);
  return Mapping{start + head.count(), bytes};
}

void Mapping::release() noexcept {
  data_ = nullptr;
  size_ = Bytes{};
}

void Mapping::reset() noexcept {
  if (data_ != nullptr) unmap(data_, size_);
  release();
}

void unmap(std::byte* data, Bytes size) noexcept {
  if (::munmap(data, size.count()) != 0) discard(data, size);
}

// Locked pages refuse MADV_DONTNEED; mapping fresh ones over them does the same.
void discard(std::byte* data, Bytes size) noexcept {
  if (::madvise(data, size.count(), MADV_DONTNEED) == 0) return;
  void* const fresh = ::mmap(data, size.count(), kReadWrite, kPrivate | MAP_FIXED, -1, 0);
  FOREBAY_CHECK(fresh == data, "pages could not be given back to the system");
}

}  // namespace forebay::detail
