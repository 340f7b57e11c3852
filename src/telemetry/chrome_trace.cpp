// The Trace Event Format (JSON object form), which Perfetto and chrome://tracing read.
//
//   C  a counter track for each budget, pool and tag: the snapshot's bytes, and from there back
//      in time by what the events say;
//   X  the life of each block that the timeline knows, in lanes where slices do not overlap;
//   i  everything else that happened, on the thread where it did;
//   M  names.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>
#include <queue>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "telemetry/formats.hpp"
#include "telemetry/history.hpp"
#include "telemetry/json.hpp"

namespace forebay::detail {
namespace {

// More at once would be more than a person can look at; the counters have them all.
constexpr std::uint32_t kMostLanes = 64;
// Lanes have thread numbers above those of Linux (at most 2^22).
constexpr std::uint64_t kFirstLane = 1ULL << 23;

enum class Of : std::uint8_t { budget, pool_live, pool_reserved, tag };

struct Counter {
  std::string name;
  std::uint64_t bytes = 0;  // while the events are told: at that time
};

struct Slice {
  std::uint32_t lane = 0;
  double begin = 0;
  std::uint64_t bytes = 0;
  std::uint32_t tag = 0;
  std::uint64_t address = 0;
};

// Lanes of one pool or resource: the lowest that is free.
class Lanes {
 public:
  // kMostLanes: there is none.
  std::uint32_t take() {
    if (!free_.empty()) {
      const std::uint32_t lane = free_.top();
      free_.pop();
      return lane;
    }
    return used_ < kMostLanes ? used_++ : kMostLanes;
  }
  void give(std::uint32_t lane) { free_.push(lane); }
  std::uint32_t used() const { return used_; }

 private:
  std::priority_queue<std::uint32_t, std::vector<std::uint32_t>, std::greater<>> free_;
  std::uint32_t used_ = 0;
};

class Writer {
 public:
  Writer(const Snapshot& snapshot, Output& out)
      : snapshot_(snapshot), json_(out), history_(snapshot) {}
  void write();

 private:
  void make_counters();
  void add_counter(Of of, std::string_view key, std::string name, Bytes bytes);
  Counter* counter_of(Of of, std::string_view key);
  // Its change by the event, if it has one; a null counter ends the list.
  struct Effect {
    Counter* counter = nullptr;
    bool grows = false;
  };
  std::array<Effect, 2> effects_of(const SnapshotEvent& event);
  void rewind();
  void begin(std::string_view name, std::string_view phase, double seconds, std::uint64_t thread);
  void begin_arguments();
  void end();
  void write_names();
  void write_thread_name(std::uint64_t thread, const std::string& name);
  void write_counter(const Counter& counter, double seconds);
  void write_instant(const SnapshotEvent& event);
  void write_slice(std::uint32_t source, const Slice& slice, double end_seconds);
  void begin_slice(std::size_t index);
  void end_slice(std::size_t index);
  void write_events();
  void write_lasting_slices();
  std::uint64_t lane_thread(std::uint32_t source, std::uint32_t lane) const {
    return kFirstLane + static_cast<std::uint64_t>(source) * kMostLanes + lane;
  }
  double start() const;
  std::string title(std::uint32_t tag) const { return title_of(tag_at(snapshot_, tag)); }

