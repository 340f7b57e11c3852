// The governor's eyes: what the process, its cgroup and the machine say about memory, and
// a log of the stages that a run went through.
//
// (Relief, adaptive budgets and the monitor thread are to stand on these.)
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "forebay/budget.hpp"
#include "forebay/bytes.hpp"
#include "forebay/clock.hpp"
#include "forebay/status.hpp"

#pragma GCC visibility push(default)
namespace forebay {

// What of a process is in memory.
struct Residency {
  Bytes total;
  Bytes anonymous;  // of it, not backed by files or shared memory
};

// One look at the machine. Fields that the system does not offer are empty.
struct MemoryReading {
  Bytes resident;                     // of this process (/proc/self/statm)
  Bytes resident_anonymous;           // of it, not backed by files or shared memory
  Bytes resident_peak;                // highest resident since the process began (VmHWM)
  Bytes machine_total;                // MemTotal
  Bytes machine_available;            // MemAvailable
  std::optional<Bytes> cgroup_limit;  // the least limit from our cgroup up to the root
  std::optional<Bytes> cgroup_used;   // of the cgroup that has that limit
  std::string cgroup_source;          // the file that set the limit, for reports
};

struct PressureMonitorOptions {
  std::filesystem::path root = "/";  // where proc/ and sys/ are; a fake tree in tests
};

// Reads process, cgroup (v1, v2, hybrid, none) and machine. A read costs tens of microseconds and
// never walks the page tables (no smaps). Which cgroup the process is in is looked up
// once, when the monitor is made; limits and use are read afresh each time.
// Thread safety: thread-safe; copies share what was looked up.
class PressureMonitor {
 public:
  explicit PressureMonitor(const PressureMonitorOptions& options = {});
  // Errors: unsupported if proc's statm or meminfo cannot be read; a cgroup that cannot be
  // read is as none.
  Result<MemoryReading> read() const;
  // The process's resident bytes alone: one small file, for use at every step.
  Result<Residency> residency() const;
  // The most this process may use: the least of the machine's memory and its cgroup's
  // limit. Unlimited if neither can be read.
  Bytes allowed() const;

 private:
  struct Sources;
  std::shared_ptr<const Sources> sources_;
};

// A line to run under, and where it comes from, in words.
struct LineChoice {
  Bytes line;
  Bytes allowed;  // by machine and cgroup; unlimited if not known
  std::string reason;
};
// `wanted`, or all that machine and cgroup allow if that is less.
LineChoice choose_line(Bytes wanted, const MemoryReading& reading);
// `fraction` of what machine and cgroup allow, at most `most`. REQUIRES: 0 < fraction <= 1.
LineChoice choose_share(double fraction, const MemoryReading& reading,
                        Bytes most = Bytes::unlimited());

// Bytes that malloc has handed out in this process, touched or not, by its own count (glibc's
// mallinfo2: from 0.1 us, growing with the free chunks of a fragmented heap); empty where
// malloc does not count.
std::optional<Bytes> heap_in_use() noexcept;

// One entry of the stage log.
struct Stage {
  std::string name;  // "start", "planned", "model loaded", ...
  Duration at{};     // since the log began
  Bytes used;        // of the watched budget
  Bytes peak;        // of the watched budget, so far
  Bytes line;
  Bytes resident;  // of the process
};

// A bounded log of used / peak / line at the stages of a run.
// Thread safety: thread-safe; stages recorded at the same time by several threads are
// kept in the order in which they reach the log.
class StageLog {
 public:
  // Watches `budget`, which must outlive the log, as must `monitor` and `clock`. Keeps the
  // first and the latest `capacity` / 2 stages each. `sink`, if any, is told each stage as
  // it is recorded, on the recording thread with no lock held.
  StageLog(const Budget& budget, const PressureMonitor& monitor, std::size_t capacity = 256,
           std::function<void(const Stage&)> sink = {}, Clock& clock = Clock::steady());
  // Returns what it logged. `resident` is zero if the process cannot be read.
  Stage record(std::string name);
  // What was kept, oldest first.
  std::vector<Stage> stages() const;
  std::uint64_t dropped() const noexcept;  // stages that were recorded but not kept

 private:
  void keep(Stage stage);

  const Budget& budget_;
  const PressureMonitor& monitor_;
  const std::size_t capacity_;
  const std::function<void(const Stage&)> sink_;
  Clock& clock_;
  const Clock::TimePoint start_;
  mutable std::mutex mutex_;
  std::vector<Stage> first_, latest_;  // guarded by mutex_
  std::size_t next_ = 0;               // guarded by mutex_: the oldest of latest_
  std::uint64_t dropped_ = 0;          // guarded by mutex_
};

}  // namespace forebay
#pragma GCC visibility pop
