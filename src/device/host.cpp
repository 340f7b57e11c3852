// The host: the process's own memory.
//
// Small blocks come from operator new. Blocks from 1 MiB on, and those aligned to more
// than a page, are mappings of their own: they go back to the system at once and take
// whole pages, no more. All blocks arrive zeroed (by the kernel, or by memset where
// operator new may hand out what another tenant left there).
#include "device/host.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <new>
#include <optional>
#include <string_view>
#include <utility>

#include "device/fail_point.hpp"
#include "device/host_range.hpp"
#include "device/mapping.hpp"
#include "device/request.hpp"

namespace forebay::detail {
namespace {

using namespace literals;

// A mapping costs a system call or two and a fault a page, about 0.25 ms at 1 MiB; below
// that, reuse inside the process is worth more than giving back at once.
constexpr Bytes kMapFrom = 1_MiB;

bool is_mapped(Bytes bytes, Bytes alignment) noexcept {
  return bytes >= kMapFrom || alignment > system_page();
}

// glibc keeps 8 bytes beside a block, rounds to 16 and takes 32 at least; for an alignment it
// cuts the block out of one that is larger by as much, and blocks of its own mappings take
// whole pages.
Bytes heap_size(Bytes bytes, Bytes alignment) noexcept {
  constexpr Bytes kOwnMappings = 128_KiB;
  const Bytes slack = alignment > kDefaultAlignment ? alignment : Bytes{};
  const Bytes grain = bytes + slack >= kOwnMappings ? system_page() : 16_B;
  return std::max(32_B, align_up(bytes + slack + 8_B, grain).value_or(Bytes::unlimited()));
}

void* heap_allocate(Bytes bytes, Bytes alignment) noexcept {
  const auto size = static_cast<std::size_t>(bytes.count());
  void* const block =
      alignment <= kDefaultAlignment
          ? ::operator new(size, std::nothrow)
          : ::operator new (size, std::align_val_t{alignment.count()}, std::nothrow);
  if (block != nullptr) std::memset(block, 0, size);
  return block;
}

void heap_deallocate(void* block, Bytes alignment) noexcept {
  if (alignment <= kDefaultAlignment) return ::operator delete(block);
  ::operator delete (block, std::align_val_t{alignment.count()});
}

Bytes physical_memory() noexcept {
  return system_page() * static_cast<std::uint64_t>(std::max(0L, ::sysconf(_SC_PHYS_PAGES)));
}

constexpr std::string_view kAvailableKey = "MemAvailable:";

// "MemAvailable:   12345 kB", the kernel's estimate of what can be had without swapping.
std::optional<Bytes> parse_available(std::string_view meminfo) noexcept {
  const auto at = meminfo.find(kAvailableKey);
  if (at == std::string_view::npos) return std::nullopt;
  meminfo.remove_prefix(at + kAvailableKey.size());
  meminfo.remove_prefix(std::min(meminfo.find_first_not_of(' '), meminfo.size()));
  std::uint64_t kib = 0;
  const auto parsed = std::from_chars(meminfo.data(), meminfo.data() + meminfo.size(), kib);
  if (parsed.ec != std::errc{}) return std::nullopt;
  return checked_mul(1_KiB, kib);
}

// Reads without allocating: free() is asked when memory is scarce.
std::optional<Bytes> available_memory() noexcept {
  const int file = ::open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
  if (file < 0) return std::nullopt;
  std::array<char, 1024> text{};
  const ssize_t length = ::read(file, text.data(), text.size());
  ::close(file);
  if (length <= 0) return std::nullopt;
  return parse_available({text.data(), static_cast<std::size_t>(length)});
}

std::optional<Mapping> map_pages(Bytes bytes, Bytes alignment) noexcept {
  if (host_mappings().fails()) return std::nullopt;
  return Mapping::map(bytes, Access::read_write, alignment);
}

class HostDevice final : public Device {
 public:
  std::string_view name() const noexcept override { return "host"; }
  DeviceKind kind() const noexcept override { return DeviceKind::host; }
  bool host_accessible() const noexcept override { return true; }
  bool allocates_zeroed() const noexcept override { return true; }

  Bytes capacity() const noexcept override { return capacity_; }
  Bytes free() const noexcept override {
    if (const auto available = available_memory()) return std::min(*available, capacity_);
    return system_page() * static_cast<std::uint64_t>(std::max(0L, ::sysconf(_SC_AVPHYS_PAGES)));
  }

  Bytes good_size(Bytes bytes, Bytes alignment) const noexcept override {
    if (bytes.is_zero()) return bytes;
    if (!is_mapped(bytes, alignment)) return heap_size(bytes, alignment);
    return align_up(bytes, system_page()).value_or(Bytes::unlimited());
  }

 private:
  // The kernel may promise more than the machine has; what exceeds it can never be kept.
  Result<void*> do_allocate(Bytes bytes, Bytes alignment, Stream /*stream*/) override {
    if (bytes > capacity_) return does_not_fit(name(), bytes, free(), capacity_);
    if (!is_mapped(bytes, alignment)) {
      void* const block = heap_allocate(bytes, alignment);
      if (block == nullptr) return does_not_fit(name(), bytes, free(), capacity_);
      return block;
    }
    auto mapping = map_pages(good_size(bytes, alignment), alignment);
    if (!mapping) return does_not_fit(name(), bytes, free(), capacity_);
    void* const block = mapping->data();
    mapping->release();
    return block;
  }

  void do_deallocate(void* block, Bytes bytes, Bytes alignment,
                     Stream /*stream*/) noexcept override {
    if (!is_mapped(bytes, alignment)) return heap_deallocate(block, alignment);
    unmap(static_cast<std::byte*>(block), good_size(bytes, alignment));
  }

  // Aligned so that the kernel can use huge pages, and move page tables whole.
  Result<std::unique_ptr<AddressRange>> do_reserve_address(
      Bytes bytes, const AddressRangeOptions& options) override {
    const Bytes page = host_range_page(options);
    const auto size = align_up(bytes, page);
    if (!size) return does_not_fit_addresses(bytes);
    Mapping mapping;
    if (!size->is_zero()) {
      auto mapped = map_pages(*size, *size < kMaxAlignment ? page : kMaxAlignment);
      if (!mapped) return does_not_fit_addresses(bytes);
      mapping = std::move(*mapped);
    }
    return make_host_range(std::move(mapping), options);
  }

  static Status does_not_fit_addresses(Bytes bytes) {
    return {Code::memory_refused,
            fmt::format("host: this process has no {} of addresses left", to_string(bytes))};
  }

  const Bytes capacity_ = physical_memory();
};

}  // namespace

FailPoint& host_mappings() noexcept {
  static FailPoint point;
  return point;
}

std::shared_ptr<Device> make_host_device() { return std::make_shared<HostDevice>(); }

}  // namespace forebay::detail
