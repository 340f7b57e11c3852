#include "telemetry/crash_image.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <bit>
#include <new>

namespace forebay::detail {
namespace {

constexpr std::size_t kContexts = 1U << 16;  // all that a tag's number can be

// By the value of EventKind.
constexpr std::uint32_t kEventKinds = static_cast<std::uint32_t>(EventKind::mark) + 1;

std::span<const std::string_view> event_kinds() {
  static const auto names_of_kinds = [] {
    std::array<std::string_view, kEventKinds> names;
    for (std::size_t i = 0; i < names.size(); ++i) names[i] = to_string(static_cast<EventKind>(i));
    return names;
  }();
  return names_of_kinds;
}

// Hands out parts of a block of memory, each at a cache line. With no memory it only counts.
class Divider {
 public:
  explicit Divider(std::byte* memory) : memory_(memory) {}
  template <typename T>
  std::span<T> take(std::size_t count) {
    constexpr std::size_t kLine = 64;
    const std::size_t at = used_;
    used_ += (count * sizeof(T) + kLine - 1) & ~(kLine - 1);
    if (memory_ == nullptr) return {};
    return {reinterpret_cast<T*>(memory_ + at), count};
  }
  std::size_t used() const { return used_; }

 private:
  std::byte* memory_;
  std::size_t used_ = 0;
};

std::size_t slots_for(std::size_t count) { return 2 * std::bit_ceil(count); }

template <typename Item, typename Take>
CrashVisitor<Item> visitor(const Take& take) {
  return {const_cast<Take*>(&take), [](void* context, const Item& item) {
            return (*static_cast<const Take*>(context))(item);
          }};
}

}  // namespace

std::uint32_t FixedNumbering::number(std::uint64_t key, std::uint32_t next) noexcept {
  constexpr std::uint64_t kOdd = 0x9E3779B97F4A7C15;  // 2^64 over the golden ratio
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t at = (key * kOdd >> 20U) & mask;; at = (at + 1) & mask) {
    Slot& slot = slots_[at];
    if (slot.key == key) return slot.number;
    if (slot.key != 0) continue;
    if (next == kNoRoom) return kNoRoom;
    slot = {key, next};
    return next;
  }
}

CrashImage::CrashImage(const CrashRoom& room) : room_(room), size_(divide(nullptr, room)) {
  memory_ = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory_ == MAP_FAILED) throw std::bad_alloc{};
  divide(static_cast<std::byte*>(memory_), room);
  events.kinds = event_kinds();
}

CrashImage::~CrashImage() { ::munmap(memory_, size_); }

void CrashImage::clear() noexcept {
  ::madvise(memory_, size_, MADV_DONTNEED);  // zeroes when it is touched again
  divide(static_cast<std::byte*>(memory_), room_);
  other_tag_ = 0;
}

// Returns the bytes that it takes in all.
std::size_t CrashImage::divide(std::byte* memory, const CrashRoom& room) {
  Divider part{memory};
  const auto list = [&]<typename T>(FixedList<T>& to, std::size_t count) {
    to = FixedList<T>{part.take<T>(count)};
  };
  list(snapshot.statistics, room.groups);
  list(counters_, room.counters);
  list(snapshot.tags, room.tags);
  list(snapshot.sources, room.sources);
  list(snapshot.blocks, room.blocks);
  list(frames.frames, room.frames);
  list(stacks, room.stacks);
  list(stack_ids_, room.stacks);
  list(stack_frames_, room.stack_frames);
  list(events.rows, room.events);
  list(events.subjects, room.subjects);
  list(text_, room.text);
  tag_indices_ = part.take<std::uint32_t>(kContexts);
  stack_numbers_ = FixedNumbering{part.take<FixedNumbering::Slot>(slots_for(room.stacks))};
  frame_numbers_ = FixedNumbering{part.take<FixedNumbering::Slot>(slots_for(room.frames))};
  subject_numbers_ = FixedNumbering{part.take<FixedNumbering::Slot>(slots_for(room.subjects))};
  return part.used();
}

// A copy: what names a pool may be gone, or be garbage, by the time of writing.
std::string_view CrashImage::keep(std::string_view text) noexcept {
  const std::size_t first = text_.size();
  for (const char c : text) {
    if (!text_.push(c)) break;
  }
  return {text_.begin() + first, text_.size() - first};
}

void CrashImage::add_tags(const CrashSources& from) {
  if (from.tags == nullptr) return;
  const auto take = [this](const CrashTag& tag) {
    if (!snapshot.tags.push(tag)) return false;
    tag_indices_[tag.id] = static_cast<std::uint32_t>(snapshot.tags.size());
    if (tag.tag == "(other)" && tag.owner.empty()) other_tag_ = tag_indices_[tag.id];
    return true;
  };
  from.tags(visitor<CrashTag>(take));
}

