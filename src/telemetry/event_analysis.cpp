#include "telemetry/event_analysis.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <queue>
#include <unordered_map>
#include <utility>

#include "telemetry/event_timeline.hpp"
#include "telemetry/number_table.hpp"

namespace forebay::events {
namespace {

// One thread's events, as far as they are read.
struct Lane {
  std::vector<std::uint32_t> chunks;  // indexes, in the order of the file
  std::size_t next_chunk = 0;
  std::vector<std::byte> buffer;
  const std::byte* at = nullptr;
  const std::byte* end = nullptr;
  std::uint16_t id = 0;
  std::uint16_t context = 0;
  std::uint32_t stack = 0;
  std::uint64_t next_number = 0;
  std::uint64_t first = 0;  // number in this file
  std::uint64_t last_other = 0;
  std::uint64_t time = 0;  // nanoseconds since the start
  bool begun = false;
};

struct LiveBlock {
  std::uint64_t bytes = 0;
  std::uint32_t site = 0;
  std::uint32_t born = 0;  // milliseconds since the start: 49 days
};

std::uint64_t key_of(std::uint64_t lane, std::uint64_t number) noexcept {
  return lane << 48 | number;
}

std::uint32_t milliseconds_of(std::uint64_t nanoseconds) noexcept {
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(nanoseconds / 1'000'000, ~std::uint32_t{0}));
}

std::size_t lifetime_class(std::uint32_t milliseconds) noexcept {
  std::size_t index = 0;
  for (std::uint64_t bound = 10; index < kLifetimeSeconds.size() && milliseconds >= bound;
       bound *= 10) {
    ++index;
  }
  return index;
}

class Analysis {
 public:
  Analysis(const EventReader& reader, const AnalysisOptions& options)
      : reader_(reader), options_(options), timeline_(options.points) {}

  Result<EventReport> run() {
    auto contents =
        reader_.contents(options_.most, [this](double share) { return goes_on(share / 2); });
    if (!contents.ok()) return contents.status();
    report_.contents = std::move(*contents);
    Status read = collect_lanes();
    if (read.ok()) read = read_lanes();
    if (!read.ok()) return read;
    finish();
    return std::move(report_);
  }

 private:
  Status collect_lanes() {
    std::unordered_map<std::uint16_t, std::size_t> places;
    const auto& chunks = report_.contents.chunks;
    // Lists that grow have their old and their new array at once.
    other_memory_ = report_.contents.memory + 3 * chunks.size() * sizeof(std::uint32_t);
    if (!fits()) return full();
    for (std::size_t i = 0; i < chunks.size(); ++i) {
      const auto [place, is_new] = places.try_emplace(chunks[i].lane, lanes_.size());
      if (is_new) {
        other_memory_ += kLaneMemory;
        if (!fits()) return full();
        lanes_.emplace_back().id = chunks[i].lane;
        lanes_.back().time = since_start(chunks[i].time);
        lane_of_[chunks[i].lane] = static_cast<std::uint32_t>(place->second + 1);
      }
      lanes_[place->second].chunks.push_back(static_cast<std::uint32_t>(i));
    }
    report_.threads = lanes_.size();
    return {};
  }

  std::uint64_t since_start(std::uint64_t time) const noexcept {
    const std::uint64_t start = report_.contents.start_ns;
    constexpr std::uint64_t kLongest = 1ULL << 62;  // 146 years
    return time > start ? std::min(time - start, kLongest) : 0;
  }

  // The lane that is furthest behind goes on until its time changes.
  Status read_lanes() {
    using Turn = std::pair<std::uint64_t, std::size_t>;
    std::priority_queue<Turn, std::vector<Turn>, std::greater<>> turns;
    for (std::size_t i = 0; i < lanes_.size(); ++i) turns.emplace(lanes_[i].time, i);
    while (!turns.empty()) {
      const auto [time, index] = turns.top();
      turns.pop();
      Lane& lane = lanes_[index];
      now_ = std::max(now_, time);
      if (lane.at >= lane.end) {
        if (lane.next_chunk == lane.chunks.size()) {
          release_buffer(lane);
          continue;
        }
        if (Status begun = begin_chunk(lane); !begun.ok()) return begun;
        turns.emplace(lane.time, index);
        continue;
      }
      if (Status read = read_events(lane); !read.ok()) return read;
      timeline_.add(now_, most_live_, report_.total.live_bytes);
      most_live_ = report_.total.live_bytes;
      turns.emplace(lane.time, index);
    }
    return {};
  }

