// The form of a file of events: chunks, each whole in itself, of one thread's events or of names.
//
//   chunk   header, payload of `length` bytes
//   events  numbers, one or two an event:
//           size << 2, kind 0            an allocation from the stack of the one before it
//           size << 2 | 2, stack         an allocation
//           distance << 1 | 1            the free of this lane's block, `distance` numbers back
//           1, 0, microseconds           time has passed
//           1, 1, context                allocations from here on are of another tag or owner
//           1, lane + 1, +- difference   the free of another lane's block: its number, counted
//                                        from the last one of this kind
// Blocks have no number of their own in the file: they are counted. A lane is what one thread
// writes to; a thread that ends leaves it, with its count, to one that begins.
// What an event refers to (stack, context) stands in a chunk before its own, so that a file that
// ends anywhere can be read up to there.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

// Used by component forebay::telemetry, which may be a library of its own.
#pragma GCC visibility push(default)
namespace forebay::detail {

static_assert(std::endian::native == std::endian::little, "the file has this machine's order");

enum class ChunkKind : std::uint8_t {
  begin = 1,  // process, wall-clock nanoseconds, path of the program
  events,
  contexts,   // number, tag, owner; texts with their length before them
  stacks,     // number, depth, then each address as a difference to the one before
  modules,    // start, size, offset in the file, path
  functions,  // address, name
  end,        // events dropped; a file without it was not closed
};

struct ChunkHeader {
  std::uint32_t magic = 0;
  std::uint16_t version = 0;
  ChunkKind kind{};
  std::uint8_t unused = 0;
  std::uint32_t length = 0;  // of the payload
  std::uint16_t lane = 0;    // of events, from 1 on
  std::uint16_t unused_too = 0;
  std::uint64_t first_number = 0;  // of the first allocation within
  std::uint64_t lane_first = 0;    // of the lane's first allocation in this file
  std::uint64_t time = 0;          // nanoseconds of the steady clock, where it begins
  std::uint64_t checksum = 0;      // of header (with 0 here) and payload
};
static_assert(sizeof(ChunkHeader) == 48);

inline constexpr std::uint32_t kChunkMagic = 0xCE56'4246;  // "FBV" and no text
inline constexpr std::uint16_t kEventVersion = 1;
inline constexpr std::size_t kChunkBytes = 64 << 10;  // header and payload, at most
inline constexpr std::size_t kMostPayload = kChunkBytes - sizeof(ChunkHeader);
inline constexpr std::uint64_t kMostBlock = (1ULL << 62) - 1;  // larger ones are noted as this
inline constexpr std::uint64_t kMostNumber = (1ULL << 48) - 1;
inline constexpr std::size_t kLongestNumber = 9;  // bytes
inline constexpr std::uint64_t kTickControl = 0;
inline constexpr std::uint64_t kContextControl = 1;

// Numbers in as many bytes as they need, the count in the low bits of the first: no loop, and no
// branch that depends on the length. REQUIRES: room for 9 bytes at `at`.
inline std::byte* put_number(std::byte* at, std::uint64_t value) noexcept {
  const auto bits = static_cast<unsigned>(std::bit_width(value | 1));
  if (bits > 56) [[unlikely]] {
    *at = std::byte{0xff};
    std::memcpy(at + 1, &value, sizeof value);
    return at + kLongestNumber;
  }
  const unsigned length = (bits + 6) / 7;
  const std::uint64_t word = value << length | ((1ULL << (length - 1)) - 1);
  std::memcpy(at, &word, sizeof word);
  return at + length;
}

// REQUIRES: 9 bytes may be read at `at`.
inline std::uint64_t take_number(const std::byte*& at) noexcept {
  std::uint64_t word = 0;
  const auto length = static_cast<unsigned>(std::countr_one(static_cast<std::uint8_t>(*at))) + 1;
  if (length == kLongestNumber) [[unlikely]] {
    std::memcpy(&word, at + 1, sizeof word);
  } else {
    std::memcpy(&word, at, sizeof word);
    word = word << (64 - 8 * length) >> (64 - 7 * length);
  }
  at += length;
  return word;
}

// Small numbers for small differences, of either sign; they wrap.
inline std::uint64_t from_difference(std::uint64_t difference) noexcept {
  return difference << 1 ^ (0 - (difference >> 63));
}
inline std::uint64_t to_difference(std::uint64_t folded) noexcept {
  return folded >> 1 ^ (0 - (folded & 1));
}

// XXH64 (Yann Collet): 8 bytes and more a nanosecond, so that it costs an event nothing.
std::uint64_t checksum_of(const std::byte* bytes, std::size_t count, std::uint64_t start) noexcept;

// The header's own is taken as 0.
inline std::uint64_t checksum_of(ChunkHeader header, const std::byte* payload) noexcept {
  header.checksum = 0;
  const auto* const bytes = reinterpret_cast<const std::byte*>(&header);
  return checksum_of(payload, header.length, checksum_of(bytes, sizeof header, 0));
}

}  // namespace forebay::detail
#pragma GCC visibility pop
