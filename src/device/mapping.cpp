#include "device/mapping.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <utility>

#include "device/fail_point.hpp"
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
  FOREBAY_CHECK(renew(data, size), "pages could not be given back to the system");
}

bool set_access(std::byte* data, Bytes size, Access access) noexcept {
  if (access == Access::none && host_mappings().fails()) return false;
  return ::mprotect(data, size.count(), access == Access::none ? PROT_NONE : kReadWrite) == 0;
}

bool renew(std::byte* data, Bytes size) noexcept {
  return ::mmap(data, size.count(), kReadWrite, kPrivate | MAP_FIXED, -1, 0) == data;
}

// With MREMAP_DONTUNMAP the addresses at `from` are never free for another thread to take.
//
// Those at `to` can be, if the kernel unmaps them and only then finds that this process may
// have no more mappings (ENOMEM): they are mapped again at once. Should another thread map
// something there in that microsecond, nothing here can tell; a mapping at a place of its own
// choosing while there are none to be had is what it takes.
bool move_memory(std::byte* from, std::byte* to, Bytes size) noexcept {
  constexpr int kMove = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
  const std::size_t bytes = size.count();
  if (::mremap(from, bytes, bytes, kMove, to) == to) return true;
  if (errno == EINVAL) return false;  // a kernel without DONTUNMAP looks at the flags first
  void* const again = ::mmap(to, bytes, kReadWrite, kPrivate | MAP_FIXED_NOREPLACE, -1, 0);
  FOREBAY_CHECK(again == to || (again == MAP_FAILED && errno == EEXIST),
                "addresses of a range were lost while memory was moved to them");
  return false;
}

}  // namespace forebay::detail
