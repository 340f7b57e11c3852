// EventReader: a file of events, taken apart and checked. Its form: track/event_format.hpp.
//
// The file is not trusted: lengths and counts are checked before they are used, chunks carry
// checksums, and what is damaged is skipped and counted.
// Thread safety: none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "forebay/bytes.hpp"
#include "forebay/status.hpp"
#include "track/event_format.hpp"

#pragma GCC visibility push(default)
namespace forebay::events {

// Bytes by their place: a file's, or a text's.
class Input {
 public:
  virtual ~Input() = default;
  virtual std::uint64_t size() const noexcept = 0;
  // When it was last written to, in nanoseconds since 1970; 0: not known.
  virtual std::int64_t changed_ns() const noexcept { return 0; }
  // Fills `to` from `offset`. Error: io_error, also where there are fewer.
  virtual Status read(std::uint64_t offset, std::span<std::byte> to) const = 0;
};

// Errors: not_found, io_error, invalid_argument (no regular file).
Result<std::unique_ptr<Input>> open_input(const std::string& path);

// Code of a file, where the process had it.
struct Module {
  std::uint64_t start = 0;  // address
  std::uint64_t size = 0;
  std::uint64_t offset = 0;  // in the file, of `start`
  std::string path;
};

struct Stack {
  std::vector<std::uint64_t> frames;  // return addresses, innermost first
  std::uint32_t modules = 0;          // of Names::modules, those that were known by then
};

struct Context {
  std::string tag;
  std::string owner;
};

// What numbers in events mean.
struct Names {
  std::vector<Module> modules;
  std::vector<Context> contexts;  // by number; those without a name are empty
  std::unordered_map<std::uint32_t, Stack> stacks;
  std::unordered_map<std::uint64_t, std::string> functions;  // by return address

  // The module that a frame of a stack lies in; null: none. Of several, one after the other at
  // the same place, the latest that was known by then.
  const Module* module_of(const Stack& stack, std::uint64_t frame) const noexcept;
};

struct EventChunk {
  std::uint64_t offset = 0;  // of the payload in the file
  std::uint32_t length = 0;
  std::uint16_t lane = 0;
  std::uint64_t first_number = 0;
  std::uint64_t lane_first = 0;
  std::uint64_t time = 0;
};

// All of a file but the events themselves.
struct Contents {
  std::uint64_t file_bytes = 0;
  std::uint64_t process = 0;
  std::uint64_t wall_ns = 0;   // when recording began, since 1970
  std::uint64_t start_ns = 0;  // the same by the steady clock
  std::uint64_t end_ns = 0;    // if closed
  std::uint64_t dropped = 0;   // events that could not be written; known if closed
  bool closed = false;
  std::string program;
  Names names;
  std::vector<EventChunk> chunks;   // of events, as they stand in the file
  std::uint64_t damaged_bytes = 0;  // skipped, in `damaged` places
  std::uint64_t damaged = 0;
  std::uint64_t cut_bytes = 0;  // at the end: of a chunk that was being written
  std::uint64_t memory = 0;     // bytes of names and chunks, not below what they take
};

// Told how far it is, 0..1; false: stop.
using Progress = std::function<bool(double)>;

class EventReader {
 public:
  // Errors: those of open_input.
  static Result<EventReader> open(const std::string& path);
  // The same over bytes that outlive it.
  static EventReader over(std::string_view bytes, std::string_view name);

  // Reads all chunks, and keeps the names. Where more looks like chunks and is none than could be
  // damage (4 times the file to read), the rest counts as damaged. Errors: io_error,
  // corrupt_data (no file of events), memory_refused (its names need more than `most`),
  // interrupted.
  Result<Contents> contents(Bytes most, const Progress& progress = {}) const;
  // A chunk's events, and some bytes behind them that a number may reach into. Error: io_error.
  Status read_events(const EventChunk& chunk, std::vector<std::byte>& to) const;
  // As it may stand in a message.
  const std::string& name() const noexcept { return name_; }

  // Of what read_events() gives.
  static constexpr std::size_t kSlack = 16;

 private:
  EventReader(std::unique_ptr<Input> input, std::string name)
      : input_(std::move(input)), name_(std::move(name)) {}

  std::unique_ptr<Input> input_;
  std::string name_;
};

}  // namespace forebay::events
#pragma GCC visibility pop
