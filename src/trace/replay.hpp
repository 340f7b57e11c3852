// Replays a trace against pool configurations.
//
// Each configuration is measured once, with looks at what it holds, and then timed `repeat`
// times without them, in turns with the others, so that a machine that becomes slower is so
// for all. Each pass has a new device and pool, and a clock of its own that follows the times
// of the trace: pools give back by age as they would have, in no time.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "trace/decoder.hpp"
#include "trace/pool_setup.hpp"

namespace forebay::trace {

// One look at a configuration. Live: asked for by the trace and served.
struct Sample {
  std::uint64_t operation = 0;  // operations so far
  Bytes live;
  Bytes reserved;
  Bytes resident;            // growth of the process since the pass began
  double fragmentation = 0;  // of the pool's idle memory, 0..1
};

struct Series {
  double least = 0, mean = 0, most = 0;
};

struct ReplayRun {
  std::string name;
  std::string spec;
  bool direct = false;
  std::uint64_t operations = 0;
  double ns_per_operation = 0;  // CPU time of the replaying thread: median of the timed passes
  double ns_least = 0, ns_most = 0;
  Bytes peak_live;    // of the trace: the same for all
  Bytes peak_served;  // of it, without what was refused
  Bytes peak_reserved;
  Bytes peak_resident;  // growth of the process, at the looks
  double hit_rate = 0;
  // Calls of a simulated device: to allocate and deallocate, commit and decommit. And the time
  // that they would take, see kDeviceCall.
  std::uint64_t device_calls = 0;
  double device_ns_per_operation = 0;
  std::uint64_t served = 0;   // allocations
  std::uint64_t refused = 0;  // allocations
  Bytes first_refused;        // size of the first allocation that was refused, and what was live
  Bytes live_at_refusal;
  std::string refusal;  // what its refusal said
  Series fragmentation;
  std::vector<Sample> samples;
};

// What a call of a device is taken to last where it is simulated, and so costs nothing: the
// low end of what cudaMalloc and cudaFree take.
inline constexpr Duration kDeviceCall = std::chrono::microseconds{10};

struct ReplayOptions {
  bool on_host = true;                  // else on a simulated device
  Bytes capacity = Bytes::unlimited();  // of the device; of the host: a limit. Not unlimited
                                        // on a simulated one
  bool touch = false;                   // write to each page of each block; host only
  std::uint32_t repeat = 3;             // timed passes
  std::uint32_t intervals = 240;        // of the trace, with two looks each; at least 1
  // Told the share of all work that is done; says whether to go on. May be empty.
  std::function<bool(double)> progress;
};

struct Replay {
  Demand demand;
  Format format = Format::json_lines;
  std::vector<ReplayRun> runs;
  std::optional<std::size_t> recommended;  // of `runs`; none if none served an allocation
  std::string reason;                      // one line
  bool all_refused = false;                // each configuration refused something
};

// Opens the trace anew for each pass.
using TraceSource = std::function<Result<Reader>()>;

// REQUIRES: setups is not empty. Errors: those of Decoder; interrupted; memory_refused if the
// machine has no room for a pass at all. A refused allocation of the trace is no error: it is
// counted, and its free is left out.
Result<Replay> replay(const TraceSource& source, const Demand& demand,
                      std::span<const PoolSetup> setups, const ReplayOptions& options);

// The best run and why: of those that refused least, the fastest of all whose peak reserved
// bytes are at most 15 % above the least of a pool; of those as fast within 5 %, the smallest.
// The time of simulated device calls counts.
struct Recommendation {
  std::optional<std::size_t> run;  // none if none served an allocation
  std::string reason;
};
Recommendation recommend(std::span<const ReplayRun> runs);

}  // namespace forebay::trace
