// Telemetry: one view of everything, as a file, for another process, or after a crash.
//
//   auto snapshot = forebay::Snapshot::take();
//   forebay::write_snapshot(snapshot, "memory.json.zst").throw_if_error();
//   forebay::export_snapshot(snapshot, forebay::ExportFormat::pprof,
//   "heap.pb.gz").throw_if_error();
//
// Component forebay::telemetry (needs nlohmann-json, zstd, zlib and protobuf).
//
// Files that are written here are new, mode 0600, and whole or absent: they are written beside
// their place and renamed to it; nothing is written through a symbolic link.
// Thread safety: functions are thread-safe; values are values.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "forebay/budget.hpp"
#include "forebay/device.hpp"
#include "forebay/pool.hpp"
#include "forebay/status.hpp"
#include "forebay/tracker.hpp"

#pragma GCC visibility push(default)
namespace forebay {

// ---- Snapshots

// Where code and symbols of a frame are to be found, also when the process is gone.
struct SnapshotModule {
  std::string path;
  std::string build_id;    // hexadecimal; empty: it has none
  std::uint64_t base = 0;  // address of offset 0
};

struct SnapshotFrame {
  std::uint32_t module = 0;  // index in Snapshot::modules, plus one; 0: none
  std::uint64_t offset = 0;  // in that module; else the address
  std::string function;      // empty: not named
};

struct SnapshotBlock {
  std::uint64_t address = 0;
  std::uint64_t bytes = 0;
  std::uint32_t pool = 0;   // index in Snapshot::sources
  std::uint32_t tag = 0;    // index in Snapshot::tags
  std::uint32_t stack = 0;  // index in Snapshot::stacks, plus one; 0: not known
  double age_seconds = -1;  // negative: not known
  double weight_bytes = 0;  // what a sample stands for
  double weight_blocks = 0;
};

// Addresses of a pool that hold memory.
struct SnapshotSegment {
  std::uint32_t pool = 0;  // index in Snapshot::pools
  std::uint64_t address = 0;
  std::uint64_t bytes = 0;
};

struct SnapshotEvent {
  std::string kind;  // as to_string(EventKind)
  std::string subject;
  std::uint32_t tag = 0;  // index in Snapshot::tags, plus one; 0: none
  std::uint32_t thread = 0;
  double seconds = 0;  // by Snapshot::clock_seconds' clock
  std::uint64_t address = 0;
  std::uint64_t bytes = 0;
};

struct SnapshotDevice {
  std::string name;
  std::string kind;
  std::uint64_t capacity_bytes = 0;
  std::uint64_t free_bytes = 0;
};

struct SnapshotPool {
  std::string name;
  std::string upstream;
  PoolStats stats;
};

struct Snapshot {
  static constexpr int kVersion = 1;

  int version = kVersion;
  std::string program;
  std::int64_t pid = 0;
  std::string taken_at;      // ISO 8601, UTC
  double clock_seconds = 0;  // the same moment by the process's steady clock
  std::string reason;        // "asked", "refusal", "signal 11", ...
  bool complete = true;      // false: written by a crash handler, which cannot look at all
  std::uint64_t resident_bytes = 0;
  std::uint64_t sample_interval_bytes = 0;
  std::string grade;

  std::vector<SnapshotDevice> devices;
  std::vector<BudgetStats> budgets;
  std::vector<SnapshotPool> pools;
  std::vector<SnapshotSegment> segments;
  std::vector<StatisticsGroup> statistics;  // of all else: caches, KV, tiers, ...
  std::vector<TagStats> tags;
  std::vector<std::string> sources;
  std::vector<SnapshotBlock> blocks;
  std::vector<std::vector<SnapshotFrame>> stacks;
  std::vector<SnapshotModule> modules;
  std::vector<SnapshotEvent> events;