void CrashImage::add_counters(const CrashSources& from) {
  if (from.counters == nullptr) return;
  const auto take = [this](const CrashCounter& counter) {
    FixedList<CrashGroup>& groups = snapshot.statistics;
    const bool follows = groups.size() > 0 && groups.back().kind == counter.kind &&
                         groups.back().name == counter.group;
    if (!follows && !groups.push({keep(counter.kind), keep(counter.group), {}})) return false;
    if (!counters_.push({keep(counter.name), counter.value})) return false;
    CrashGroup& group = groups.back();
    const std::size_t size = group.statistics.size() + 1;
    group.statistics = {counters_.end() - size, size};
    return true;
  };
  from.counters(visitor<CrashCounter>(take));
}

void CrashImage::add_sources(const CrashSources& from) {
  if (from.sources == nullptr) return;
  const auto take = [this](std::string_view name) { return snapshot.sources.push(keep(name)); };
  from.sources(visitor<std::string_view>(take));
}

std::uint32_t CrashImage::tag_row(std::uint16_t id) noexcept {
  if (const std::uint32_t known = tag_indices_[id]; known != 0) return known;
  CrashTag other;
  other.tag = "(other)";
  if (other_tag_ == 0 && snapshot.tags.push(other)) {
    other_tag_ = static_cast<std::uint32_t>(snapshot.tags.size());
  }
  return other_tag_;
}

bool CrashImage::add_block(const LiveBlock& live, double now_seconds) noexcept {
  const auto room = static_cast<std::uint32_t>(stack_ids_.size());
  SnapshotBlock block;
  block.address = live.address;
  block.bytes = live.bytes.count();
  block.pool = live.source < snapshot.sources.size() ? live.source : 0;
  const std::uint32_t tag = tag_row(static_cast<std::uint16_t>(live.tag));
  block.tag = tag == 0 ? 0 : tag - 1;
  block.age_seconds = std::max(0.0, now_seconds - std::chrono::duration<double>(live.born).count());
  block.weight_bytes = live.weight_bytes;
  block.weight_blocks = live.weight_blocks;
  if (live.stack != 0) {
    const bool full = stack_ids_.full();
    const std::uint32_t number =
        stack_numbers_.number(live.stack, full ? FixedNumbering::kNoRoom : room);
    if (number == room) stack_ids_.push(live.stack);
    block.stack = number == FixedNumbering::kNoRoom ? 0 : number + 1;
  }
  return snapshot.blocks.push(block);
}

void CrashImage::add_blocks(const CrashSources& from, double now_seconds) {
  if (from.blocks == nullptr) return;
  // What a block refers to if its own is not known.
  if (snapshot.tags.size() == 0 && snapshot.tags.push({})) tag_indices_[0] = 1;
  if (snapshot.sources.size() == 0) snapshot.sources.push({});
  const auto take = [&](const LiveBlock& block) { return add_block(block, now_seconds); };
  from.blocks(visitor<LiveBlock>(take));
}

bool CrashImage::add_stack(std::span<const std::uintptr_t> addresses,
                           const LoadedModules& modules) noexcept {
  const std::size_t first = stack_frames_.size();
  for (const std::uintptr_t address : addresses) {
    const auto next = static_cast<std::uint32_t>(frames.frames.size());
    const bool full = frames.frames.full();
    const std::uint32_t number =
        frame_numbers_.number(address, full ? FixedNumbering::kNoRoom : next);
    if (number == FixedNumbering::kNoRoom) return false;
    if (number == next) {
      const SnapshotFrame place = modules.place_of(address - 1);  // of the call
      frames.frames.push({place.module, place.offset, 0});
    }
    if (!stack_frames_.push(number)) return false;
  }
  return stacks.push({stack_frames_.begin() + first, stack_frames_.size() - first});
}

void CrashImage::add_stacks(const CrashSources& from, const LoadedModules& modules) {
  if (from.frames == nullptr) return;
  for (const StackId id : stack_ids_) {
    if (!add_stack(from.frames(id), modules)) return;
  }
}

bool CrashImage::add_event(const TimelineEvent& event) noexcept {
  const auto next = static_cast<std::uint32_t>(events.subjects.size());
  const auto key = reinterpret_cast<std::uintptr_t>(event.subject.data());
  const bool full = events.subjects.full();
  std::uint32_t subject = 0;  // the one without a name
  if (key != 0) subject = subject_numbers_.number(key, full ? FixedNumbering::kNoRoom : next);
  if (subject == next) events.subjects.push(event.subject);
  if (subject == FixedNumbering::kNoRoom) subject = 0;
  const auto kind = static_cast<std::uint32_t>(event.kind);
  return events.rows.push({kind < kEventKinds ? kind : kEventKinds - 1, subject,
                           event.tag == 0 ? 0 : tag_row(event.tag), event.thread,
                           std::chrono::duration<double>(event.at).count(), event.address,
                           event.bytes.count()});
}

void CrashImage::add_events(const CrashSources& from) {
  if (from.events == nullptr) return;
  events.subjects.push({});
  const auto take = [this](const TimelineEvent& event) { return add_event(event); };
  from.events(visitor<TimelineEvent>(take));
}

void CrashImage::complete() {
  while (stacks.size() < stack_ids_.size() && stacks.push({})) {
  }
}

}  // namespace forebay::detail
