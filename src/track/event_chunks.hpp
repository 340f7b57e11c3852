// Chunks: where the timeline's events lie. A bounded number of chunks; each thread fills one
// at a time, and takes for its next the one that was left longest ago, or nearly so.
//
// Invariants:
//   1. A chunk has one writer: who moved it to `active` (or `resetting`) by compare-and-swap.
//   2. The first `count` events of a chunk are whole, and do not change until its sequence does.
//   3. A chunk's sequence goes up before its first word is overwritten; words are written with
//      release and read with acquire, so that a reader who got a new word also sees the new
//      sequence, and drops what it read.
//   4. Each event that was recorded is in a chunk, or counted in g_events_lost.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "forebay/bytes.hpp"
#include "track/tick_clock.hpp"

namespace forebay::detail {

// An event as it lies in memory: ticks, address, bytes; kind, subject, tag and thread.
struct EventWords {
  std::array<std::uint64_t, 4> words{};
  std::uint64_t ticks() const noexcept { return words[0]; }
};
struct EventSlot {
  std::array<std::atomic<std::uint64_t>, 4> words;
};
inline constexpr std::uint32_t kChunkEvents = 128;

enum class ChunkMode : std::uint8_t {
  idle,       // full, or never used: to be taken anew
  open,       // of a thread that ended before it was full: to be gone on with
  active,     // a thread's
  resetting,  // on its way from idle to active
};

struct alignas(64) TimelineChunk {
  std::atomic<std::uint64_t> state{0};  // sequence << 2 | mode
  std::atomic<std::uint32_t> count{0};
  std::atomic<std::uint32_t> session{0};  // start of the timeline that its events are of
  std::atomic<std::uint64_t> left_at{0};  // the region's ticket when its writer left it
};

// Chunks in one mapping, this object at its front. Never unmapped: a thread that was overtaken by
// a new start may still write there.
struct EventRegion {
  EventRegion* next = nullptr;  // of those that were ever made
  std::uint32_t chunks = 0;
  TimelineChunk* first = nullptr;
  EventSlot* slots = nullptr;
  alignas(64) std::atomic<std::uint64_t> ticket{0};  // modulo `chunks`: the next one to take
  std::atomic<std::uint32_t> active{0};
  std::atomic<std::int32_t> open{0};  // of this session; a hint

  // As many chunks as `capacity` holds, this object included. Null if the system refuses.
  static EventRegion* make(Bytes capacity) noexcept;
  // 0: more than there can be.
  static std::uint32_t chunks_in(Bytes capacity) noexcept;
  void give_pages_back() noexcept;
  // Chunks from here on were never taken.
  std::uint32_t used() const noexcept {
    const std::uint64_t taken = ticket.load(std::memory_order_relaxed);
    return taken < chunks ? static_cast<std::uint32_t>(taken) : chunks;
  }
  EventSlot* slots_of(const TimelineChunk& chunk) noexcept {
    return slots + static_cast<std::size_t>(&chunk - first) * kChunkEvents;
  }
};

// Recorded and not there any more, or never there: since the session began.
extern constinit std::atomic<std::uint64_t> g_events_lost;

// A thread's place to write.
class ChunkWriter {
 public:
  // Room for one event of this session, if there is: in the chunk at hand, or the next.
  bool make_room(EventRegion* region, std::uint32_t session) noexcept;
  bool has_room(std::uint32_t session) const noexcept {
    return count_ < kChunkEvents && session_ == session;
  }
  // REQUIRES: has_room().
  void put(const EventWords& event) noexcept;
  // Gives the chunk up, if there is one.
  void release() noexcept;
  bool writes_to(const TimelineChunk& chunk) const noexcept { return chunk_ == &chunk; }

 private:
  EventRegion* region_ = nullptr;
  TimelineChunk* chunk_ = nullptr;
  EventSlot* slots_ = nullptr;
  std::uint32_t count_ = kChunkEvents;
  std::uint32_t session_ = 0;
};

// In the child of a fork: threads that are not there hold nothing. `mine` is the one that is.
void after_fork_in_child(EventRegion& region, std::uint32_t session,
                         const ChunkWriter& mine) noexcept;

// Copies events [from, from + into.size()) of a chunk. False, and what is in `into` is of no use,
// if the chunk is not of that session, has not as many, or was taken for new ones meanwhile.
bool copy_events(EventRegion& region, TimelineChunk& chunk, std::uint32_t session,
                 std::uint32_t from, std::span<EventWords> into) noexcept;

// Visits all events of a session, chunk by chunk, each one's oldest first. Allocates nothing.
template <typename Visit>
void visit_events(EventRegion& region, std::uint32_t session, Visit visit) {
  constexpr std::uint32_t kAtOnce = 16;  // half a KiB of stack: a handler of signals has little
  for (std::uint32_t i = 0; i < region.used(); ++i) {
    TimelineChunk& chunk = region.first[i];
    const std::uint32_t count = chunk.count.load(std::memory_order_acquire);
    for (std::uint32_t from = 0; from < count; from += kAtOnce) {
      std::array<EventWords, kAtOnce> events;
      const std::span part{events.data(), count - from < kAtOnce ? count - from : kAtOnce};
      if (!copy_events(region, chunk, session, from, part)) break;
      for (const EventWords& event : part) visit(event);
    }
  }
}

// Events that are there.
std::uint64_t events_kept(const EventRegion& region, std::uint32_t session) noexcept;

}  // namespace forebay::detail
