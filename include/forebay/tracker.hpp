// Tracker: who holds every byte, since when, and from which place in the code.
//
// Three grades, switched while the program runs:
//   counters  exact bytes and counts for each tag and owner;
//   sampled   and, for about one block in 512 KiB, its stack, age and address (a Poisson process
//             over bytes; Gil Tene and others, "heap sampling", JEP 331);
//   full      all of that for every block; and, if asked, every event in a file.
//
//   {
//     forebay::TagScope layer{"decoder/layer3"};
//     auto activations = pool->acquire(64_MiB).value();   // counted under decoder/layer3
//   }
//   for (const auto& tag : forebay::Tracker::tags()) print(tag.tag, tag.live);
//
// Pools track their own blocks: what is known of a block is kept beside its slab, and what is
// counted is the calling thread's own, so that the common paths take no lock and share no write.
// track() puts the same in front of any other resource. One tracker serves the process.
//
// Thread safety: everything here is thread-safe unless it says otherwise; a scope belongs to the
// thread that opened it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "forebay/bytes.hpp"
#include "forebay/clock.hpp"
#include "forebay/device.hpp"
#include "forebay/status.hpp"

#pragma GCC visibility push(default)
namespace forebay {

enum class TrackingGrade : std::uint8_t { off, counters, sampled, full };
std::string_view to_string(TrackingGrade grade) noexcept;

// How the stack of a block is found.
enum class StackMethod : std::uint8_t {
  automatic,       // by frame pointers; where that chain breaks, by unwind tables
  frame_pointers,  // code compiled with -fno-omit-frame-pointer; else frames are missing
  unwind_tables,   // any code: .eh_frame, each place in the code looked up once
  none,
};

struct TrackerOptions {
  TrackingGrade grade = TrackingGrade::sampled;
  Bytes sample_interval{512ULL << 10};  // mean bytes between samples; not zero
  StackMethod stacks = StackMethod::automatic;
  Clock* clock = &Clock::steady();  // of births and marks; must outlive the process's blocks
};

// ---- Who

// From here to the end of the scope, what the calling thread takes is for `tag`: within another
// scope, for "outer/tag". A tag is any text of 1 to 200 bytes; beyond 8000 pairs of tag and
// owner in one process, the rest counts under the tag "(other)". Never throws. Grade off: does
// nothing. The first use of a tag takes a lock and allocates; later ones do not.
class [[nodiscard]] TagScope {
 public:
  explicit TagScope(std::string_view tag) noexcept;
  ~TagScope();
  TagScope(const TagScope&) = delete;
  TagScope& operator=(const TagScope&) = delete;

 private:
  std::uint16_t outer_;
};

// The same for whom it is taken: a request, session or tenant. The innermost owner counts.
class [[nodiscard]] OwnerScope {
 public:
  explicit OwnerScope(std::string_view owner) noexcept;
  ~OwnerScope();
  OwnerScope(const OwnerScope&) = delete;
  OwnerScope& operator=(const OwnerScope&) = delete;

 private:
  std::uint16_t outer_;
};

// The tag and owner of the calling thread, to be put on another one that works for it.
class TagContext {
 public:
  static TagContext current() noexcept;
  class [[nodiscard]] Scope {
   public:
    explicit Scope(TagContext context) noexcept;
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    std::uint16_t outer_;
  };

