// Mapping: the owner of pages that were mapped, or of addresses that were only reserved.
#pragma once

#include <cstddef>
#include <optional>

#include "forebay/bytes.hpp"
#include "forebay/device.hpp"
#include "forebay/status.hpp"

namespace forebay::detail {

enum class Access {
  none,        // addresses only: any touch is a fault
  read_write,  // zeroed pages, taken when written
};

// Granularity of the machine's mappings.
Bytes system_page() noexcept;

class Mapping {
 public:
  Mapping() noexcept = default;
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping() { reset(); }

  // Maps `bytes` (a multiple of system_page()) of private, anonymous memory, aligned to
  // `alignment`. Empty if the system refuses.
  static std::optional<Mapping> map(Bytes bytes, Access access, Bytes alignment) noexcept;

  std::byte* data() const noexcept { return data_; }
  Bytes size() const noexcept { return size_; }
  // Gives up ownership; the caller must unmap() what data() was.
  void release() noexcept;
  void reset() noexcept;

 private:
  Mapping(std::byte* data, Bytes size) noexcept : data_(data), size_(size) {}

  std::byte* data_ = nullptr;
  Bytes size_;
};

// Unmaps whole pages. If the system cannot (unmapping the middle of a merged mapping needs
// one mapping more, and their number is limited), the memory still goes back to it and
// only the addresses stay behind.
void unmap(std::byte* data, Bytes size) noexcept;

// Gives the memory of whole pages back; they read as zero afterwards.
void discard(std::byte* data, Bytes size) noexcept;

// The same by a fresh mapping in their place, which the kernel can join with those beside it:
// what moving had cut into pieces becomes whole. Advice on huge pages is lost. False, and
// nothing changes, if the system is out of mappings.
bool renew(std::byte* data, Bytes size) noexcept;

// Changes who may touch mapped pages; their content stays. False, and nothing changes, if the
// system is out of mappings.
bool set_access(std::byte* data, Bytes size, Access access) noexcept;

// Moves the memory of the pages at `from` to `to`, whose own is given back; the pages at
// `from` stay mapped and read as zero. False, and the memory at `from` stays where it is, if
// the kernel cannot (before Linux 5.7) or is out of mappings.
// REQUIRES: the pages at `from` are of one mapping.
bool move_memory(std::byte* from, std::byte* to, Bytes size) noexcept;

}  // namespace forebay::detail