  Status begin_chunk(Lane& lane) {
    const EventChunk& chunk = report_.contents.chunks[lane.chunks[lane.next_chunk++]];
    const std::size_t needed = chunk.length + EventReader::kSlack;
    if (needed > lane.buffer.capacity()) {
      release_buffer(lane);
      other_memory_ += needed;
      if (!fits()) return full();
      lane.buffer.reserve(needed);
    }
    if (Status read = reader_.read_events(chunk, lane.buffer); !read.ok()) return read;
    lane.at = lane.buffer.data();
    lane.end = lane.at + chunk.length;
    if (!std::exchange(lane.begun, true)) lane.next_number = lane.first = chunk.lane_first;
    if (chunk.first_number < lane.next_number) {
      // A chunk that is here twice, or made up: its numbers would be others' again.
      ++report_.bad_chunks;
      lane.at = lane.end;
      return {};
    }
    report_.lost_allocations += chunk.first_number - lane.next_number;
    lane.next_number = chunk.first_number;
    lane.context = 0;
    lane.stack = 0;
    lane.last_other = 0;
    lane.time = std::max(lane.time, since_start(chunk.time));
    return told();
  }

  // Many threads are read at once: a thread that has no more events keeps no buffer.
  void release_buffer(Lane& lane) noexcept {
    other_memory_ -= lane.buffer.capacity();
    std::vector<std::byte>{}.swap(lane.buffer);
    lane.at = lane.end = nullptr;
  }

  Status told() {
    const double share =
        static_cast<double>(++chunks_read_) / static_cast<double>(report_.contents.chunks.size());
    if (goes_on(0.5 + share / 2)) return {};
    return {Code::interrupted, "interrupted"};
  }
  bool goes_on(double share) const { return !options_.progress || options_.progress(share); }

  // Events of one moment. What makes no sense ends its chunk.
  Status read_events(Lane& lane) {
    while (lane.at < lane.end) {
      const std::uint64_t first = detail::take_number(lane.at);
      bool good = true;
      if ((first & 1) == 0) {
        if (Status status = allocate(lane, first, good); !status.ok()) return status;
      } else if (first != 1) {
        good = free_own(lane, first >> 1);
      } else {
        const std::uint64_t before = lane.time;
        if (Status status = control(lane, good); !status.ok()) return status;
        if (good && lane.time != before) return {};
      }
      if (!good) {
        ++report_.bad_chunks;
        lane.at = lane.end;
      }
    }
    return {};
  }

  Status allocate(Lane& lane, std::uint64_t first, bool& good) {
    if ((first & 2) != 0) {
      const std::uint64_t stack = lane.at < lane.end ? detail::take_number(lane.at) : ~0ULL;
      if (stack > ~std::uint32_t{0}) {
        good = false;
        return {};
      }
      lane.stack = static_cast<std::uint32_t>(stack);
    }
    good = lane.at <= lane.end && lane.next_number <= detail::kMostNumber;
    if (!good) return {};
    if (!fits()) return full();
    const std::uint64_t key = key_of(lane.id, lane.next_number++);
    const LiveBlock block{first >> 2, site_of(lane.stack, lane.context),
                          milliseconds_of(lane.time)};
    ++report_.events;
    count_allocation(report_.sites[block.site], block.bytes);
    if (count_allocation(report_.total, block.bytes)) peak_time_ = now_;
    most_live_ = std::max(most_live_, report_.total.live_bytes);
    std::uint32_t freed = 0;
    if (!early_.empty() && early_.take(key, freed)) {
      count_free(block, freed, false);
      return {};
    }
    *live_.insert(key).first = block;
    return {};
  }

  // Sums of a hostile file wrap; they are wrong then, and nothing else is.
  static bool count_allocation(Totals& totals, std::uint64_t bytes) noexcept {
    ++totals.allocations;
    totals.bytes += bytes;
    ++totals.live;
    totals.live_bytes += bytes;
    const bool peak = totals.live_bytes > totals.peak_bytes;
    if (peak) totals.peak_bytes = totals.live_bytes;
    return peak;
  }

  void count_free(const LiveBlock& block, std::uint32_t now, bool temporary) noexcept {
    const std::size_t lifetime = lifetime_class(now > block.born ? now - block.born : 0);
    ++report_.frees;
    for (Totals* const totals :
         {&report_.total, static_cast<Totals*>(&report_.sites[block.site])}) {
      --totals->live;
      totals->live_bytes -= block.bytes;
      if (temporary) ++totals->temporary;
      ++totals->lifetimes[lifetime];
    }
  }

  bool free_own(Lane& lane, std::uint64_t distance) noexcept {
    if (lane.at > lane.end || distance > lane.next_number) return false;
    ++report_.events;
    const std::uint64_t number = lane.next_number - distance;
    LiveBlock block;
    if (live_.take(key_of(lane.id, number), block)) {
      count_free(block, milliseconds_of(lane.time), distance <= 2);
    } else {
      ++(number < lane.first ? report_.older_frees : report_.unmatched_frees);
    }
    return true;
  }

