// Extent: a run of pages in one region, and what it is used for.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "pool/record_table.hpp"
#include "pool/size_class.hpp"
#include "track/hooks.hpp"

namespace forebay::detail {

using ExtentId = std::uint32_t;  // 0: none
using StreamId = std::uint16_t;  // of a pool's own numbering

// What the bytes of free memory, or of a block, may show to who gets them next: the tenant that
// wrote them last, plus one.
using Soil = std::uint8_t;
inline constexpr Soil kPristine = 0;  // zeroes, never handed out
inline constexpr Soil kMixed = 127;   // of several tenants

constexpr Soil mix(Soil a, Soil b) noexcept {
  if (a == kPristine || a == b) return b;
  return b == kPristine ? a : kMixed;
}

enum class ExtentState : std::uint8_t {
  cold,     // free, and no memory behind it
  warm,     // free, and committed
  moving,   // on its way between two of the others, in one thread's hands
  live,     // one block, handed out
  guarded,  // one block, handed out, that ends where the guard pages at its end begin
  resting,  // free, with its guard still up: for the next block of its size and tenant
  cached,   // one block, kept by a thread for its next acquire
  slab,     // cut into small blocks
};

struct Region;

// Of a small block: kLive or not, and its soil.
using BlockState = std::atomic<std::uint8_t>;
inline constexpr std::uint8_t kLive = 0x80;

// A number that is written under the pool's mutex, and peeked at without it.
class PeekedId {
 public:
  operator ExtentId() const noexcept { return id_.load(std::memory_order_relaxed); }
  PeekedId& operator=(ExtentId id) noexcept {
    id_.store(id, std::memory_order_relaxed);
    return *this;
  }
  PeekedId& operator=(const PeekedId& other) noexcept { return *this = ExtentId{other}; }
  PeekedId() noexcept = default;
  PeekedId(const PeekedId&) = delete;

 private:
  std::atomic<ExtentId> id_{0};
};

// The state of a live or cached block is changed by the thread that has it, without a lock;
// everything else under the pool's mutex.
struct alignas(64) Extent {
  std::uintptr_t start = 0;
  std::uint32_t pages = 0;
  PeekedId left;  // its neighbours in the region
  PeekedId right;
  // In its size bin, its class's list of slabs, or the list it is passed on by. Guarded: where the
  // block begins, in bytes from `start`.
  ExtentId next = 0;
  ExtentId previous = 0;
  ExtentId older = 0;  // warm: by the time of release
  ExtentId newer = 0;
  StreamId stream = 0;  // on which its memory is ready
  std::atomic<ExtentState> state{ExtentState::moving};
  Soil soil = kPristine;
  Region* region = nullptr;
  union {
    std::uint64_t requested = 0;  // live: bytes asked for
    std::uint64_t release;        // warm: its number
    BlockState* states;           // slab: one a block
  };
  SizeClass size_class = 0;      // slab
  bool closed = false;           // slab: no block leaves it
  std::atomic<BlockTag> tag{0};  // live: the tracker's

  std::uint64_t bytes() const noexcept { return std::uint64_t{pages} << kPageShift; }
  std::uintptr_t end() const noexcept { return start + bytes(); }
  ExtentState is() const noexcept { return state.load(std::memory_order_relaxed); }
  void become(ExtentState to) noexcept { state.store(to, std::memory_order_relaxed); }
};
static_assert(sizeof(Extent) == 64);

using ExtentTable = RecordTable<Extent>;

}  // namespace forebay::detail
