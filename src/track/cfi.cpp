#include "track/cfi.hpp"

#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>

#include "track/cfi_parts.hpp"

namespace forebay::detail {

// The system call itself: sanitizers put locks and checks before the C library's function.
bool read_memory(std::uintptr_t from, void* to, std::size_t bytes) noexcept {
  const int saved = errno;
  const iovec local{to, bytes};
  // NOLINTNEXTLINE(performance-no-int-to-ptr): read by the kernel, as a number
  const iovec remote{reinterpret_cast<void*>(from), bytes};
  const long read = syscall(SYS_process_vm_readv, getpid(), &local, 1L, &remote, 1L, 0L);
  errno = saved;
  return read == static_cast<long>(bytes);
}

namespace cfi {

// A pointer as it is encoded. Those that lead to another pointer are not of use here.
std::uint64_t Cursor::pointer(std::uint8_t encoding, std::uintptr_t header) noexcept {
  const std::uintptr_t place = at_;
  std::uint64_t value = 0;
  switch (encoding & 0x0f) {
    case 0x00:
    case 0x04:
    case 0x0c:
      value = get<std::uint64_t>();
      break;
    case 0x01:
      value = uleb();
      break;
    case 0x02:
      value = get<std::uint16_t>();
      break;
    case 0x03:
      value = get<std::uint32_t>();
      break;
    case 0x09:
      value = static_cast<std::uint64_t>(sleb());
      break;
    case 0x0a:
      value = static_cast<std::uint64_t>(get<std::int16_t>());
      break;
    case 0x0b:
      value = static_cast<std::uint64_t>(get<std::int32_t>());
      break;
    default:
      fail();
  }
  switch (encoding & 0x70) {
    case 0x00:
      return value;
    case kRelativeToPlace:
      return value + place;
    case kRelativeToHeader:
      return value + header;
    default:
      fail();
      return 0;
  }
}

}  // namespace cfi

namespace {

using cfi::Cie;
using cfi::Cursor;
using cfi::kIndirect;
using cfi::kOmitted;
using cfi::kRelativeToHeader;

// ---- Which FDE

struct TableEntry {  // relative to the header
  std::int32_t start;
  std::int32_t fde;
};

// The entry with the greatest start that is not above `pc`, of `count` at `table`, by their order.
std::optional<TableEntry> search(const UnwindTables& tables, std::uintptr_t table,
                                 std::uint64_t count, std::uintptr_t pc) noexcept {
  constexpr std::uint64_t kChunk = 32;  // so many at once cost as much to read as one
  const auto wanted = static_cast<std::int64_t>(pc - tables.header);
  const auto place = [&](std::uint64_t i) { return table + i * sizeof(TableEntry); };
  std::uint64_t low = 0;
  std::uint64_t high = count;
  while (high - low > kChunk) {
    const std::uint64_t middle = low + (high - low) / 2;
    TableEntry entry{};
    if (!read_memory(place(middle), &entry, sizeof entry)) return std::nullopt;
    (entry.start <= wanted ? low : high) = middle;
  }
  std::array<TableEntry, kChunk> chunk{};
  if (!read_memory(place(low), chunk.data(), (high - low) * sizeof(TableEntry))) {
    return std::nullopt;
  }
  std::optional<TableEntry> found;
  for (std::uint64_t i = 0; i < high - low && chunk[i].start <= wanted; ++i) found = chunk[i];
  return found;
}

// The FDE for `pc`, or 0. Only tables as all linkers write them: sorted, of 4-byte offsets.
std::uintptr_t find_fde(const UnwindTables& tables, std::uintptr_t pc) noexcept {
  if (tables.header < tables.low || tables.header >= tables.high) return 0;
  Cursor header{tables.header, tables.high};
  const std::uint8_t version = header.byte();
  const std::uint8_t frame_encoding = header.byte();
  const std::uint8_t count_encoding = header.byte();
  const std::uint8_t table_encoding = header.byte();
  if (version != 1 || frame_encoding == kOmitted || count_encoding == kOmitted) return 0;
  if (table_encoding != (kRelativeToHeader | 0x0b)) return 0;
  header.pointer(frame_encoding, tables.header);
  const std::uint64_t count = header.pointer(count_encoding, tables.header);
  if (!header.ok() || count == 0) return 0;
  if (count > (tables.high - header.at()) / sizeof(TableEntry)) return 0;
  const auto entry = search(tables, header.at(), count, pc);
  if (!entry) return 0;
  return tables.header + static_cast<std::uint64_t>(static_cast<std::int64_t>(entry->fde));
}

// ---- What the CIE and the FDE say

// A record's own bytes: from behind its length to its end.
std::optional<Cursor> record_at(const UnwindTables& tables, std::uintptr_t at) noexcept {
  if (at < tables.low || at >= tables.high) return std::nullopt;
  Cursor length{at, tables.high};
  const auto bytes = length.get<std::uint32_t>();
  constexpr std::uint32_t kLonger = 0xfffffff0;  // a 64-bit length follows: nobody writes it
  if (!length.ok() || bytes == 0 || bytes >= kLonger) return std::nullopt;
  if (bytes > tables.high - length.at()) return std::nullopt;
  return Cursor{length.at(), length.at() + bytes};
}

struct Augmentation {
  std::array<char, 8> text{};
  bool read(Cursor& cie) noexcept {
    for (char& letter : text) {
      letter = static_cast<char>(cie.byte());
      if (letter == 0) return cie.ok();
    }
    return false;  // longer than any there is
  }
};

// Augmentation data: what each letter after the first, 'z', stands for.
bool read_augmentation(const Augmentation& letters, Cursor& cie, Cie& read) noexcept {
  for (std::size_t i = 1; i < letters.text.size() && letters.text[i] != 0; ++i) {
    switch (letters.text[i]) {
      case 'R':
        read.pointer_encoding = cie.byte();
        break;
      case 'L':
        cie.byte();
        break;
      case 'S':
        read.signal = true;
        break;
      case 'P': {  // of no use here, but what it refers to may be indirect
        const std::uint8_t encoding = cie.byte();
        cie.pointer(encoding & static_cast<std::uint8_t>(~kIndirect), 0);
        break;
      }
      default:
        return false;
    }
  }
  return cie.ok();
}

// Leaves the cursor at the initial instructions.
std::optional<Cie> read_cie(Cursor& cie) noexcept {
  Cie read;
  if (cie.get<std::uint32_t>() != 0) return std::nullopt;  // else an FDE
  const std::uint8_t version = cie.byte();
  if (version != 1 && version != 3) return std::nullopt;
  Augmentation letters;
  if (!letters.read(cie)) return std::nullopt;
  read.code_alignment = cie.uleb();
  read.data_alignment = cie.sleb();
  const std::uint64_t return_address = version == 1 ? cie.byte() : cie.uleb();
  if (return_address != cfi::kReturnAddress) return std::nullopt;
  if (letters.text[0] == 'z') {
    read.sized = true;
    const std::uint64_t bytes = cie.uleb();
    if (bytes > cie.end() - cie.at()) return std::nullopt;
    const std::uintptr_t instructions = cie.at() + bytes;
    if (!read_augmentation(letters, cie, read) || cie.at() > instructions) return std::nullopt;
    cie.skip(instructions - cie.at());
  } else if (letters.text[0] != 0) {
    return std::nullopt;
  }
  if (!cie.ok()) return std::nullopt;
  return read;
}

// mov $15, %rax; syscall: what a handler returns to.
bool is_return_from_signal(std::uintptr_t pc) noexcept {
  constexpr std::array<std::uint8_t, 9> kCode{0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05};
  std::array<std::uint8_t, kCode.size()> code{};
  return read_memory(pc + 1, code.data(), code.size()) && code == kCode;
}

// An FDE refers to its CIE by the distance from that field.
std::optional<std::uintptr_t> cie_of(Cursor& fde) noexcept {
  const std::uintptr_t place = fde.at();
  const auto distance = fde.get<std::uint32_t>();
  if (!fde.ok() || distance == 0 || distance > place) return std::nullopt;
  return place - distance;
}

// Reads up to the FDE's instructions; empty if it is not of `pc`.
std::optional<std::uintptr_t> start_of(Cursor& fde, const Cie& cie, const UnwindTables& tables,
                                       std::uintptr_t pc) noexcept {
  if ((cie.pointer_encoding & kIndirect) != 0) return std::nullopt;
  const std::uint64_t start = fde.pointer(cie.pointer_encoding, tables.header);
  const std::uint64_t bytes = fde.pointer(cie.pointer_encoding & 0x0f, tables.header);
  if (!fde.ok() || pc < start || pc - start >= bytes) return std::nullopt;
  if (cie.sized) fde.skip(fde.uleb());
  if (!fde.ok()) return std::nullopt;
  return start;
}

}  // namespace

UnwindRule find_rule(const UnwindTables& tables, std::uintptr_t pc) noexcept {
  const std::uintptr_t at = find_fde(tables, pc);
  auto fde = at == 0 ? std::nullopt : record_at(tables, at);
  if (!fde) return {};
  const auto cie_at = cie_of(*fde);
  auto common = cie_at ? record_at(tables, *cie_at) : std::nullopt;
  const auto cie = common ? read_cie(*common) : std::nullopt;
  if (!cie) return {};
  const auto start = start_of(*fde, *cie, tables, pc);
  if (!start) return {};
  if (cie->signal) {
    return is_return_from_signal(pc) ? UnwindRule{UnwindRule::Cfa::signal} : UnwindRule{};
  }
  return cfi::run_programs(*cie, *common, *fde, tables, *start, pc);
}

}  // namespace forebay::detail
