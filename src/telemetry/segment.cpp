#include "telemetry/segment.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string_view>
#include <thread>

namespace forebay::detail {
namespace {

// Bytes of the UTF-8 sequence that `text` begins with, as a terminal may show it; 0: none, a
// control character, or one that turns the direction of text.
std::size_t shown_length(std::string_view text) noexcept {
  const auto at = [text](std::size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U;
  };
  const unsigned first = at(0);
  if (first < 0x80) return first >= 0x20 && first != 0x7F ? 1 : 0;
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  constexpr std::array<unsigned, 5> kLeast{0, 0, 0xA0, 0x800, 0x10000};  // C1 controls left out
  if (first < 0xC2 || first > 0xF4) return 0;
  unsigned code = first & (0xFFU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if ((at(i) & 0xC0) != 0x80) return 0;
    code = code << 6 | (at(i) & 0x3F);
  }
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  const bool turns = (code >= 0x202A && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069);
  return code >= kLeast[length] && code <= 0x10FFFF && !surrogate && !turns ? length : 0;
}

template <std::size_t Capacity>
void put(SegmentText<Capacity>& into, std::string_view text) noexcept {
  std::size_t length = std::min(text.size(), Capacity);
  const auto continues = [&](std::size_t i) {
    return (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80;
  };
  while (length > 0 && length < text.size() && continues(length)) --length;
  into.length = static_cast<std::uint32_t>(length);
  std::memcpy(into.text.data(), text.data(), length);
}

std::uint64_t nanoseconds(Duration duration) noexcept {
  return static_cast<std::uint64_t>(std::max(duration.count(), Duration::rep{0}));
}

void put_row(SegmentBudget& row, const BudgetStats& budget) noexcept {
  put(row.path, budget.path);
  row.limit = budget.limit.count();
  row.guarantee = budget.guarantee.count();
  row.used = budget.used.count();
  row.charged = budget.charged.count();
  row.peak = budget.peak.count();
  row.available = budget.available.count();
  row.denials = budget.denials;
  row.warnings = budget.warnings;
  row.pressure = static_cast<std::uint32_t>(budget.pressure);
  row.shrinking = budget.shrinking ? 1 : 0;
}

void put_row(SegmentPool& row, const PublishedPool& pool) noexcept {
  put(row.name, pool.name);
  row.live = pool.live.count();
  row.idle = pool.idle.count();
  row.reserved = pool.reserved.count();
  row.largest_free = pool.largest_free.count();
  row.live_blocks = pool.live_blocks;
  row.refused = pool.refused;
  row.fragmentation = pool.fragmentation;
  row.hit_rate = pool.hit_rate;
}

void put_row(SegmentTag& row, const TagStats& tag) noexcept {
  put(row.tag, tag.tag);
  put(row.owner, tag.owner);
  row.live = tag.live.count();
  row.live_blocks = tag.live_blocks;
  row.allocated = tag.allocated.count();
  row.allocations = tag.allocations;
}

void put_row(SegmentGroup& row, const StatisticsGroup& group) noexcept {
  put(row.kind, group.kind);
  put(row.name, group.name);
  row.count = std::min(group.statistics.size(), kMostStatistics);
  for (std::size_t i = 0; i < row.count; ++i) {
    put(row.statistics[i].name, group.statistics[i].name);
    row.statistics[i].value = group.statistics[i].value;
  }
}

void put_row(SegmentEvent& row, const PublishedEvent& event) noexcept {
  put(row.subject, event.subject);
  put(row.tag, event.tag);
  row.kind = static_cast<std::uint32_t>(event.kind);
  row.thread = event.thread;
  row.age_ns = nanoseconds(event.age);
  row.bytes = event.bytes.count();
}

// Fills a table; returns its rows.
template <typename Row, std::size_t Most, typename Value>
std::uint32_t put_table(std::array<Row, Most>& table, const std::vector<Value>& values) noexcept {
  const std::size_t rows = std::min(values.size(), Most);
  for (std::size_t i = 0; i < rows; ++i) put_row(table[i], values[i]);
  return static_cast<std::uint32_t>(rows);
}

Status corrupt(std::string_view what) {
  return {Code::corrupt_data, fmt::format("statistics segment: {}", what)};
}

// Values from a file: the first that cannot be is remembered, and reading goes on with none.
class Checked {
 public:
  template <std::size_t Capacity>
  std::string text(const SegmentText<Capacity>& from) {
    return shown_text({from.text.data(), bounded(from.length, Capacity, "the length of a text")});
  }
  std::uint32_t bounded(std::uint64_t value, std::uint64_t most, std::string_view what) {
    if (value <= most) return static_cast<std::uint32_t>(value);
    if (status_.ok()) {
      status_ = corrupt(fmt::format("{} is {}; at most {} can be", what, value, most));
    }
    return 0;
  }
  Duration duration(std::uint64_t from) noexcept {
    constexpr auto kMost = static_cast<std::uint64_t>(Duration::max().count());
    return Duration{static_cast<Duration::rep>(std::min(from, kMost))};
  }
  static double finite(double from) noexcept { return std::isfinite(from) ? from : 0; }
  static double share(double from) noexcept { return std::clamp(finite(from), 0.0, 1.0); }
  const Status& status() const noexcept { return status_; }

 private:
  Status status_;
};

constexpr std::uint64_t kHighestPressure = static_cast<std::uint64_t>(Pressure::critical);
constexpr std::uint64_t kHighestKind = static_cast<std::uint64_t>(EventKind::mark);

BudgetStats value_of(Checked& check, const SegmentBudget& row) {
  BudgetStats budget;
  budget.path = check.text(row.path);
  budget.limit = Bytes{row.limit};
  budget.guarantee = Bytes{row.guarantee};
  budget.used = Bytes{row.used};
  budget.charged = Bytes{row.charged};
  budget.peak = Bytes{row.peak};
  budget.available = Bytes{row.available};
  budget.denials = row.denials;
  budget.warnings = row.warnings;
  budget.pressure =
      static_cast<Pressure>(check.bounded(row.pressure, kHighestPressure, "a pressure"));
  budget.shrinking = row.shrinking != 0;
  return budget;
}

PublishedPool value_of(Checked& check, const SegmentPool& row) {
  return {.name = check.text(row.name),
          .live = Bytes{row.live},
          .idle = Bytes{row.idle},
          .reserved = Bytes{row.reserved},
          .largest_free = Bytes{row.largest_free},
          .live_blocks = row.live_blocks,
          .refused = row.refused,
          .fragmentation = Checked::share(row.fragmentation),
          .hit_rate = Checked::share(row.hit_rate)};
}

TagStats value_of(Checked& check, const SegmentTag& row) {
  return {.tag = check.text(row.tag),
          .owner = check.text(row.owner),
          .live = Bytes{row.live},
          .live_blocks = row.live_blocks,
          .allocated = Bytes{row.allocated},
          .allocations = row.allocations};
}

StatisticsGroup value_of(Checked& check, const SegmentGroup& row) {
  StatisticsGroup group{check.text(row.kind), check.text(row.name), {}};
  const std::uint32_t count = check.bounded(row.count, kMostStatistics, "a group's statistics");
  for (std::uint32_t i = 0; i < count; ++i) {
    const SegmentStatistic& statistic = row.statistics[i];
    group.statistics.push_back({check.text(statistic.name), Checked::finite(statistic.value)});
  }
  return group;
}

PublishedEvent value_of(Checked& check, const SegmentEvent& row) {
  return {.kind = static_cast<EventKind>(check.bounded(row.kind, kHighestKind, "an event's kind")),
          .thread = row.thread,
          .age = check.duration(row.age_ns),
          .bytes = Bytes{row.bytes},
          .subject = check.text(row.subject),
          .tag = check.text(row.tag)};
}

template <typename Value, typename Row, std::size_t Most>
std::vector<Value> values_of(Checked& check, const std::array<Row, Most>& table, std::uint32_t rows,
                             std::string_view what) {
  std::vector<Value> values;
  rows = check.bounded(rows, Most, what);
  for (std::uint32_t i = 0; i < rows; ++i) values.push_back(value_of(check, table[i]));
  return values;
}

Result<PublishedView> view_of(const SegmentData& data) {
  Checked check;
  PublishedView view;
  view.pid = data.pid;
  view.program = check.text(data.program);
  view.updates = data.updates;
  view.taken = check.duration(data.taken_ns);
  view.interval = check.duration(data.interval_ns);
  view.publisher_cpu = check.duration(data.publisher_cpu_ns);
  view.publisher_since = check.duration(data.publisher_since_ns);
  view.line = Bytes{data.line};
  view.used = Bytes{data.used};
  view.resident = Bytes{data.resident};
  view.pressure =
      static_cast<Pressure>(check.bounded(data.pressure, kHighestPressure, "the pressure"));
  view.budgets = values_of<BudgetStats>(check, data.budget, data.budgets, "rows of budgets");
  view.pools = values_of<PublishedPool>(check, data.pool, data.pools, "rows of pools");
  view.tags = values_of<TagStats>(check, data.tag, data.tags, "rows of tags");
  view.groups = values_of<StatisticsGroup>(check, data.group, data.groups, "rows of groups");
  view.events = values_of<PublishedEvent>(check, data.event, data.events, "rows of events");
  view.left_out = {data.budgets_left_out, data.pools_left_out, data.tags_left_out,
                   data.groups_left_out};
  if (!check.status().ok()) return check.status();
  return view;
}

Status failed(std::string_view what) {
  return {Code::io_error, fmt::format("statistics segment: cannot {}: {}", what,
                                      errno == 0 ? "it is cut short" : std::strerror(errno))};
}

// All or nothing: a file of the right size takes and gives a whole segment at once.
bool write_at(int file, const void* from, std::size_t size, std::size_t offset) noexcept {
  errno = 0;
  return ::pwrite(file, from, size, static_cast<off_t>(offset)) == static_cast<ssize_t>(size);
}
bool read_at(int file, void* into, std::size_t size, std::size_t offset) noexcept {
  errno = 0;
  return ::pread(file, into, size, static_cast<off_t>(offset)) == static_cast<ssize_t>(size);
}

// Between two calls of the system: they alone order nothing on machines that order little.
void keep_order() noexcept {
#if !defined(__SANITIZE_THREAD__)  // which knows no fences, and does not look into files
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

// Whether `segment` is now what the file held at one moment.
Result<bool> read_once(int file, Segment& segment) {
  std::uint64_t after = 0;
  if (!read_at(file, &segment, sizeof(segment), 0)) return failed("read");
  keep_order();
  if (!read_at(file, &after, sizeof(after), offsetof(Segment, sequence))) return failed("read");
  return segment.sequence == after && after % 2 == 0;
}

}  // namespace

std::string shown_text(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = shown_length(text);
    result += length == 0 ? std::string_view{"?"} : text.substr(0, length);
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return result;
}

void encode(const PublishedView& view, SegmentData& data) noexcept {
  data.pid = view.pid;
  put(data.program, view.program);
  data.updates = view.updates;
  data.taken_ns = nanoseconds(view.taken);
  data.interval_ns = nanoseconds(view.interval);
  data.publisher_cpu_ns = nanoseconds(view.publisher_cpu);
  data.publisher_since_ns = nanoseconds(view.publisher_since);
  data.line = view.line.count();
  data.used = view.used.count();
  data.resident = view.resident.count();
  data.pressure = static_cast<std::uint32_t>(view.pressure);
  data.budgets = put_table(data.budget, view.budgets);
  data.pools = put_table(data.pool, view.pools);
  data.tags = put_table(data.tag, view.tags);
  data.groups = put_table(data.group, view.groups);
  data.events = put_table(data.event, view.events);
  data.budgets_left_out = view.left_out.budgets + (view.budgets.size() - data.budgets);
  data.pools_left_out = view.left_out.pools + (view.pools.size() - data.pools);
  data.tags_left_out = view.left_out.tags + (view.tags.size() - data.tags);
  data.groups_left_out = view.left_out.groups + (view.groups.size() - data.groups);
}

Result<PublishedView> parse_segment(std::span<const std::byte> file) {
  if (file.size() != sizeof(Segment)) {
    return corrupt(fmt::format("{} bytes; it has {}", file.size(), sizeof(Segment)));
  }
  const auto segment = std::make_unique<Segment>();
  std::memcpy(segment.get(), file.data(), sizeof(Segment));
  if (segment->magic != kSegmentMagic) return corrupt("it is none");
  if (segment->version != kSegmentVersion || segment->size != sizeof(Segment)) {
    return corrupt(fmt::format("version {}; this program reads version {}", segment->version,
                               kSegmentVersion));
  }
  return view_of(segment->data);
}

Status write_segment(int file, Segment& segment) {
  const std::size_t place = offsetof(Segment, sequence);
  segment.sequence |= 1;
  if (!write_at(file, &segment.sequence, sizeof(segment.sequence), place)) return failed("write");
  keep_order();
  if (!write_at(file, &segment, sizeof(segment), 0)) return failed("write");
  keep_order();
  ++segment.sequence;
  if (!write_at(file, &segment.sequence, sizeof(segment.sequence), place)) return failed("write");
  return {};
}

Result<PublishedView> read_segment_file(int file) {
  constexpr int kTries = 1000;
  struct stat about {};
  if (::fstat(file, &about) != 0) return failed("look at it");
  if (!S_ISREG(about.st_mode) || about.st_size != static_cast<off_t>(sizeof(Segment))) {
    return corrupt(fmt::format("{} bytes; it has {}", about.st_size, sizeof(Segment)));
  }
  const auto segment = std::make_unique<Segment>();
  for (int i = 0; i < kTries; ++i) {
    const Result<bool> whole = read_once(file, *segment);
    if (!whole.ok()) return whole.status();
    if (*whole) return parse_segment(std::as_bytes(std::span{segment.get(), 1}));
    std::this_thread::yield();
  }
  return Status{Code::failed_precondition,
                "statistics segment: it is being written without end; its process may be gone"};
}

}  // namespace forebay::detail
