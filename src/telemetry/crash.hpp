// The crash handler's inside: where it looks, and how it is installed.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "forebay/telemetry.hpp"

namespace forebay::detail {

// One pair of tag and owner, by the number that blocks and events have for it.
struct CrashTag {
  std::uint16_t id = 0;
  std::string_view tag;
  std::string_view owner;
  Bytes live;
  std::uint64_t live_blocks = 0;
  Bytes allocated;
  std::uint64_t allocations = 0;
};

// One counter; those of one group follow each other.
struct CrashCounter {
  std::string_view kind;
  std::string_view group;
  std::string_view name;
  double value = 0;
};

// What to call with each item, until it says false: there is no more room.
template <typename Item>
struct CrashVisitor {
  void* context;
  bool (*visit)(void* context, const Item& item);
  bool operator()(const Item& item) const { return visit(context, item); }
};

// Where a handler of signals may look. Each function is safe there: it takes no lock, allocates
// nothing, and may read what other threads change meanwhile. If it faults, what it gave until
// then counts. Null: nothing of that kind.
struct CrashSources {
  TrackerOptions (*options)() noexcept = nullptr;
  void (*tags)(CrashVisitor<CrashTag>) = nullptr;
  void (*counters)(CrashVisitor<CrashCounter>) = nullptr;
  // Names of pools and resources, in the order that LiveBlock::source numbers them.
  void (*sources)(CrashVisitor<std::string_view>) = nullptr;
  // Of blocks, `tag` is CrashTag::id, and events' too.
  void (*blocks)(CrashVisitor<LiveBlock>) = nullptr;
  std::span<const std::uintptr_t> (*frames)(StackId) noexcept = nullptr;
  void (*events)(CrashVisitor<TimelineEvent>) = nullptr;
};

// What write_snapshot_on_crash() looks at.
CrashSources crash_sources() noexcept;

// As write_snapshot_on_crash(), with other sources. The calling thread gets an alternate stack if
// it has none; other threads that overflow their stack need one of their own.
Status install_crash_handler(const CrashOptions& options, const CrashSources& sources);

}  // namespace forebay::detail
