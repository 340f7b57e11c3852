// Call frame information: how the caller of a place in the code is found, by the .eh_frame_hdr
// and .eh_frame of its object (LSB 5.0, 10.6; DWARF 5, 6.4). x86-64 only.
//
// Tables are read through the kernel, a few bytes at a time: an object that another thread is
// just unloading is then an error here, not a fault.
#pragma once

#include <cstddef>
#include <cstdint>

namespace forebay::detail {

struct UnwindRule {
  // What the canonical frame address is: the stack pointer after the return.
  enum class Cfa : std::uint8_t {
    none,    // not known, or not to be said in this form
    sp,      // rsp + offset
    fp,      // rbp + offset
    at_fp,   // the word at rbp + offset
    signal,  // a frame that the kernel made for a handler: see the context at rsp
    end,     // the outermost frame
  };
  // Words below the CFA where the caller's rbp is, or one of:
  static constexpr std::uint8_t kKept = 0;
  static constexpr std::uint8_t kAtFp = 126;  // at rbp
  static constexpr std::uint8_t kLost = 127;
  // Offsets are multiples of 8 within +- this.
  static constexpr std::int64_t kMostOffset = (1 << 18) - 8;

  Cfa cfa = Cfa::none;
  std::uint8_t saved_fp = kKept;
  std::int32_t offset = 0;
  bool operator==(const UnwindRule&) const = default;
};

// An object's .eh_frame_hdr, and the addresses that its tables may be read from.
struct UnwindTables {
  std::uintptr_t header = 0;
  std::uintptr_t low = 0;
  std::uintptr_t high = 0;
};

// The rule at `pc`, the address of an instruction (not a return address). Kind none if the tables
// do not have it or are damaged. Takes bounded time and about 1 KiB of stack; allocates nothing,
// takes no lock, never faults.
UnwindRule find_rule(const UnwindTables& tables, std::uintptr_t pc) noexcept;

// Copies memory that may not be there. False if it is not, or the system forbids to ask.
bool read_memory(std::uintptr_t from, void* to, std::size_t bytes) noexcept;

}  // namespace forebay::detail
