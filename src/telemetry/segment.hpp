// The segment: a view of a process as a file of fixed layout, that other processes read while it
// is written.
//
// It is written and read by pwrite() and pread(), not mapped: a file that somebody cuts short then
// is an error on either side, never a SIGBUS. A reader takes all of it as hostile.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "forebay/status.hpp"
#include "telemetry/published_view.hpp"

namespace forebay::detail {

inline constexpr std::array<char, 8> kSegmentMagic{'F', 'B', 'S', 'T', 'A', 'T', 'S', '\n'};
inline constexpr std::uint32_t kSegmentVersion = 1;
inline constexpr std::size_t kMostBudgets = 256;
inline constexpr std::size_t kMostPools = 64;
inline constexpr std::size_t kMostTags = 64;
inline constexpr std::size_t kMostGroups = 48;
inline constexpr std::size_t kMostStatistics = 24;  // of a group
inline constexpr std::size_t kMostEvents = 64;

// What is longer is cut, between characters.
template <std::size_t Capacity>
struct SegmentText {
  std::uint32_t length;
  std::array<char, Capacity> text;
};

struct SegmentBudget {
  SegmentText<140> path;
  std::uint64_t limit, guarantee, used, charged, peak, available, denials, warnings;
  std::uint32_t pressure, shrinking;
};
struct SegmentPool {
  SegmentText<76> name;
  std::uint64_t live, idle, reserved, largest_free, live_blocks, refused;
  double fragmentation, hit_rate;
};
struct SegmentTag {
  SegmentText<140> tag;
  SegmentText<60> owner;
  std::uint64_t live, live_blocks, allocated, allocations;
};
struct SegmentStatistic {
  SegmentText<44> name;
  double value;
};
struct SegmentGroup {
  SegmentText<20> kind;
  SegmentText<76> name;
  std::uint64_t count;
  std::array<SegmentStatistic, kMostStatistics> statistics;
};
struct SegmentEvent {
  SegmentText<76> subject;
  SegmentText<76> tag;
  std::uint32_t kind, thread;
  std::uint64_t age_ns, bytes;
};

struct SegmentData {
  std::int64_t pid;
  SegmentText<76> program;
  std::uint64_t updates, taken_ns, interval_ns, publisher_cpu_ns, publisher_since_ns;
  std::uint64_t line, used, resident;
  std::uint32_t pressure;
  std::uint32_t budgets, pools, tags, groups, events;  // rows of the tables below
  std::uint64_t budgets_left_out, pools_left_out, tags_left_out, groups_left_out;
  std::array<SegmentBudget, kMostBudgets> budget;
  std::array<SegmentPool, kMostPools> pool;
  std::array<SegmentTag, kMostTags> tag;
  std::array<SegmentGroup, kMostGroups> group;
  std::array<SegmentEvent, kMostEvents> event;
};

// The file.
struct Segment {
  std::array<char, 8> magic;
  std::uint32_t version;
  std::uint32_t size;      // of this struct
  std::uint64_t sequence;  // odd while `data` is being written
  SegmentData data;
};
static_assert(std::is_trivially_copyable_v<Segment> && std::is_standard_layout_v<Segment>);
static_assert(sizeof(Segment) % 8 == 0 && sizeof(Segment) < 200'000);

// Text from another process as a terminal may be given it: UTF-8 without control characters; what
// is neither is '?'.
std::string shown_text(std::string_view text);

// As much of the view as fits.
void encode(const PublishedView& view, SegmentData& data) noexcept;

// A whole file's bytes, checked: counts, lengths, kinds. Text comes without control characters and
// as UTF-8, numbers are finite. Error: corrupt_data.
Result<PublishedView> parse_segment(std::span<const std::byte> file);

// Writes into a file of sizeof(Segment) bytes. `sequence` is that of the last write, and goes up.
// Error: io_error.
Status write_segment(int file, Segment& segment);

// Reads a file as of one moment. Errors: corrupt_data (size); io_error; failed_precondition, if it
// does not come to rest: its writer died while it wrote.
Result<PublishedView> read_segment_file(int file);

}  // namespace forebay::detail
