#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <new>
#include <optional>

#include "base/text.hpp"
#include "telemetry/json_reader.hpp"
#include "telemetry/snapshot_fields.hpp"
#include "telemetry/snapshot_json.hpp"

namespace forebay {
namespace detail {
namespace {

using Document = SnapshotDocument<Snapshot>;

constexpr std::size_t kMostStatistics = 1024;  // of one group
constexpr std::size_t kMostFrames = 4096;      // of one stack
// Weights above add up to what is no number of bytes any more.
constexpr double kMostWeight = 9223372036854775808.0;  // 2^63

// Elements of one list. Empty ones are a few bytes of text, and none once compressed: what they
// take in memory is bounded before they are charged for.
template <typename T>
constexpr std::size_t kMostOf = 1U << 20;
template <>
constexpr std::size_t kMostOf<TagStats> = 8192;  // as many as the tracker numbers
template <>
constexpr std::size_t kMostOf<std::vector<std::uint32_t>> = 1U << 19;  // stacks
template <>
constexpr std::size_t kMostOf<SnapshotModule> = 1U << 16;

// What a compressed byte may become: a snapshot of a million blocks takes about 5 of memory for
// one of the file.
constexpr std::uint64_t kMostForOne = 64;
constexpr std::uint64_t kMostForAny = 64ULL << 20;
constexpr std::uint64_t kMostByDefault = 4ULL << 30;

Bytes most_for(std::uint64_t file_bytes) noexcept {
  const std::uint64_t counted = std::min(file_bytes, kMostByDefault / kMostForOne);
  return Bytes{std::min(kMostForAny + counted * kMostForOne, kMostByDefault)};
}

template <typename T>
concept Object = requires {
  sizeof(Fields<T>);
};

// ---- Values

void take(JsonReader& in, std::uint64_t& number) { in.read(number); }
void take(JsonReader& in, std::int64_t& number) { in.read(number); }
void take(JsonReader& in, double& number) { in.read(number); }
void take(JsonReader& in, bool& flag) { in.read(flag); }
void take(JsonReader& in, std::string& text) { in.read(text); }

void take(JsonReader& in, Bytes& bytes) {
  if (in.read_null()) {
    bytes = Bytes::unlimited();
    return;
  }
  std::uint64_t count = 0;
  in.read(count);
  bytes = Bytes{count};
}

void take(JsonReader& in, Pressure& pressure) {
  std::string text;
  in.read(text);
  for (const Pressure known : {Pressure::normal, Pressure::high, Pressure::critical}) {
    if (text != to_string(known)) continue;
    pressure = known;
    return;
  }
  in.fail("no pressure; allowed: normal, high, critical");
}

void take(JsonReader& in, std::vector<Statistic>& statistics) {
  for (in.begin_object(); in.next_key();) {
    const auto same = [&](const Statistic& other) { return other.name == in.key(); };
    if (std::ranges::any_of(statistics, same)) return in.fail("is there twice");
    if (statistics.size() == kMostStatistics) return in.fail("more than 1024 counters");
    if (!in.charge(sizeof(Statistic) + in.key().size())) return;
    Statistic& statistic = statistics.emplace_back();
    statistic.name = in.key();
    if (in.read_null()) {
      statistic.value = std::numeric_limits<double>::quiet_NaN();
    } else {
      in.read(statistic.value);
    }
  }
}

void take(JsonReader& in, std::vector<std::uint32_t>& frames) {
  for (in.begin_array(); in.next_element();) {
    if (frames.size() == kMostFrames) return in.fail("more than 4096 frames");
    if (!in.charge(sizeof frames[0])) return;
    in.read(frames.emplace_back());
  }
}

template <Object T>
void take(JsonReader& in, T& object);
template <typename Row>
void take(JsonReader& in, Table<std::vector<Row>> table);

template <typename T>
void take(JsonReader& in, std::vector<T>& list) {
  for (in.begin_array(); in.next_element();) {
    if (list.size() == kMostOf<T>) return in.fail(fmt::format("more than {} of them", kMostOf<T>));
    if (!in.charge(sizeof(T))) return;
    take(in, list.emplace_back());
  }
}

// A column of a table, as a member that is read by the table's reader.
template <typename Row>
class ColumnReader;
template <typename Row, typename Member>
struct Column {
  ColumnReader<Row>& table;
  Member member;
};
template <typename Row, typename Member>
void take(JsonReader& in, Column<Row, Member> column);

// ---- Objects

// Reads the value of the reader's key into the member of that name.
class MemberReader {
 public:
  explicit MemberReader(JsonReader& in) : in_(in) {}
  void operator()(std::string_view key, auto&& member) {
    const std::uint64_t bit = 1ULL << index_++;
    if (found_ || key != in_.key()) return;
    found_ = true;
    if ((seen_ & bit) != 0) return in_.fail("is there twice");
    seen_ |= bit;
    take(in_, member);
  }
  void next() {
    if (!found_) in_.skip();
    found_ = false;
    index_ = 0;
  }
  bool has_seen(unsigned index) const { return (seen_ >> index & 1U) != 0; }