  Status control(Lane& lane, bool& good) {
    good = false;
    if (lane.at >= lane.end) return {};
    const std::uint64_t what = detail::take_number(lane.at);
    if (lane.at >= lane.end) return {};
    const std::uint64_t value = detail::take_number(lane.at);
    if (lane.at > lane.end) return {};
    if (what == detail::kTickControl) {
      constexpr std::uint64_t kLongest = 1ULL << 52;  // microseconds: 142 years
      good = value < kLongest && lane.time < 1ULL << 62;
      if (good) lane.time += value * 1000;
    } else if (what == detail::kContextControl) {
      good = value < kMostContexts;
      if (good) lane.context = static_cast<std::uint16_t>(value);
    } else if (what <= kMostLanes + 1) {
      lane.last_other += detail::to_difference(value);
      good = lane.last_other <= detail::kMostNumber;
      if (good) return free_other(lane, static_cast<std::uint16_t>(what - 1), lane.last_other);
    }
    return {};
  }

  // The allocation may come later: the thread that took the block may have written it in a chunk
  // that is not read so far.
  Status free_other(const Lane& lane, std::uint16_t owner, std::uint64_t number) {
    ++report_.events;
    const std::uint32_t now = milliseconds_of(lane.time);
    const std::uint64_t key = key_of(owner, number);
    LiveBlock block;
    if (live_.take(key, block)) {
      count_free(block, now, false);
      return {};
    }
    switch (age_of(owner, number)) {
      case Age::older:
        ++report_.older_frees;
        break;
      case Age::read:
        ++report_.unmatched_frees;
        break;
      case Age::to_come:
        if (!fits()) return full();
        // One that is freed twice has its second free without a match.
        if (const auto [time, is_new] = early_.insert(key); is_new) {
          *time = now;
        } else {
          ++report_.unmatched_frees;
        }
    }
    return {};
  }

  enum class Age { older, read, to_come };
  Age age_of(std::uint16_t owner, std::uint64_t number) const noexcept {
    const auto place = lane_of_.find(owner);
    if (place == lane_of_.end()) return Age::older;  // it took nothing while this was recorded
    const Lane& lane = lanes_[place->second - 1];
    const std::uint64_t first =
        lane.begun ? lane.first : report_.contents.chunks[lane.chunks.front()].lane_first;
    if (number < first) return Age::older;
    return lane.begun && number < lane.next_number ? Age::read : Age::to_come;
  }

  std::uint32_t site_of(std::uint32_t stack, std::uint16_t context) {
    const std::uint64_t key = (std::uint64_t{stack} << 16 | context) + 1;
    const auto [index, is_new] = sites_.insert(key);
    if (is_new) {
      *index = static_cast<std::uint32_t>(report_.sites.size());
      Site& site = report_.sites.emplace_back();
      site.stack = stack;
      site.context = context;
    }
    return *index;
  }

  // Whether one more block, site and early free have room.
  bool fits() const noexcept {
    const std::uint64_t taken = other_memory_ + live_.memory() + live_.growth() + early_.memory() +
                                early_.growth() + sites_.memory() + sites_.growth() +
                                3 * (report_.sites.size() + 1) * sizeof(Site);
    return taken <= options_.most.count();
  }
  Status full() const {
    return {Code::memory_refused,
            fmt::format("{}: its names, {} threads, {} live blocks and {} places in the code need "
                        "more than {}",
                        reader_.name(), lanes_.size(), live_.size(), report_.sites.size(),
                        to_string(options_.most))};
  }

  void finish() {
    report_.unmatched_frees += early_.size();
    const std::uint64_t end = std::max(now_, since_start(report_.contents.end_ns));
    timeline_.add(end, report_.total.live_bytes, report_.total.live_bytes);
    report_.timeline = timeline_.points();
    report_.seconds = static_cast<double>(end) / 1e9;
    report_.peak_seconds = static_cast<double>(peak_time_) / 1e9;
    std::vector<EventChunk>{}.swap(report_.contents.chunks);
  }

  // With its place in the lists, maps and the queue, and those that grow.
  static constexpr std::uint64_t kLaneMemory = 3 * sizeof(Lane) + 256;
  static constexpr std::uint64_t kMostContexts = 1ULL << 16;
  static constexpr std::uint64_t kMostLanes = 65535;

  const EventReader& reader_;
  const AnalysisOptions& options_;
  EventReport report_;
  std::vector<Lane> lanes_;
  std::unordered_map<std::uint16_t, std::uint32_t> lane_of_;  // index, plus one
  std::uint64_t other_memory_ = 0;  // of contents, lanes and their buffers
  NumberTable<LiveBlock> live_;
  NumberTable<std::uint32_t> early_;  // freed (milliseconds) before they were taken
  NumberTable<std::uint32_t> sites_;  // indexes by stack and context
  EventTimeline timeline_;
  std::uint64_t now_ = 0;
  std::uint64_t peak_time_ = 0;
  std::uint64_t most_live_ = 0;  // since the timeline's latest entry
  std::uint64_t chunks_read_ = 0;
};

}  // namespace

Result<EventReport> analyse(const EventReader& reader, const AnalysisOptions& options) {
  return Analysis{reader, options}.run();
}

}  // namespace forebay::events
