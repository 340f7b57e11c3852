// EventSink: the file that chunks are appended to.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "forebay/status.hpp"

namespace forebay::detail {

// How a file is written: pwrite(2); tests put one that fails here.
using WriteFunction = ssize_t (*)(int descriptor, const void* bytes, std::size_t count,
                                  off_t offset);
extern constinit std::atomic<WriteFunction> g_event_write;

// Where times come from: nanoseconds, CLOCK_MONOTONIC_COARSE; tests put their own here.
using ClockFunction = std::uint64_t (*)() noexcept;
extern constinit std::atomic<ClockFunction> g_event_clock;

// Not thread-safe.
class EventSink {
 public:
  // The file must not exist yet. Error: io_error.
  Status open(const std::string& path, std::uint64_t most_bytes);
  // Appends all of it or nothing. False from the first failure on: the file then ends with what
  // was whole before.
  bool append(std::span<const std::byte> chunk) noexcept;
  bool failed() const noexcept { return error_ != 0; }
  // Error: io_error, with the first failure.
  Status close();
  // In a child after fork: the file is the parent's.
  void abandon() noexcept;

 private:
  std::string path_;
  int descriptor_ = -1;
  int error_ = 0;  // an errno
  std::uint64_t size_ = 0;
  std::uint64_t most_ = 0;
};

}  // namespace forebay::detail
