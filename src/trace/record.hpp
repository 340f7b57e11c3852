// What one line of an allocation trace says.
#pragma once

#include <cstdint>
#include <string_view>

#include "forebay/bytes.hpp"
#include "forebay/clock.hpp"
#include "forebay/status.hpp"

namespace forebay::trace {

// How a trace is written; told apart by the first line.
enum class Format {
  rmm_csv,     // RMM's log: Thread,Time,Action,Pointer,Size,Stream
  json_lines,  // {"t":0.5,"op":"alloc","id":7,"bytes":4096,"stream":0,"tag":"kv"}
};
std::string_view to_string(Format format) noexcept;

// No device has more; a larger size in a trace is damage.
inline constexpr Bytes kMaxBlock{1ULL << 48};

struct Record {
  enum class Kind {
    allocate,
    free,
    failed,  // an allocation that failed when the trace was taken; nothing to replay
  };
  Kind kind = Kind::allocate;
  bool has_time = false;
  bool has_bytes = false;   // an allocation always has; a free may leave it out
  bool has_stream = false;  // a free without one is on its block's stream
  std::uint64_t id = 0;     // the block's name while it lives: a pointer, or a number
  Bytes bytes;
  std::uint64_t stream = 0;
  Duration time{};       // as written: of the day, or since some start
  std::string_view tag;  // as written, escapes and all; valid as long as the line
};

// Read one line (without its end). Errors: invalid_argument "key: value is not allowed;
// allowed: …", without file and line.
Result<Record> parse_rmm_line(std::string_view line);
Result<Record> parse_json_line(std::string_view line);

inline constexpr std::string_view kRmmHeader = "Thread,Time,Action,Pointer,Size,Stream";

// "key: value is not allowed; allowed: …"
Status not_allowed(std::string_view key, std::string_view value, std::string_view allowed);

}  // namespace forebay::trace
