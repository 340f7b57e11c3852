// EventFile: with grade full, every event of every thread in a file of few bytes an event.
// Its form: event_format.hpp.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "forebay/status.hpp"
#include "forebay/tracker.hpp"

namespace forebay::detail {

struct EventNames;

// A block as the file knows it: the thread that took it and the how-many-eth of that thread.
// Both are never given twice in a process, so that a block of an earlier file is told from one
// of this file.
struct BlockNumber {
  std::uint16_t thread = 0;  // 0: of no file
  std::uint64_t number = 0;  // 48 bits
};

extern constinit std::atomic<bool> g_event_file_open;
inline bool event_file_is_open() noexcept {
  return g_event_file_open.load(std::memory_order_relaxed);
}

// One file at a time for the process. The file is made new (0600, not through a link). It is
// closed at exit; a child after fork has none. Errors: invalid_argument (one is open already),
// io_error.
Status open_event_file(const std::string& path);
// The same with names from elsewhere (valid for good), and without growing beyond `most_bytes`:
// what comes then is dropped.
Status open_event_file(const std::string& path, const EventNames& names,
                       std::uint64_t most_bytes = ~0ULL);
// Writes what threads still hold, and the names of functions. Threads may go on recording
// meanwhile. Not open: ok. Error: io_error.
Status close_event_file();

// The calling thread took, gave a block. No lock; a full chunk, or one of a second's age, is
// written by the thread itself. After a write has failed, events are counted as dropped. Not safe
// in a handler of signals.
BlockNumber record_allocate(std::uint64_t bytes, std::uint16_t context, StackId stack) noexcept;
void record_free(BlockNumber block) noexcept;
// In the file that is open, or was last. Exact when the threads are quiet.
std::uint64_t events_recorded() noexcept;
std::uint64_t events_dropped() noexcept;

}  // namespace forebay::detail