 private:
  std::uint16_t id_ = 0;
};

// What one pair of tag and owner holds, over all pools and tracked resources. Exact when the
// threads that take and give are quiet; while they run, to within their latest operations.
struct TagStats {
  std::string tag;    // empty: taken outside of any scope, or with tracking off
  std::string owner;  // empty: none
  Bytes live;         // in blocks handed out, rounded up to what they take
  std::uint64_t live_blocks = 0;
  Bytes allocated;  // since the start
  std::uint64_t allocations = 0;
};

// ---- What

using StackId = std::uint32_t;  // 0: not known

// A place in the code, as far as it can be named.
struct Frame {
  std::uintptr_t address = 0;  // of the call, in this process
  std::string module;          // path of the program or library; empty: none
  std::uint64_t offset = 0;    // in that file
  std::string function;        // demangled; empty: not named there
};

// A block that is live.
struct LiveBlock {
  std::uintptr_t address = 0;
  Bytes bytes;                                    // asked for, if known; else what the block takes
  std::uint32_t source = 0;                       // index in LiveTable::sources
  std::uint32_t tag = 0;                          // index in LiveTable::tags
  StackId stack = 0;                              // for frames_of()
  TrackingGrade grade = TrackingGrade::counters;  // what is known: from sampled on, all below
  std::uint64_t mark = 0;                         // marks set before it was taken
  Duration born{0};                               // by the tracker's clock, to 10 ms
  // Bytes and blocks that it stands for: itself, or what one sample does. For an estimate of the
  // whole add up samples alone (grade sampled), for else a block that is only counted counts twice.
  double weight_bytes = 0;
  double weight_blocks = 0;
};

// All blocks of a moment: of each source, one consistent view.
struct LiveTable {
  std::vector<LiveBlock> blocks;
  std::vector<std::string> sources;  // names of pools and resources
  std::vector<TagStats> tags;        // as Tracker::tags()
  Bytes sample_interval;
};

// ---- Leaks

// A moment to look back to.
struct Mark {
  std::string name;
  std::uint64_t number = 0;  // marks are counted from 1
  Duration at{0};            // by the tracker's clock
};

// Blocks of one tag, owner and place in the code.
struct LeakGroup {
  std::string tag;
  std::string owner;
  std::string source;  // pool or resource
  StackId stack = 0;
  double bytes = 0;  // of a sampled group: an estimate
  double blocks = 0;
  Duration oldest{0};  // age
  bool exact = true;   // every block was recorded
};

// SharedBuffers whose blocks hold each other, and that nobody else holds.
struct SharedCycle {
  std::vector<const void*> blocks;
  Bytes bytes;
};

struct LeakReport {
  std::vector<LeakGroup> groups;  // most bytes first
  std::vector<SharedCycle> cycles;
  std::uint64_t suppressed = 0;  // groups
  bool exact = true;             // the grade was full all the time
  bool empty() const noexcept { return groups.empty() && cycles.empty(); }
  // For a person; several lines, with the names of functions.
  std::string to_text() const;
};

// What is known and wanted: lines "tag:GLOB", "owner:GLOB", "source:GLOB", "function:GLOB" or
// "module:GLOB" (* any text, ? any character; function and module: any frame of the stack),
// # comments. Not thread-safe.
class Suppressions {
 public:
  Suppressions() = default;
  // Errors: not_found, io_error; corrupt_data names file and line.
  static Result<Suppressions> load(const std::string& path);
  static Result<Suppressions> parse(std::string_view text, std::string_view file);
  bool covers(const LeakGroup& group) const;
  // The same where the frames are known, as of another process's stack.
  bool covers(const LeakGroup& group, const std::vector<Frame>& frames) const;

 private:
  struct Rule {
    enum class Of : std::uint8_t { tag, owner, source, function, module };
    Of of = Of::tag;
    std::string pattern;
  };
  std::vector<Rule> rules_;
};

// ---- The tracker of the process

class Tracker {
 public:
  // Takes effect at each thread's next operation; a new sample_interval, from a thread's next
  // sample on (the calling thread's: at once). Errors: invalid_argument (interval, clock).
  static Status set_options(const TrackerOptions& options);
  static TrackerOptions options() noexcept;

  // Every pair of tag and owner that ever held something; the one without names first.
  static std::vector<TagStats> tags();
  // Every live block of every pool and tracked resource. A pool's threads wait meanwhile: about
  // 5 ns a block. Blocks of another resource are there if recorded.
  static LiveTable live();
  // The stack of a block, innermost first. Opens files to find names: not for a hot path.
  static std::vector<Frame> frames_of(StackId stack);
  // The bare return addresses.
  static std::vector<std::uintptr_t> addresses_of(StackId stack);
  // Host bytes that tracking takes for samples and stacks. What lies beside a pool's blocks is part
  // of its PoolStats::metadata.
  static Bytes metadata() noexcept;
  // Samples, records and stacks that found no room, and tags that were counted as "(other)".
  static std::uint64_t dropped() noexcept;

  // Every event of every pool and tracked resource from now on, in a new file (0600) of about 4
  // bytes an event that `forebay report` reads; what was written by then is whole if the process
  // is killed. Meanwhile every block is recorded, whatever the grade. Errors: invalid_argument (a
  // file is open), io_error.
  static Status record_to(const std::string& path);
  static Status stop_recording();

  // ---- Leaks. Exact, if the grade is full from the mark on; else an estimate of what was sampled.
  static Mark mark(std::string name = {});
  // Blocks that were taken after the mark and are live.
  static LeakReport since(const Mark& mark, const Suppressions& suppressions = {});
  // SharedBuffers in cycles. Reads the content of host blocks that a SharedBuffer of `full` grade
  // owns: call it when no thread writes to them.
  static std::vector<SharedCycle> shared_cycles();
  // When the process ends, a report of all that is then live goes to standard error if there is
  // any. Errors: those of Suppressions::load.
  static Status report_at_exit(const std::string& suppression_file = {});
};

// What is taken within and still live at the end goes to `report`, unless there is none. Every
// block is recorded while it lives, whatever the grade. (Other threads' blocks are included.)
class LeakScope {
 public:
  using Handler = std::function<void(const LeakReport&)>;
  // Default: standard error.
  explicit LeakScope(std::string name, Handler report = {});
  ~LeakScope();
  LeakScope(const LeakScope&) = delete;
  LeakScope& operator=(const LeakScope&) = delete;

