// CrashImage: what a crash handler saw, in memory that was reserved before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "telemetry/crash.hpp"
#include "telemetry/modules.hpp"
#include "telemetry/snapshot_fields.hpp"

namespace forebay::detail {

// The same members as Snapshot's parts, for the tables of keys; text is elsewhere.
struct CrashGroup {
  std::string_view kind;
  std::string_view name;
  struct Counter {
    std::string_view name;
    double value;
  };
  std::span<const Counter> statistics;
};
template <>
struct Fields<CrashTag> : Fields<TagStats> {};
template <>
struct Fields<CrashGroup> : Fields<StatisticsGroup> {};

// Room for so many things; what comes after them is left out.
struct CrashRoom {
  std::size_t tags = 1U << 14;
  std::size_t groups = 1U << 10;
  std::size_t counters = 1U << 14;
  std::size_t sources = 1U << 10;
  std::size_t blocks = 1U << 17;  // samples of 64 GiB
  std::size_t stacks = 1U << 15;
  std::size_t frames = 1U << 17;        // different ones
  std::size_t stack_frames = 1U << 20;  // of all stacks together
  std::size_t events = 1U << 18;        // 8 MiB of timeline
  std::size_t subjects = 1U << 12;
  std::size_t text = 1U << 20;
};

// A list in memory of somebody else.
template <typename T>
class FixedList {
 public:
  FixedList() = default;
  explicit FixedList(std::span<T> room) : room_(room) {}
  bool push(const T& item) noexcept {
    if (size_ == room_.size()) return false;
    room_[size_++] = item;
    return true;
  }
  std::size_t size() const noexcept { return size_; }
  bool full() const noexcept { return size_ == room_.size(); }
  T& operator[](std::size_t at) noexcept { return room_[at]; }
  T& back() noexcept { return room_[size_ - 1]; }
  const T* begin() const noexcept { return room_.data(); }
  const T* end() const noexcept { return room_.data() + size_; }

 private:
  std::span<T> room_;
  std::size_t size_ = 0;
};

// Numbers keys (not zero) in the order of their first use: open addressing, never more than half
// full.
class FixedNumbering {
 public:
  struct Slot {
    std::uint64_t key = 0;
    std::uint32_t number = 0;
  };
  static constexpr std::uint32_t kNoRoom = ~0U;
  FixedNumbering() = default;
  explicit FixedNumbering(std::span<Slot> slots) : slots_(slots) {}  // a power of two
  // The key's number, `next` if it is new; kNoRoom.
  std::uint32_t number(std::uint64_t key, std::uint32_t next) noexcept;

 private:
  std::span<Slot> slots_;
};

class CrashImage {
 public:
  // Reserves the room; it takes memory as something is put there. Throws std::bad_alloc.
  explicit CrashImage(const CrashRoom& room);
  ~CrashImage();
  CrashImage(const CrashImage&) = delete;
  CrashImage& operator=(const CrashImage&) = delete;

  // As it was made: the memory of what was there is given back.
  void clear() noexcept;
  // Each looks at one source, and may fault: what it saw until then is whole.
  void add_tags(const CrashSources& sources);
  void add_counters(const CrashSources& sources);
  void add_sources(const CrashSources& sources);
  void add_blocks(const CrashSources& sources, double now_seconds);
  void add_stacks(const CrashSources& sources, const LoadedModules& modules);
  void add_events(const CrashSources& sources);
  // After them: what was cut short is made to fit together.
  void complete();

  // The members that Fields<SnapshotDocument> wants.
  struct Lists {
    std::string_view program;
    std::int64_t pid = 0;
    std::string_view taken_at;
    double clock_seconds = 0;
    std::string_view reason;
    bool complete = false;
    std::uint64_t resident_bytes = 0;
    std::uint64_t sample_interval_bytes = 0;
    std::string_view grade;
    std::span<const SnapshotDevice> devices{};
    std::span<const BudgetStats> budgets{};
    std::span<const SnapshotPool> pools{};
    std::span<const SnapshotSegment> segments{};
    FixedList<CrashGroup> statistics;
    FixedList<CrashTag> tags;
    FixedList<std::string_view> sources;
    std::span<const SnapshotModule> modules;
    FixedList<SnapshotBlock> blocks;
  };
  struct Frames {
    std::span<const std::string_view> functions{};
    FixedList<FrameRow> frames;
  };
  struct Events {
    std::span<const std::string_view> kinds;
    FixedList<std::string_view> subjects;
    FixedList<EventRow> rows;
  };
  Lists snapshot;
  Frames frames;
  FixedList<std::span<const std::uint32_t>> stacks;
  Events events;

 private:
  std::size_t divide(std::byte* memory, const CrashRoom& room);
  std::string_view keep(std::string_view text) noexcept;
  // Plus one. What is not known is of "(other)"; 0: there is no room for that.
  std::uint32_t tag_row(std::uint16_t id) noexcept;
  bool add_block(const LiveBlock& block, double now_seconds) noexcept;
  bool add_stack(std::span<const std::uintptr_t> addresses, const LoadedModules& modules) noexcept;
  bool add_event(const TimelineEvent& event) noexcept;

  FixedList<CrashGroup::Counter> counters_;
  FixedList<std::uint32_t> stack_frames_;
  FixedList<StackId> stack_ids_;
  FixedNumbering stack_numbers_;
  FixedNumbering frame_numbers_;
  FixedNumbering subject_numbers_;
  std::span<std::uint32_t> tag_indices_;  // by id, plus one
  std::uint32_t other_tag_ = 0;           // plus one; 0: not there yet
  FixedList<char> text_;
  const CrashRoom room_;
  std::size_t size_ = 0;
  void* memory_ = nullptr;
};

template <>
struct Fields<CrashImage::Frames> : Fields<FrameTable> {};
template <>
struct Fields<CrashImage::Events> : Fields<EventTable> {};
template <>
struct Fields<CrashImage> : Fields<SnapshotDocument<Snapshot>> {};

}  // namespace forebay::detail
