// What the reader of call frame information is made of: a cursor over bytes that may be damaged,
// and the programs that it finds.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "track/cfi.hpp"

namespace forebay::detail::cfi {

// Encodings of pointers (LSB 5.0, 10.5).
inline constexpr std::uint8_t kOmitted = 0xff;
inline constexpr std::uint8_t kRelativeToPlace = 0x10;
inline constexpr std::uint8_t kRelativeToHeader = 0x30;
inline constexpr std::uint8_t kIndirect = 0x80;

// DWARF's numbers.
inline constexpr std::uint64_t kFp = 6;
inline constexpr std::uint64_t kSp = 7;
inline constexpr std::uint64_t kReturnAddress = 16;

// Reads forward between two addresses. What cannot be read is zero, and ok() is false from then on.
class Cursor {
 public:
  Cursor(std::uintptr_t at, std::uintptr_t end) noexcept : at_(at), end_(end) {
    if (at > end) fail();
  }
  bool ok() const noexcept { return ok_; }
  bool at_end() const noexcept { return !ok_ || at_ == end_; }
  std::uintptr_t at() const noexcept { return at_; }
  std::uintptr_t end() const noexcept { return end_; }
  void fail() noexcept { ok_ = false; }

  template <typename T>
  T get() noexcept {
    T value{};
    if (!have(sizeof(T))) return value;
    std::memcpy(&value, buffer_.data() + (at_ - from_), sizeof(T));
    at_ += sizeof(T);
    return value;
  }
  std::uint8_t byte() noexcept { return get<std::uint8_t>(); }
  void skip(std::uint64_t bytes) noexcept {
    if (bytes > end_ - at_) return fail();
    at_ += bytes;
  }
  // LEB128. Bits beyond the 64th are dropped; longer than any that is meant: an error.
  std::uint64_t uleb() noexcept { return leb().first; }
  std::int64_t sleb() noexcept {
    auto [value, bits] = leb();
    const bool negative = bits != 0 && bits < 64 && ((value >> (bits - 1)) & 1) != 0;
    if (negative) value |= ~0ULL << bits;
    return static_cast<std::int64_t>(value);
  }
  std::uint64_t pointer(std::uint8_t encoding, std::uintptr_t header) noexcept;

 private:
  struct Leb {
    std::uint64_t first;
    unsigned bits;
  };
  Leb leb() noexcept {
    Leb read{0, 0};
    for (unsigned i = 0; i < 10; ++i) {
      const std::uint8_t next = byte();
      read.first |= static_cast<std::uint64_t>(next & 0x7f) << read.bits;
      read.bits += 7;
      if ((next & 0x80) == 0) return read;
      if (read.bits > 63) break;
    }
    fail();
    return read;
  }
  bool have(std::size_t bytes) noexcept {
    if (!ok_ || bytes > end_ - at_) {
      fail();
      return false;
    }
    if (at_ >= from_ && at_ + bytes <= from_ + filled_) return true;
    from_ = at_;
    filled_ = std::min<std::size_t>(buffer_.size(), end_ - at_);
    if (!read_memory(from_, buffer_.data(), filled_)) fail();
    return ok_;
  }

  std::uintptr_t at_;
  std::uintptr_t end_;
  std::uintptr_t from_ = 0;  // what the buffer holds
  std::size_t filled_ = 0;
  bool ok_ = true;
  std::array<std::byte, 96> buffer_;
};

struct Cie {
  std::uint64_t code_alignment = 0;
  std::int64_t data_alignment = 0;
  std::uint8_t pointer_encoding = 0;
  bool sized = false;   // augmentation data say how long they are
  bool signal = false;  // of a frame that the kernel made
};

// The rule at `pc` by the instructions of a CIE, `common`, and of an FDE whose function begins at
// `start`.
UnwindRule run_programs(const Cie& cie, const Cursor& common, const Cursor& own,
                        const UnwindTables& tables, std::uintptr_t start,
                        std::uintptr_t pc) noexcept;

}  // namespace forebay::detail::cfi