 private:
  Mark mark_;
  Handler report_;
};

// `upstream` with the tracker before it. For resources other than pools, which need none: each
// block takes a record, from grade counters on, in a table with locks.
std::shared_ptr<MemoryResource> track(std::shared_ptr<MemoryResource> upstream);

// ---- Growth over time: leaks that are still reachable

struct GrowthOptions {
  Duration window = std::chrono::hours{2};  // of history looked at
  Duration step = std::chrono::minutes{1};  // observations closer than this are merged
  Bytes least{1ULL << 20};                  // growth below this is none
  double significance = 1e-6;               // chance of a false alarm, each series and look
};

// One series that should be steady: bytes of a tag and place, reserved bytes of a budget, idle
// bytes that a pool cannot give back, ...
struct Observation {
  std::string kind;  // "tag", "site", "budget", "fragmentation", ...
  std::string name;
  StackId stack = 0;
  double bytes = 0;
  double old_bytes = 0;  // of these, in blocks older than half a window; negative: not known
};

struct Growth {
  std::string kind;
  std::string name;
  StackId stack = 0;
  double bytes = 0;             // now
  double bytes_per_hour = 0;    // slope (Theil and Sen)
  double p_value = 1;           // of no trend (Mann and Kendall)
  Duration until_line{0};       // at this slope; negative: no line, or never
  std::string to_text() const;  // "decoder/cache grows by 12 MiB/h, would reach the line in 3.1 h"
};

// Looks at series over time and names those that grow for good: not the ones that fill up once,
// swing with the day, or drop now and then to where they were. Memory is bounded: `window / step`
// points a series. Not thread-safe.
class GrowthDetector {
 public:
  explicit GrowthDetector(GrowthOptions options = {});
  ~GrowthDetector();
  GrowthDetector(GrowthDetector&&) noexcept;
  GrowthDetector& operator=(GrowthDetector&&) noexcept;
  // Observations of one moment; a series that is missing is at zero.
  void observe(Clock::TimePoint now, const std::vector<Observation>& observations);
  // What grows, fastest first. `room`: bytes left under the line.
  std::vector<Growth> growing(Bytes room = Bytes::unlimited()) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};
// What the tracker sees now: a series a tag, and one a place in the code from grade sampled on.
std::vector<Observation> observe_tracker(Duration old_age);

// ---- Timeline: what happened lately

enum class EventKind : std::uint8_t {
  allocate,
  free,  // a block of a pool or tracked resource
  map,
  unmap,  // memory a pool took from, gave to upstream
  reserve,
  release,  // a budget's charge, where it changes the tree
  deny,     // a request was refused
  reclaim,  // a reclaimer was asked; bytes: what came of it
  evict,
  spill,     // a cache's or tier's entry
  pressure,  // a budget's pressure changed
  mark,      // the user's
};
std::string_view to_string(EventKind kind) noexcept;

struct TimelineEvent {
  EventKind kind = EventKind::mark;
  std::uint16_t tag = 0;       // for tag_of()
  std::uint32_t thread = 0;    // the system's number
  Duration at{0};              // by Clock::steady()
  std::uintptr_t address = 0;  // allocate, free
  Bytes bytes;
  std::string_view subject;  // pool, budget, reclaimer, the mark's text: valid for good
};

struct TimelineOptions {
  Bytes capacity{8ULL << 20};      // of all threads together; the latest events are kept
  std::vector<EventKind> kinds{};  // empty: all
};

// Events of all threads in rings without locks. Off until started.
class Timeline {
 public:
  // Errors: invalid_argument (capacity below 64 KiB), memory_refused.
  static Status start(const TimelineOptions& options = {});
  static void stop() noexcept;  // what was recorded stays until the next start
  static bool running() noexcept;
  static void mark(std::string_view text) noexcept;
  // By time. A thread that writes meanwhile does not wait.
  static std::vector<TimelineEvent> read();
  static std::uint64_t recorded() noexcept;
  static std::uint64_t dropped() noexcept;             // overwritten, or without a ring to be in
  static TagStats tag_of(const TimelineEvent& event);  // its names only
};

// ---- Statistics: counters, for whoever exports them

struct Statistic {
  std::string name;  // snake_case, with its unit: "used_bytes", "hits_total", "age_seconds"
  double value = 0;
};

struct StatisticsGroup {
  std::string kind;  // "pool", "budget", "tracker", "cache", "kv", "tier", "device"
  std::string name;
  std::vector<Statistic> statistics;
};

// Keeps a source of statistics known; its end waits for a call under way.
class [[nodiscard]] StatisticsRegistration {
 public:
  // `collect` adds its counters. Called on any thread with no lock of Forebay's held but the
  // list's; it must not register or end registrations.
  using Collect = std::function<void(std::vector<Statistic>&)>;
  StatisticsRegistration(std::string kind, std::string name, Collect collect);
  StatisticsRegistration() noexcept = default;
  StatisticsRegistration(StatisticsRegistration&& other) noexcept = default;
  StatisticsRegistration& operator=(StatisticsRegistration&& other) noexcept = default;
  ~StatisticsRegistration() = default;

 private:
  struct Leave {
    void operator()(void* entry) const noexcept;
  };
  std::unique_ptr<void, Leave> entry_;
};
// Of all pools, budgets and registered sources, and of the tracker itself.
std::vector<StatisticsGroup> collect_statistics();

}  // namespace forebay
#pragma GCC visibility pop
