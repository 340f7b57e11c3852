// EventFile: with grade full, every event of every thread in a file of few bytes an event.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "forebay/status.hpp"
#include "forebay/tracker.hpp"

namespace forebay::detail {

// A block as the file knows it: the thread that took it and the how-many-eth of that thread.
struct BlockNumber {
  std::uint16_t thread = 0;  // 0: of no file
  std::uint64_t number = 0;  // 48 bits
};

extern constinit std::atomic<bool> g_event_file_open;
inline bool event_file_is_open() noexcept {
  return g_event_file_open.load(std::memory_order_relaxed);
}

// One file at a time for the process. The file is made new (0600, not through a link). Errors:
// invalid_argument (one is open already), io_error.
Status open_event_file(const std::string& path);
// Writes what threads still hold, and the names of tags and stacks. Error: io_error.
Status close_event_file();

// The calling thread took, gave a block. No lock; a full chunk is written by the thread itself.
// After a write has failed, events are counted as dropped.
BlockNumber record_allocate(std::uint64_t bytes, std::uint16_t context, StackId stack) noexcept;
void record_free(BlockNumber block) noexcept;
std::uint64_t events_recorded() noexcept;
std::uint64_t events_dropped() noexcept;

}  // namespace forebay::detail
