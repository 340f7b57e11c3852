// The log of RMM's logging_resource_adaptor (24 and later): the header, the pattern
// "%t,%H:%M:%S.%f,%v", and the actions "allocate", "free" and "allocate failure".
#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "telemetry/formats.hpp"
#include "telemetry/history.hpp"

namespace forebay::detail {
namespace {

constexpr std::string_view kHeader = "Thread,Time,Action,Pointer,Size,Stream\n";
constexpr std::int64_t kMicrosOfDay = 86'400'000'000;

// A log is of one resource, where a pointer is live once. Here a pool's first block may have the
// address of the block of another pool that it lives in: such a pointer gets its source's number
// in the bits that no address has.
class Pointers {
 public:
  std::uint64_t take(std::uint32_t source, std::uint64_t address, std::uint64_t bytes) {
    const std::uint64_t pointer = live_.contains(address) ? tagged(source, address) : address;
    live_[pointer] = {source, bytes};
    return pointer;
  }
  // Zero bytes: not live.
  std::pair<std::uint64_t, std::uint64_t> give(std::uint32_t source, std::uint64_t address) {
    for (const std::uint64_t pointer : {address, tagged(source, address)}) {
      const auto at = live_.find(pointer);
      if (at == live_.end() || at->second.source != source) continue;
      const std::uint64_t bytes = at->second.bytes;
      live_.erase(at);
      return {pointer, bytes};
    }
    return {address, 0};
  }

 private:
  static constexpr int kAddressBits = 57;  // of a virtual address, with five levels of pages
  static std::uint64_t tagged(std::uint32_t source, std::uint64_t address) {
    return address | (source + std::uint64_t{1}) << kAddressBits;
  }
  struct Block {
    std::uint32_t source;
    std::uint64_t bytes;
  };
  std::unordered_map<std::uint64_t, Block> live_;
};

class Writer {
 public:
  Writer(const Snapshot& snapshot, Output& out)
      : snapshot_(snapshot), out_(out), history_(snapshot) {}
  void write();

 private:
  void write_held();
  void write_event(std::size_t index);
  void line(std::uint64_t thread, double seconds, std::string_view action, std::uint64_t pointer,
            std::uint64_t bytes);

  const Snapshot& snapshot_;
  Output& out_;
  History history_;
  Pointers pointers_;
};

void Writer::line(std::uint64_t thread, double seconds, std::string_view action,
                  std::uint64_t pointer, std::uint64_t bytes) {
  const std::int64_t micros = utc_of(snapshot_, seconds) / 1000 % kMicrosOfDay;
  const std::int64_t second = micros / 1'000'000;
  out_.put(fmt::format("{},{:02}:{:02}:{:02}.{:06},{},{},{},0x0\n", thread, second / 3600,
                       second / 60 % 60, second % 60, micros % 1'000'000, action,
                       pointer == 0 ? "(nil)" : fmt::format("{:#x}", pointer), bytes));
}

// What was there before the first event comes first, as if taken at its time.
void Writer::write_held() {
  const double start =
      snapshot_.events.empty() ? snapshot_.clock_seconds : snapshot_.events.front().seconds;
  const auto thread = static_cast<std::uint64_t>(std::max<std::int64_t>(0, snapshot_.pid));
  for (const History::Held& held : history_.held_before()) {
    if (held.bytes == 0 || held.address == 0) continue;
    line(thread, start, "allocate", pointers_.take(held.source, held.address, held.bytes),
         held.bytes);
  }
}

void Writer::write_event(std::size_t index) {
  const SnapshotEvent& event = snapshot_.events[index];
  if (event.kind == "deny") {
    return line(event.thread, event.seconds, "allocate failure", 0, event.bytes);
  }
  const std::uint32_t source = history_.source_of(index);
  switch (history_.fate(index)) {
    case History::Fate::none:
      return;
    case History::Fate::live:
    case History::Fate::open:
    case History::Fate::ended:
      if (event.bytes == 0) return;
      return line(event.thread, event.seconds, "allocate",
                  pointers_.take(source, event.address, event.bytes), event.bytes);
    case History::Fate::release:
      break;
  }
  // With the size that it was allocated with: readers compare.
  const auto [pointer, bytes] = pointers_.give(source, event.address);
  if (bytes != 0) line(event.thread, event.seconds, "free", pointer, bytes);
}

void Writer::write() {
  out_.put(kHeader);
  write_held();
  for (std::size_t i = 0; i < snapshot_.events.size(); ++i) write_event(i);
}

}  // namespace

void write_rmm_csv(const Snapshot& snapshot, Output& out) { Writer{snapshot, out}.write(); }

}  // namespace forebay::detail