 private:
  JsonReader& in_;
  std::uint64_t seen_ = 0;
  unsigned index_ = 0;
  bool found_ = false;
};

// Calls visit(name) for each of them; the first one that was not there is an error.
class MissingCheck {
 public:
  MissingCheck(JsonReader& in, const MemberReader& members) : in_(in), members_(members) {}
  void operator()(std::string_view key, auto&&) {
    if (!members_.has_seen(index_++)) in_.fail(fmt::format("{} is missing", key));
  }

 private:
  JsonReader& in_;
  const MemberReader& members_;
  unsigned index_ = 0;
};

// The keys of an object that has been begun.
template <typename T>
void take_members(JsonReader& in, T& object) {
  MemberReader members{in};
  while (in.next_key()) {
    Fields<T>::visit(members, object);
    members.next();
  }
  Fields<T>::visit(MissingCheck{in, members}, object);
}

template <Object T>
void take(JsonReader& in, T& object) {
  in.begin_object();
  take_members(in, object);
}

// ---- Tables

// Reads a table's columns, which come one after the other.
template <typename Row>
class ColumnReader {
 public:
  ColumnReader(JsonReader& in, std::vector<Row>& rows) : in_(in), rows_(rows) {}

  template <typename T>
  void operator()(T Row::*member) {
    std::size_t count = 0;
    for (in_.begin_array(); in_.next_element(); ++count) {
      if (count == rows_.size() && !add_row()) return;
      in_.read(rows_[count].*member);
    }
    if (in_.ok() && count != rows_.size()) wrong_length(count);
    sized_ = true;
  }

 private:
  bool add_row() {
    if (sized_) wrong_length(rows_.size() + 1);
    if (sized_ || !in_.charge(sizeof(Row))) return false;
    rows_.emplace_back();
    return true;
  }
  void wrong_length(std::size_t count) {
    in_.fail(
        fmt::format("has {} elements or more, where another column has {}", count, rows_.size()));
  }

  JsonReader& in_;
  std::vector<Row>& rows_;
  bool sized_ = false;  // by the first column
};

template <typename Row, typename Member>
void take(JsonReader&, Column<Row, Member> column) {
  column.table(column.member);
}

template <typename Row>
void take(JsonReader& in, Table<std::vector<Row>> table) {
  MemberReader members{in};
  ColumnReader<Row> columns{in, table.rows};
  for (in.begin_object(); in.next_key();) {
    Columns<Row>::visit([&](std::string_view key, auto column) {
      members(key, Column<Row, decltype(column)>{columns, column});
    });
    members.next();
  }
  Columns<Row>::visit(MissingCheck{in, members});
}

// ---- What refers to what

class ReferenceCheck {
 public:
  explicit ReferenceCheck(std::string_view file) : file_(file) {}
  const Status& status() const { return status_; }

  // `index` of `what`[at] must be below `size`, the elements of `of`. One-based: zero is none.
  void operator()(std::string_view what, std::size_t at, std::string_view key, std::uint64_t index,
                  std::string_view of, std::size_t size, bool one_based = false) {
    if (index < size + (one_based ? 1 : 0) || !status_.ok()) return;
    status_ = {
        Code::corrupt_data,
        fmt::format("{}: {}[{}]{}{}: {} is not allowed; {} has {} elements", printable_text(file_),
                    what, at, key.empty() ? "" : ".", key, index, of, size)};
  }

