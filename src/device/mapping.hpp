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

}  // namespace forebay::detail