  struct Options {
    bool blocks = true;  // the live table; pools' threads wait about 5 ns a block
    bool timeline = true;
    bool symbols = true;  // names of functions; else offsets, to be named later
    std::string reason = "asked";
  };
  static Snapshot take(const Options& options);
  static Snapshot take() { return take(Options{}); }
};

// Asked now and then while a file is written, by the thread that writes it; true: it is given up
// with Code::interrupted, and there is no file.
using StopCheck = std::function<bool()>;

// JSON, compressed if `path` ends in ".zst". Errors: io_error, invalid_argument (not a path, or
// a symbolic link), interrupted.
Status write_snapshot(const Snapshot& snapshot, const std::string& path,
                      const StopCheck& stop = {});
// Either form. Errors: not_found, io_error; corrupt_data names what is wrong and where; a file of
// another version, or beyond `most` of memory once read, is refused. By default `most` is 64 MiB
// and 64 times the file's bytes, 4 GiB at most: a small file that claims much is none of ours.
Result<Snapshot> read_snapshot(const std::string& path, std::optional<Bytes> most = {});

enum class ExportFormat {
  memory_viz,         // as JSON, what PyTorch's memory_viz page shows
  memory_viz_pickle,  // what that page loads: as torch.cuda.memory._dump_snapshot, protocol 4
  pprof,              // gzip'd profile.proto: inuse_space, inuse_objects
  chrome_trace,       // JSON for Perfetto and chrome://tracing: counters and slices
  rmm_csv,            // RMM's log: Thread,Time,Action,Pointer,Size,Stream
  folded,             // "tag;outer;inner bytes" lines for flame graphs
};
// "memory_viz", ...; Error: invalid_argument with the names there are.
Result<ExportFormat> parse_export_format(std::string_view name);
// Errors: those of write_snapshot.
Status export_snapshot(const Snapshot& snapshot, ExportFormat format, const std::string& path,
                       const StopCheck& stop = {});

// What changed between two snapshots, of one program or of two runs of it: most grown first.
struct SnapshotChange {
  std::string what;  // "tag", "pool", "budget", "site"
  std::string name;
  double before_bytes = 0;
  double after_bytes = 0;
  double before_blocks = 0;
  double after_blocks = 0;
};
std::vector<SnapshotChange> diff(const Snapshot& before, const Snapshot& after);
// Live blocks of a snapshot grouped by tag and site, oldest and largest first.
LeakReport live_of(const Snapshot& snapshot, const Suppressions& suppressions = {});

// ---- When memory is refused, or the process dies

// The account of a refusal at length, for a person: what was asked and by whom; who holds what
// (budgets, tags, pools); the largest free block and fragmentation; what could be given back and
// was not, and why; what each reclaimer returned; three things to do, with numbers.
std::string out_of_memory_report(const Status& refusal);

struct CrashOptions {
  // "forebay-PID.json" is written there. A symbolic link is refused, and where anybody may write
  // unless it is this user's.
  std::string directory = ".";
  bool on_abort = true;  // SIGABRT
  bool on_fault = true;  // SIGSEGV, SIGBUS
  // Also where a reservation (but no try_reserve()) is refused: a whole snapshot in
  // "forebay-PID-refusal.json", of which the latest stays; one a minute at most. A thread of its
  // own writes it: the refused one waits for that, two seconds at most.
  bool on_refusal = false;
};
// From now on a snapshot is written when the process dies of one of these, by a handler that is
// safe in signals and passes on to the one before it: statistics, tags, sampled blocks and the
// timeline, not the whole live table. A handler before it that recovers from a fault goes on doing
// so; each such fault costs a snapshot, and the next one of this process replaces it: the file
// tells of the latest. Errors: io_error (directory), invalid_argument (twice).
Status write_snapshot_on_crash(const CrashOptions& options = {});

// ---- For other processes

struct PublishOptions {
  Duration interval = std::chrono::milliseconds{200};  // between updates of the segment
  std::string directory{};  // default: $XDG_RUNTIME_DIR/forebay, else /tmp/forebay-UID; made 0700
};
// While it lives, `forebay top`, `snapshot` and `leaks` of the same user find this process: a
// segment of statistics, read-only to them, and a socket on which snapshots are asked for.
class Publisher {
 public:
  // Errors: io_error; failed_precondition if the directory is not ours alone, or the process
  // publishes already.
  static Result<std::unique_ptr<Publisher>> start(const PublishOptions& options = {});
  virtual ~Publisher() = default;
};

}  // namespace forebay
#pragma GCC visibility pop
