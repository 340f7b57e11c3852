// The crash handler's inside: where it looks, and how it is installed.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>

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

// Where memory was refused, outside of any handler: a whole snapshot in
// "DIRECTORY/forebay-PID-refusal.json", of which the latest stays. Errors: those of
// write_snapshot().
Status write_refusal_snapshot(const std::string& directory);

// Writes them by a thread of its own, asleep until it is told to: what the refused thread holds
// locked may be what a snapshot has to look at. Thread-safe but for its construction and end.
class RefusalWriter {
 public:
  // `clock`: null: the machine's; must outlive it. Errors: io_error (no folder of that name),
  // memory_refused (no thread to be had).
  static Result<std::unique_ptr<RefusalWriter>> start(const std::string& directory,
                                                      Clock* clock = nullptr);
  // Waits until what is being written has been.
  ~RefusalWriter();
  RefusalWriter(const RefusalWriter&) = delete;
  RefusalWriter& operator=(const RefusalWriter&) = delete;

  // Memory was refused. Waits for the snapshot, two seconds at most. Nothing, if the last one was
  // less than a minute ago, in a child of fork(), and where the writer itself is refused memory.
  void note() noexcept;

 private:
  RefusalWriter(std::string directory, Clock& clock);
  void run() noexcept;

  const std::string directory_;
  Clock& clock_;
  const std::int64_t process_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Clock::TimePoint> last_;
  bool asked_ = false;
  bool ends_ = false;
  std::thread thread_;
};

}  // namespace forebay::detail