  const Snapshot& snapshot_;
  JsonDocument json_;
  History history_;
  std::vector<Counter> counters_;
  std::unordered_map<std::string, std::size_t> by_key_;
  std::vector<Lanes> lanes_;             // of each source
  std::vector<std::string_view> names_;  // of each source
  std::unordered_map<std::uint64_t, std::vector<std::pair<std::uint32_t, Slice>>> open_;
};

std::string key_of(Of of, std::string_view key) {
  return fmt::format("{}{}", static_cast<int>(of), key);
}

void Writer::add_counter(Of of, std::string_view key, std::string name, Bytes bytes) {
  if (by_key_.try_emplace(key_of(of, key), counters_.size()).second) {
    counters_.push_back({std::move(name), bytes.count()});
  }
}

Counter* Writer::counter_of(Of of, std::string_view key) {
  const auto at = by_key_.find(key_of(of, key));
  return at == by_key_.end() ? nullptr : &counters_[at->second];
}

void Writer::make_counters() {
  for (const BudgetStats& budget : snapshot_.budgets) {
    add_counter(Of::budget, budget.path, "budget " + budget.path, budget.charged);
  }
  for (const SnapshotPool& pool : snapshot_.pools) {
    add_counter(Of::pool_live, pool.name, "pool " + pool.name + " live", pool.stats.live);
    add_counter(Of::pool_reserved, pool.name, "pool " + pool.name + " reserved",
                pool.stats.reserved);
  }
  for (std::size_t i = 0; i < snapshot_.tags.size(); ++i) {
    add_counter(Of::tag, std::to_string(i), "tag " + title_of(snapshot_.tags[i]),
                snapshot_.tags[i].live);
  }
}

std::array<Writer::Effect, 2> Writer::effects_of(const SnapshotEvent& event) {
  const std::string_view kind = event.kind;
  if (kind == "allocate" || kind == "free") {
    const bool grows = kind == "allocate";
    Counter* const tag =
        event.tag == 0 ? nullptr : counter_of(Of::tag, std::to_string(event.tag - 1));
    return {{{counter_of(Of::pool_live, event.subject), grows}, {tag, grows}}};
  }
  if (kind == "map" || kind == "unmap") {
    return {{{counter_of(Of::pool_reserved, event.subject), kind == "map"}, {}}};
  }
  if (kind == "reserve" || kind == "release") {
    return {{{counter_of(Of::budget, event.subject), kind == "reserve"}, {}}};
  }
  return {};
}

// Where events are missing, or their bytes are not quite what counts, a counter stays at zero
// rather than below.
void change(Counter& counter, bool grows, std::uint64_t bytes) {
  const std::uint64_t room = UINT64_MAX - counter.bytes;
  counter.bytes = grows ? counter.bytes + std::min(room, bytes)
                        : counter.bytes - std::min(counter.bytes, bytes);
}

void Writer::rewind() {
  for (auto event = snapshot_.events.rbegin(); event != snapshot_.events.rend(); ++event) {
    for (const Effect& effect : effects_of(*event)) {
      if (effect.counter != nullptr) change(*effect.counter, !effect.grows, event->bytes);
    }
  }
}

double Writer::start() const {
  return snapshot_.events.empty() ? snapshot_.clock_seconds : snapshot_.events.front().seconds;
}

void Writer::begin(std::string_view name, std::string_view phase, double seconds,
                   std::uint64_t thread) {
  json_.line_break();
  json_.begin_dict();
  json_.key("name");
  json_.text(name);
  json_.key("ph");
  json_.text(phase);
  json_.key("ts");
  json_.real(std::max(0.0, seconds) * 1e6);
  json_.key("pid");
  json_.number(static_cast<std::uint64_t>(std::max<std::int64_t>(0, snapshot_.pid)));
  json_.key("tid");
  json_.number(thread);
}

void Writer::begin_arguments() {
  json_.key("args");
  json_.begin_dict();
}

void Writer::end() {
  json_.end_dict();
  json_.end_dict();
}

void Writer::write_thread_name(std::uint64_t thread, const std::string& name) {
  begin("thread_name", "M", 0, thread);
  begin_arguments();
  json_.key("name");
  json_.text(name);
  end();
}

void Writer::write_names() {
  begin("process_name", "M", 0, 0);
  begin_arguments();
  json_.key("name");
  json_.text(snapshot_.program.empty() ? "(program)" : snapshot_.program);
  end();
  for (std::uint32_t source = 0; source < lanes_.size(); ++source) {
    for (std::uint32_t lane = 0; lane < lanes_[source].used(); ++lane) {
      write_thread_name(lane_thread(source, lane),
                        fmt::format("blocks of {}, lane {}", names_[source], lane + 1));
    }
  }
}

void Writer::write_counter(const Counter& counter, double seconds) {
  begin(counter.name, "C", seconds, 0);
  begin_arguments();
  json_.key("bytes");
  json_.number(counter.bytes);
  end();
}

void Writer::write_instant(const SnapshotEvent& event) {
  const bool is_mark = event.kind == "mark";
  begin(is_mark ? event.subject : event.kind + " " + event.subject, "i", event.seconds,
        event.thread);
  json_.key("cat");
  json_.text(event.kind);
  json_.key("s");
  json_.text(is_mark ? "p" : "t");  // a line through the whole process, or on its thread
  begin_arguments();
  json_.key("bytes");
  json_.number(event.bytes);
  if (event.tag != 0) {
    json_.key("tag");
    json_.text(title(event.tag - 1));
  }
  end();
}

void Writer::write_slice(std::uint32_t source, const Slice& slice, double end_seconds) {
  begin(title(slice.tag), "X", slice.begin, lane_thread(source, slice.lane));
  json_.key("dur");
  json_.real(std::max(0.0, end_seconds - slice.begin) * 1e6);
  json_.key("cat");
  json_.text("block");
  begin_arguments();
  json_.key("bytes");
  json_.number(slice.bytes);
  json_.key("address");
  json_.text(fmt::format("{:#x}", slice.address));
  end();
}

void Writer::begin_slice(std::size_t index) {
  const std::uint32_t source = history_.source_of(index);
  if (source >= lanes_.size()) {
    lanes_.resize(source + 1);
    names_.resize(source + 1);
  }
  names_[source] = snapshot_.events[index].subject;
  const std::uint32_t lane = lanes_[source].take();
  if (lane == kMostLanes) return;
  const SnapshotEvent& event = snapshot_.events[index];
  open_[event.address].emplace_back(
      source, Slice{lane, event.seconds, event.bytes, event.tag == 0 ? UINT32_MAX : event.tag - 1,
                    event.address});
}

void Writer::end_slice(std::size_t index) {
  const SnapshotEvent& event = snapshot_.events[index];
  const std::uint32_t source = history_.source_of(index);
  const auto at = open_.find(event.address);
  if (at == open_.end()) return;
  const auto slice = std::ranges::find(at->second, source, [](const auto& s) { return s.first; });
  if (slice == at->second.end()) return;
  write_slice(source, slice->second, event.seconds);
  lanes_[source].give(slice->second.lane);
  at->second.erase(slice);
  if (at->second.empty()) open_.erase(at);
}

void Writer::write_events() {
  for (std::size_t i = 0; i < snapshot_.events.size(); ++i) {
    const SnapshotEvent& event = snapshot_.events[i];
    for (const Effect& effect : effects_of(event)) {
      if (effect.counter == nullptr) continue;
      change(*effect.counter, effect.grows, event.bytes);
      write_counter(*effect.counter, event.seconds);
    }
    switch (history_.fate(i)) {
      case History::Fate::none:
        if (event.kind != "allocate" && event.kind != "free") write_instant(event);
        break;
      case History::Fate::release:
        end_slice(i);
        break;
      default:
        begin_slice(i);
    }
  }
}

// Blocks that no event gives back last as long as the snapshot knows.
void Writer::write_lasting_slices() {
  const double last = snapshot_.events.empty() ? 0 : snapshot_.events.back().seconds;
  std::vector<std::pair<std::uint32_t, Slice>> lasting;
  for (const auto& [address, slices] : open_) {
    lasting.insert(lasting.end(), slices.begin(), slices.end());
  }
  std::ranges::sort(lasting, {},
                    [this](const auto& s) { return lane_thread(s.first, s.second.lane); });
  for (const auto& [source, slice] : lasting) {
    write_slice(source, slice, std::max(last, snapshot_.clock_seconds));
  }
}

void Writer::write() {
  json_.begin_dict();
  json_.key("displayTimeUnit");
  json_.text("ms");
  json_.key("otherData");
  json_.begin_dict();
  json_.key("taken_at");
  json_.text(snapshot_.taken_at);
  json_.key("reason");
  json_.text(snapshot_.reason);
  json_.end_dict();
  json_.key("traceEvents");
  json_.begin_list();
  make_counters();
  const std::vector<Counter> at_end = counters_;
  rewind();
  if (!snapshot_.events.empty()) {
    for (const Counter& counter : counters_) write_counter(counter, start());
  }
  write_events();
  write_lasting_slices();
  for (const Counter& counter : at_end) write_counter(counter, snapshot_.clock_seconds);
  write_names();
  json_.end_list();
  json_.end_dict();
  json_.finish();
}

}  // namespace

void write_chrome_trace(const Snapshot& snapshot, Output& out) { Writer{snapshot, out}.write(); }

}  // namespace forebay::detail