 private:
  std::string_view file_;
  Status status_;
};

Status check_references(const Document& document, std::string_view file) {
  const Snapshot& snapshot = document.snapshot;
  ReferenceCheck check{file};
  for (std::size_t i = 0; i < snapshot.segments.size(); ++i) {
    check("segments", i, "pool", snapshot.segments[i].pool, "pools", snapshot.pools.size());
  }
  for (std::size_t i = 0; i < snapshot.blocks.size(); ++i) {
    const SnapshotBlock& block = snapshot.blocks[i];
    check("blocks", i, "source", block.pool, "sources", snapshot.sources.size());
    check("blocks", i, "tag", block.tag, "tags", snapshot.tags.size());
    check("blocks", i, "stack", block.stack, "stacks", document.stacks.size(), true);
  }
  for (std::size_t i = 0; i < document.frames.frames.size(); ++i) {
    const FrameRow& frame = document.frames.frames[i];
    check("frames", i, "module", frame.module, "modules", snapshot.modules.size(), true);
    check("frames", i, "function", frame.function, "frames.functions",
          document.frames.functions.size(), true);
  }
  for (std::size_t i = 0; i < document.stacks.size(); ++i) {
    for (const std::uint32_t frame : document.stacks[i]) {
      check("stacks", i, "", frame, "frames", document.frames.frames.size());
    }
  }
  for (std::size_t i = 0; i < document.events.rows.size(); ++i) {
    const EventRow& event = document.events.rows[i];
    check("events", i, "kind", event.kind, "events.kinds", document.events.kinds.size());
    check("events", i, "subject", event.subject, "events.subjects",
          document.events.subjects.size());
    check("events", i, "tag", event.tag, "tags", snapshot.tags.size(), true);
  }
  return check.status();
}

Status check_values(const Snapshot& snapshot, std::string_view file) {
  for (std::size_t i = 0; i < snapshot.blocks.size(); ++i) {
    const SnapshotBlock& block = snapshot.blocks[i];
    const auto is_allowed = [](double weight) { return weight >= 0 && weight <= kMostWeight; };
    if (is_allowed(block.weight_bytes) && is_allowed(block.weight_blocks)) continue;
    return {Code::corrupt_data,
            fmt::format("{}: blocks[{}]: a weight below 0 or above 2^63 is not allowed",
                        printable_text(file), i)};
  }
  return {};
}

// ---- From the file's form to Snapshot's. REQUIRES: references were checked.

std::uint64_t heap_of(const std::string& text) noexcept {
  return text.size() > 15 ? text.size() : 0;  // shorter ones have room in the object
}

void expand_stacks(JsonReader& in, Document& document) {
  const FrameTable& table = document.frames;
  document.snapshot.stacks.reserve(document.stacks.size());
  for (const std::vector<std::uint32_t>& indices : document.stacks) {
    if (!in.charge(sizeof(std::vector<SnapshotFrame>) + indices.size() * sizeof(SnapshotFrame)))
      return;
    std::vector<SnapshotFrame>& stack = document.snapshot.stacks.emplace_back();
    stack.reserve(indices.size());
    for (const std::uint32_t index : indices) {
      const FrameRow& row = table.frames[index];
      SnapshotFrame& frame = stack.emplace_back();
      frame.module = row.module;
      frame.offset = row.offset;
      if (row.function == 0) continue;
      const std::string& function = table.functions[row.function - 1];
      if (!in.charge(heap_of(function))) return;
      frame.function = function;
    }
  }
}

void expand_events(JsonReader& in, Document& document) {
  const EventTable& table = document.events;
  document.snapshot.events.reserve(table.rows.size());
  for (const EventRow& row : table.rows) {
    const std::string& kind = table.kinds[row.kind];
    const std::string& subject = table.subjects[row.subject];
    if (!in.charge(sizeof(SnapshotEvent) + heap_of(kind) + heap_of(subject))) return;
    document.snapshot.events.push_back(
        {kind, subject, row.tag, row.thread, row.seconds, row.address, row.bytes});
  }
}

// ---- A crash handler's counters

std::uint64_t whole_of(double value) noexcept {
  constexpr double kTwoTo64 = 18446744073709551616.0;
  if (!(value > 0)) return 0;  // no number, too
  return value >= kTwoTo64 ? ~std::uint64_t{0} : static_cast<std::uint64_t>(value);
}

// Sets the members whose keys are names of the group's counters.
class Adopt {
 public:
  explicit Adopt(const StatisticsGroup& group) : group_(group) {}
  void operator()(std::string_view key, Bytes& member) const {
    if (const Statistic* found = find(key)) member = Bytes{whole_of(found->value)};
  }
  void operator()(std::string_view key, std::uint64_t& member) const {
    if (const Statistic* found = find(key)) member = whole_of(found->value);
  }
  void operator()(std::string_view, const auto&) const {}

