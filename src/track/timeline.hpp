// Timeline: the writing side. Rings of events, one a thread, that any thread may read.
#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

#include "forebay/tracker.hpp"

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

// Writes one event to the calling thread's ring, if its kind is recorded. Lock-free and
// async-signal-safe, but for a thread's first event, which makes its ring (mmap).
void record_event(EventKind kind, SubjectId subject, Bytes bytes, std::uintptr_t address = 0,
                  std::uint16_t tag = 0) noexcept;
inline void record(EventKind kind, SubjectId subject, Bytes bytes, std::uintptr_t address = 0,
                   std::uint16_t tag = 0) noexcept {
  if (records(kind)) [[unlikely]] {
    record_event(kind, subject, bytes, address, tag);
  }
}

}  // namespace forebay::detail
