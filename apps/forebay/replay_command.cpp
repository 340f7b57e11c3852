#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "chart.hpp"
#include "command.hpp"
#include "forebay/governor.hpp"
#include "interrupt.hpp"
#include "replay_output.hpp"
#include "report.hpp"

namespace forebay::app {
namespace {

Status bad(std::string message) { return {Code::invalid_argument, std::move(message)}; }

// Where a setting was given: "--pool", or "config.yaml:3: pool".
std::string place_of(const Config& config, std::string_view key) {
  const ConfigOrigin& origin = config.origin(key);
  if (origin.source == ConfigOrigin::Source::flag) return origin.where;
  return fmt::format("{}: {}", origin.where, key);
}

// What is free, less a fifth for everything else.
Result<Bytes> room_on_host() {
  constexpr std::uint64_t kShare = 5;
  const Result<MemoryReading> reading = PressureMonitor{}.read();
  if (!reading.ok()) return reading.status();
  Bytes room = reading->machine_available;
  if (reading->cgroup_limit) {
    room = std::min(room,
                    saturating_sub(*reading->cgroup_limit, reading->cgroup_used.value_or(Bytes{})));
  }
  return room - room / kShare;
}

// The host's own blocks are partly written when they are made (zeroed below a size), so that a
// trace without a pool needs real memory even where nothing is touched.
Result<Bytes> capacity_of(const Config& config, std::span<const trace::PoolSetup> setups) {
  if (!config.capacities.empty()) return config.capacities[0].bytes;
  if (config.device != "host") return SimulatedDeviceOptions{}.capacity;
  const bool writes = config.touch || std::ranges::any_of(setups, &trace::PoolSetup::direct);
  return writes ? room_on_host() : Bytes::unlimited();
}

Status check_settings(const Config& config) {
  if (config.trace.empty()) return bad("no trace given; allowed: forebay replay alloc TRACE");
  if (config.touch && config.device != "host") {
    return bad(fmt::format("{}: a simulated device has no bytes to write; allowed: with the host",
                           place_of(config, "touch")));
  }
  const bool one_size =
      config.capacities.size() < 2 && (config.capacities.empty() || !config.capacities[0].fraction);
  if (!one_size) {
    return bad(
        fmt::format("{}: several, or a share, is not allowed; allowed: a size above 0 as "
                    "512MiB or 1.5GiB, or auto",
                    place_of(config, "capacity")));
  }
  return config.chart.empty() ? Status{} : check_chart(config.chart);
}

void say_setups(std::span<const trace::PoolSetup> setups, const trace::Demand& demand) {
  write_err(fmt::format("trace: {} operations, peak live {} at operation {}, {} left out\n",
                        demand.operations, to_string(demand.peak_live), demand.peak_at,
                        demand.left_out));
  for (const trace::PoolSetup& setup : setups) {
    write_err(
        fmt::format("pool {}: {}\n", setup.name, setup.spec.empty() ? "defaults" : setup.spec));
  }
}

Status print_replay(const Config& config, const trace::Replay& replay,
                    const ReplayContext& context) {
  if (!config.json) {
    return write_out(replay_report(replay, context, Painter::of(STDOUT_FILENO)));
  }
  Json object = json_of(replay, context);
  if (replay.all_refused) object.update(json_of(refusal_of(replay, context)));
  return write_out(printed(object));
}

// Drawn after the report, which a full disk must not cost. Whether the chart, if any, is there.
bool draw(const Config& config, const trace::Replay& replay) {
  if (config.chart.empty()) return true;
  const Status drawn = draw_chart(replay, name_of_trace(config.trace), config.chart);
  if (!drawn.ok()) write_err(failure_report(drawn, Painter::of(STDERR_FILENO)));
  return drawn.ok();
}

// The trace read once for its demand, then replayed.
Result<trace::Replay> survey_and_replay(const Config& config, const ReplayContext& context,
                                        std::span<const trace::PoolSetup> setups) {
  const InterruptGuard guard;
  const bool terminal = is_terminal(STDERR_FILENO);
  const trace::TraceSource source = [&] { return trace::Reader::open(config.trace); };
  auto reader = source();
  if (!reader.ok()) return reader.status();
  ProgressBar reading{"reading", terminal};
  const auto demand = trace::survey(std::move(*reader), [&](double share) {
    reading.show(share);
    return !guard.interrupted();
  });
  reading.clear();
  if (!demand.ok()) return demand.status();
  if (demand->operations == 0) {
    return bad(fmt::format("{}: no operations; allowed: at least one allocation",
                           printable(config.trace)));
  }
  if (config.verbose) say_setups(setups, *demand);
  ProgressBar replaying{"replaying", terminal};
  trace::ReplayOptions options;
  options.on_host = config.device == "host";
  options.capacity = context.capacity;
  options.touch = config.touch;
  options.repeat = config.repeat;
  options.progress = [&](double share) {
    replaying.show(share);
    return !guard.interrupted();
  };
  return trace::replay(source, *demand, setups, options);
}

}  // namespace

Result<Exit> run_replay_alloc(const Config& config) {
  if (Status status = check_settings(config); !status.ok()) return status;
  const bool on_host = config.device == "host";
  const auto setups = trace::parse_pools(config.pools, on_host);
  if (!setups.ok()) return setups.status().with_context(place_of(config, "pool"));
  const auto capacity = capacity_of(config, *setups);
  if (!capacity.ok()) return capacity.status();
  const ReplayContext context{config.trace, config.device, *capacity,
                              config.touch, config.repeat, config.chart};
  const Result<trace::Replay> replay = survey_and_replay(config, context, *setups);
  if (!replay.ok()) return replay.status();
  const Status printed = print_replay(config, *replay, context);
  // A reader that is gone (forebay replay … | head) has all it wanted.
  if (!printed.ok() && printed.code() != Code::interrupted) return printed;
  if (!draw(config, *replay)) return Exit::bad_input;
  if (!replay->all_refused) return Exit::done;
  write_err(failure_report(refusal_of(*replay, context), Painter::of(STDERR_FILENO)));
  return Exit::memory_refused;
}

}  // namespace forebay::app
