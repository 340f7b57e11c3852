// Feeds arbitrary bytes to the reader of snapshots: it must end with a snapshot whose parts fit
// together and that is the same once written and read again, or with one clear line.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "telemetry/snapshot_json.hpp"

namespace {

using forebay::Code;
using forebay::Snapshot;
using forebay::detail::parse_snapshot;
using forebay::detail::snapshot_json;

constexpr forebay::Bytes kMost{16ULL << 20};

void demand(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "snapshot_fuzz: %s\n", what);
  std::abort();
}

void check_error(const forebay::Status& status) {
  const std::string& message = status.message();
  demand(status.code() == Code::corrupt_data || status.code() == Code::memory_refused,
         "an error of an unexpected kind");
  demand(message.starts_with("fuzz: "), "an error without the file's name");
  demand(message.size() < 8192, "an error that goes on and on");
  for (const char c : message) {
    demand(static_cast<unsigned char>(c) >= ' ' && c != '\x7f', "an error that is not one line");
  }
}

void check_references(const Snapshot& snapshot) {
  for (const auto& segment : snapshot.segments) {
    demand(segment.pool < snapshot.pools.size(), "a segment of no pool");
  }
  for (const auto& block : snapshot.blocks) {
    demand(block.pool < snapshot.sources.size() && block.tag < snapshot.tags.size() &&
               block.stack <= snapshot.stacks.size(),
           "a block that refers to nothing");
    demand(block.weight_bytes >= 0 && block.weight_blocks >= 0, "a weight that is none");
  }
  for (const auto& stack : snapshot.stacks) {
    for (const auto& frame : stack) {
      demand(frame.module <= snapshot.modules.size(), "a frame of no module");
    }
  }
  for (const auto& event : snapshot.events) {
    demand(event.tag <= snapshot.tags.size(), "an event of no tag");
  }
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer calls it by this name
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto read = parse_snapshot({reinterpret_cast<const char*>(data), size}, "fuzz", kMost);
  if (!read.ok()) {
    check_error(read.status());
    return 0;
  }
  check_references(*read);
  const std::string again = snapshot_json(*read);
  const auto second = parse_snapshot(again, "fuzz", forebay::Bytes::unlimited());
  demand(second.ok(), "what was written cannot be read");
  demand(snapshot_json(*second) == again, "what was read is not what was written");
  return 0;
}
