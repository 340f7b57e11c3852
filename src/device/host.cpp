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
#include "device/mapping.hpp"
#include "device/page_set.hpp"
#include "device/request.hpp"
#include "forebay/check.hpp"

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

Status no_pages(Bytes asked) {
  const auto host = Device::host();
  return does_not_fit(host->name(), asked, host->free(), host->capacity());
}

// Reserved addresses of the host.
//
// All pages can be read and written from the start, and take memory when first written:
// kernels of inference engines read padded rows past the committed ones, which must be
// legal and yield zeroes (the kernel's shared zero page, which is nobody's memory). So
// commit is an account, not a system call; what makes memory come and go is the write and
// the decommit. Huge pages are off, since one of those would make 2 MiB resident for a
// single committed page of 4 KiB.
class HostRange final : public AddressRange {
 public:
  explicit HostRange(Mapping mapping)
      : mapping_(std::move(mapping)), pages_(mapping_.size(), system_page()) {
    if (!mapping_.size().is_zero()) {
      // Fails only on kernels without huge pages, where there is nothing to turn off.
      static_cast<void>(::madvise(mapping_.data(), mapping_.size().count(), MADV_NOHUGEPAGE));
    }
  }

  std::byte* data() const noexcept override { return mapping_.data(); }
  Bytes size() const noexcept override { return mapping_.size(); }
  Bytes committed() const noexcept override { return pages_.committed(); }
  Bytes missing(Bytes offset, Bytes bytes) const noexcept override {
    return pages_.missing(offset, bytes);
  }
  Status adopt(Bytes /*offset*/, AddressRange& /*source*/, Bytes /*source_offset*/,
               Bytes /*bytes*/) override {
    return {Code::unsupported, "not yet"};
  }
  Bytes page() const noexcept override { return system_page(); }

  Status commit(Bytes offset, Bytes bytes) override {
    return refuse_bad_alloc([&]() -> Status {
      if (Status bad = check_pages(*this, offset, bytes); !bad.ok()) return bad;
      if (host_mappings().fails()) return no_pages(pages_.missing(offset, bytes));
      pages_.insert(offset, bytes);
      return {};
    });
  }

  void decommit(Bytes offset, Bytes bytes) noexcept override {
    FOREBAY_CHECK(are_pages(*this, offset, bytes), "decommit of what are not pages of the range");
    if (bytes.is_zero()) return;
    discard(mapping_.data() + offset.count(), bytes);
    pages_.erase(offset, bytes);
  }

 private:
  Mapping mapping_;
  PageSet pages_;
};

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

  Result<std::unique_ptr<AddressRange>> do_reserve_address(
      Bytes bytes, const AddressRangeOptions& /*options*/) override {
    return refuse_bad_alloc([&]() -> Result<std::unique_ptr<AddressRange>> {
      const auto size = align_up(bytes, system_page());
      if (!size) return does_not_fit_addresses(bytes);
      if (size->is_zero()) return std::unique_ptr<AddressRange>{new HostRange{Mapping{}}};
      auto mapping = map_pages(*size, system_page());
      if (!mapping) return does_not_fit_addresses(bytes);
      return std::unique_ptr<AddressRange>{new HostRange{std::move(*mapping)}};
    });
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
