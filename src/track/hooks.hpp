// Hooks: what whoever hands out blocks does for the tracker.
//
// With each block goes a tag of 16 bits: whose it is, and what else is known of it. The hot path
// reads one global word and the thread's own state (note_taken); what is wanted beyond counting
// is done off it (record_taken, record_given).
#pragma once

#include <atomic>
#include <cstdint>

#include "forebay/tracker.hpp"
#include "track/context.hpp"
#include "track/event_file.hpp"
#include "track/timeline.hpp"

namespace forebay::detail {

#if defined(FOREBAY_NO_TRACKING)
inline constexpr bool kTracking = false;
#else
inline constexpr bool kTracking = true;
#endif

using BlockTag = std::uint16_t;  // 0: of nobody, nothing known
inline constexpr BlockTag kContextOf = kMaxContexts - 1;
inline constexpr BlockTag kSampled = kMaxContexts;        // has a record in the table
inline constexpr BlockTag kBeside = kMaxContexts << 1;    // has one beside it
inline constexpr BlockTag kEventful = kMaxContexts << 2;  // its end is an event
inline constexpr BlockTag kRecorded = kSampled | kBeside | kEventful;

// What is wanted of every block now; 0: nothing.
inline constexpr std::uint32_t kWantContexts = 1;
inline constexpr std::uint32_t kWantSamples = 2;
inline constexpr std::uint32_t kWantRecords = 4;  // of every block
inline constexpr std::uint32_t kWantEvents = 8;   // of every block
extern constinit std::atomic<std::uint32_t> g_tracking;

inline bool tracking_is_full() noexcept {
  return (g_tracking.load(std::memory_order_relaxed) & kWantRecords) != 0;
}

struct ThreadTracking {
  std::int64_t until_sample = 0;  // bytes
  std::uint64_t random = 0;       // 0: not begun
  ContextId context = 0;
  bool suspended = false;        // what is taken now is memory of a pool, not of a user
  bool knows_its_stack = false;  // know_this_threads_stack() was called
};
[[gnu::tls_model("initial-exec")]] extern constinit thread_local ThreadTracking this_tracking;

// The context of what the thread takes now.
inline ContextId context_now() noexcept {
  if constexpr (!kTracking) return 0;
  return g_tracking.load(std::memory_order_relaxed) == 0 ? ContextId{0} : this_tracking.context;
}

// While it lives, what the thread takes has no tag and no record: a pool's memory from upstream
// is not a user's block.
class Untracked {
 public:
  Untracked() noexcept : context_(this_tracking.context), suspended_(this_tracking.suspended) {
    this_tracking.context = 0;
    this_tracking.suspended = true;
  }
  ~Untracked() {
    this_tracking.context = context_;
    this_tracking.suspended = suspended_;
  }
  Untracked(const Untracked&) = delete;
  Untracked& operator=(const Untracked&) = delete;

 private:
  const ContextId context_;
  const bool suspended_;
};

// A block of `bytes` is taken: its context, and whether record_taken() is to be called.
struct Noted {
  ContextId context = 0;
  bool wanted = false;
};
inline Noted note_taken(std::uint64_t bytes) noexcept {
  if constexpr (!kTracking) return {};
  const std::uint32_t want = g_tracking.load(std::memory_order_relaxed);
  if (want == 0) return {};
  ThreadTracking& mine = this_tracking;
  mine.until_sample -= static_cast<std::int64_t>(bytes);
  return {mine.context, mine.until_sample < 0 || want >= kWantRecords};
}

// What is known of a block beyond its context.
struct BlockRecord {
  std::uint64_t number = 0;  // in the file of events: its thread above 48 bits of its own
  StackId stack = 0;
  std::uint32_t born = 0;  // units of 10 ms by the tracker's clock
  std::uint32_t mark = 0;
  // Of a sample, mean bytes between samples; beside a small block, bytes asked; else 0.
  std::uint32_t bytes = 0;
};

// A block as its owner knows it.
struct BlockFacts {
  std::uint32_t source = 0;  // see source.hpp
  SubjectId subject = 0;
  std::uintptr_t address = 0;
  std::uint64_t bytes = 0;  // asked for
  ContextId context = 0;
  std::uint64_t alignment = 0;  // of a tracked resource's block
  bool large = false;           // samples, too, have a place beside it
};

// Records what is wanted now. `beside`: where the record of a large block or a full one may be put;
// null: in the table.
// `frame`: of the function of ours that the user called; the stack begins with its caller.
// Returns the tag. Takes a lock for a sample, none for a full record beside the block.
[[gnu::cold]] BlockTag record_taken(const BlockFacts& facts, BlockRecord* beside,
                                    const void* frame) noexcept;
// REQUIRES: tag & kRecorded. The block is still the caller's.
[[gnu::cold]] void record_given(const BlockFacts& facts, BlockTag tag,
                                const BlockRecord* beside) noexcept;
// The same for what was in the table and is not any more.
void record_end(const BlockFacts& facts, BlockTag tag, std::uint64_t number) noexcept;

// Sums by context since the start.
struct TagSum {
  std::uint64_t taken = 0;  // blocks
  std::uint64_t given = 0;
  std::uint64_t bytes_taken = 0;
  std::uint64_t bytes_given = 0;

  TagSum& operator+=(const TagSum& other) noexcept {
    taken += other.taken;
    given += other.given;
    bytes_taken += other.bytes_taken;
    bytes_given += other.bytes_given;
    return *this;
  }
  TagSum& operator-=(const TagSum& other) noexcept {
    taken -= other.taken;
    given -= other.given;
    bytes_taken -= other.bytes_taken;
    bytes_given -= other.bytes_given;
    return *this;
  }
};

}  // namespace forebay::detail
