// Timeline: the writing side, and readers that are not for users. Events lie in chunks, of which
// each thread fills its own and any thread may read all (event_chunks.hpp).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "forebay/tracker.hpp"

// Used by component forebay::telemetry, which may be a library of its own.
#pragma GCC visibility push(default)
namespace forebay::detail {

// A bit for each EventKind that is recorded now; 0: the timeline is off.
extern constinit std::atomic<std::uint32_t> g_timeline_kinds;

inline bool records(EventKind kind) noexcept {
  return (g_timeline_kinds.load(std::memory_order_relaxed) >> static_cast<unsigned>(kind) & 1) != 0;
}

// A name that events refer to: kept for good, by number; 0 if there is no room. May take a lock:
// call it when the subject is made, not with each event.
using SubjectId = std::uint16_t;
SubjectId subject(std::string_view name) noexcept;
std::string_view subject_name(SubjectId id) noexcept;

// Writes one event to the calling thread's chunk. Lock-free and async-signal-safe, but for a
// thread's first event, which prepares for the thread's end (malloc). One that comes in a handler
// of signals while the thread is writing another is counted as dropped.
void record_event(EventKind kind, SubjectId subject, Bytes bytes, std::uintptr_t address = 0,
                  std::uint16_t tag = 0) noexcept;
inline void record(EventKind kind, SubjectId subject, Bytes bytes, std::uintptr_t address = 0,
                   std::uint16_t tag = 0) noexcept {
  if (records(kind)) [[unlikely]] {
    record_event(kind, subject, bytes, address, tag);
  }
}

// Visits every event, each thread's in the order of time, with no lock and no allocation: for a
// handler of signals. Events that are overwritten meanwhile are left out.
using EventVisitor = void (*)(const TimelineEvent& event, void* context);
void visit_events_unlocked(EventVisitor visit, void* context) noexcept;

// The latest `most` events, by time; looks at no more of the timeline than it must.
std::vector<TimelineEvent> latest_events(std::size_t most);

}  // namespace forebay::detail
#pragma GCC visibility pop
