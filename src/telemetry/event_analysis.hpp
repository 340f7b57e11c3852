// What a file of events says: who took how much, for how long, and what was never given back.
//
// Events of several threads are put in order by their times, which are true to about 10 ms: what
// follows from the order of threads' events within that (peaks, lifetimes) is as exact, while
// counts and sums are exact. Memory: 50 to 100 bytes a block that is live, 300 a site; the number
// of events costs none.
// Thread safety: functions are thread-safe; values are values.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "telemetry/event_reader.hpp"

#pragma GCC visibility push(default)
namespace forebay::events {

// Lifetimes below 10 ms, 100 ms, 1 s, 10 s, 100 s, 1000 s, and from there on.
inline constexpr std::array<double, 6> kLifetimeSeconds{0.01, 0.1, 1, 10, 100, 1000};
using Lifetimes = std::array<std::uint64_t, kLifetimeSeconds.size() + 1>;

struct Totals {
  std::uint64_t allocations = 0;
  std::uint64_t bytes = 0;
  std::uint64_t live = 0;  // blocks at the end
  std::uint64_t live_bytes = 0;
  std::uint64_t peak_bytes = 0;
  std::uint64_t temporary = 0;  // freed by their thread before it took two more
  Lifetimes lifetimes{};        // of those that were freed
};

// Blocks of one stack, tag and owner.
struct Site : Totals {
  std::uint32_t stack = 0;
  std::uint16_t context = 0;
};

struct TimePoint {
  double seconds = 0;  // since the start: where it begins
  std::uint64_t most_bytes = 0;
};

struct EventReport {
  Contents contents;  // its chunks are left out
  std::uint64_t threads = 0;
  std::uint64_t events = 0;
  double seconds = 0;
  Totals total;
  double peak_seconds = 0;
  std::uint64_t frees = 0;
  std::uint64_t older_frees = 0;      // of blocks from before the recording
  std::uint64_t unmatched_frees = 0;  // of blocks whose allocation is lost
  std::uint64_t lost_allocations = 0;
  std::uint64_t bad_chunks = 0;  // whole, but their events make no sense
  std::vector<Site> sites;       // by first use
  std::vector<TimePoint> timeline;
};

struct AnalysisOptions {
  Bytes most{1ULL << 30};    // of memory, for contents and analysis together
  std::size_t points = 480;  // of the timeline, at most; not below 2
  Progress progress{};
};

// Errors: those of EventReader::contents; memory_refused names what did not fit; interrupted.
Result<EventReport> analyse(const EventReader& reader, const AnalysisOptions& options = {});

}  // namespace forebay::events
#pragma GCC visibility pop