 private:
  const Statistic* find(std::string_view key) const {
    const auto found = std::ranges::find(group_.statistics, key, &Statistic::name);
    return found == group_.statistics.end() ? nullptr : &*found;
  }

  const StatisticsGroup& group_;
};

BudgetStats budget_of(const StatisticsGroup& group) {
  BudgetStats budget;
  budget.limit = Bytes::unlimited();  // has no counter then
  Fields<BudgetStats>::visit(Adopt{group}, budget);
  budget.path = group.name;
  const bool limited = !budget.limit.is_unlimited();
  budget.available = limited ? budget.limit - std::min(budget.used, budget.limit) : budget.limit;
  return budget;
}

SnapshotPool pool_of(const StatisticsGroup& group) {
  SnapshotPool pool;
  pool.name = group.name;
  Fields<PoolStats>::visit(Adopt{group}, pool.stats);
  return pool;
}

// The handler writes budgets and pools as it sees them: as counters.
void adopt_counters(JsonReader& in, Snapshot& snapshot) {
  for (const StatisticsGroup& group : snapshot.statistics) {
    const bool is_budget = group.kind == "budget";
    if (!is_budget && group.kind != "pool") continue;
    if (!in.charge(sizeof(SnapshotPool) + heap_of(group.name))) return;
    if (is_budget) {
      snapshot.budgets.push_back(budget_of(group));
    } else {
      snapshot.pools.push_back(pool_of(group));
    }
  }
  std::erase_if(snapshot.statistics, [](const StatisticsGroup& group) {
    return group.kind == "budget" || group.kind == "pool";
  });
}

// ---- The file

void expect_first(JsonReader& in, std::string_view key) {
  if (!in.next_key() || in.key() == key) return;
  in.fail(fmt::format("expected the key {} here: this is no snapshot of Forebay's", key));
}

void take_heading(JsonReader& in) {
  std::string format;
  std::uint64_t version = 0;
  in.begin_object();
  expect_first(in, kFormatKey);
  in.read(format);
  if (format != kSnapshotFormat) return in.fail("this is no snapshot of Forebay's");
  expect_first(in, kVersionKey);
  in.read(version);
  if (version != Snapshot::kVersion) {
    in.fail(fmt::format("{} is not allowed; allowed: {}", version, Snapshot::kVersion));
  }
}

Result<Snapshot> read_document(ByteSource& source, const std::string& name, Bytes most) {
  Snapshot snapshot;
  Document document{snapshot, {}, {}, {}};
  JsonReader in{source, name, most};
  take_heading(in);
  if (in.ok()) take_members(in, document);
  in.expect_end();
  if (!in.ok()) return in.status();
  if (Status status = check_references(document, name); !status.ok()) return status;
  if (Status status = check_values(snapshot, name); !status.ok()) return status;
  expand_stacks(in, document);
  expand_events(in, document);
  if (!snapshot.complete) adopt_counters(in, snapshot);
  if (!in.ok()) return in.status();
  return snapshot;
}

Result<Snapshot> read_from(Result<std::unique_ptr<ByteSource>> source, const std::string& name,
                           std::optional<Bytes> most) {
  if (!source.ok()) return source.status();
  const Bytes bound = most.value_or(most_for((*source)->size()));
  source = decompressed(std::move(*source), name);
  if (!source.ok()) return source.status();
  return read_document(**source, name, bound);
}

Status no_memory() {
  return {Code::memory_refused, "the system has no memory left to read a snapshot"};
}

}  // namespace

Result<Snapshot> parse_snapshot(std::string_view bytes, const std::string& name,
                                std::optional<Bytes> most) {
  try {
    return read_from(source_over(bytes), name, most);
  } catch (const std::bad_alloc&) {
    return no_memory();
  }
}

}  // namespace detail

Result<Snapshot> read_snapshot(const std::string& path, std::optional<Bytes> most) {
  try {
    return detail::read_from(detail::open_source(path), path, most);
  } catch (const std::bad_alloc&) {
    return detail::no_memory();
  }
}

}  // namespace forebay
