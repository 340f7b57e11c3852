#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "chart.hpp"
#include "command.hpp"
#include "interrupt.hpp"
#include "replay_cache_output.hpp"
#include "replay_output.hpp"
#include "report.hpp"

namespace forebay::app {
namespace {

using trace::CacheReader;
using trace::CacheReplay;
using trace::CacheReplayOptions;

// More than that is no machine's; all sums stay far from overflow.
constexpr Bytes kMostCapacity{1ULL << 60};

Status bad(std::string message) { return {Code::invalid_argument, std::move(message)}; }

// Where a setting was given: "--policy", or "config.yaml:3: policy".
std::string place_of(const Config& config, std::string_view key) {
  const ConfigOrigin& origin = config.origin(key);
  if (origin.source == ConfigOrigin::Source::flag) return origin.where;
  return fmt::format("{}: {}", origin.where, key);
}

// As the literature has them.
std::vector<LineSetting> usual_capacities() {
  std::vector<LineSetting> capacities;
  for (const double share : {0.001, 0.01, 0.1})
    capacities.push_back({.bytes = {}, .fraction = share});
  return capacities;
}

Result<CacheReplayOptions> options_of(const Config& config) {
  if (config.trace.empty()) return bad("no trace given; allowed: forebay replay cache TRACE");
  CacheReplayOptions options;
  auto policies = trace::parse_policies(config.policies);
  if (!policies.ok()) return policies.status().with_context(place_of(config, "policy"));
  options.policies = std::move(*policies);
  const auto objective = trace::parse_objective(config.objective);
  if (!objective.ok()) return objective.status();
  options.objective = *objective;
  options.capacities = config.capacities.empty() ? usual_capacities() : config.capacities;
  for (const LineSetting& capacity : options.capacities) {
    if (capacity.fraction || capacity.bytes <= kMostCapacity) continue;
    return bad(fmt::format("{}: {} is not allowed; allowed: at most {}",
                           place_of(config, "capacity"), to_string(capacity.bytes),
                           to_string(kMostCapacity)));
  }
  options.curve = config.curve || !config.chart.empty();
  return options;
}

// What is read once only must need one pass only.
Status check_passes(const Config& config, const CacheReplayOptions& options) {
  std::error_code error;
  const bool again =
      config.trace != "-" && (std::filesystem::is_regular_file(config.trace, error) ||
                              !std::filesystem::exists(config.trace, error));
  if (again || !needs_survey(options)) return {};
  return bad(
      fmt::format("{}: can be read once only; allowed: with --capacity in bytes, without "
                  "--curve, --chart and belady",
                  config.trace == "-" ? "standard input" : printable(config.trace)));
}

void say_demand(const trace::CacheDemand& demand) {
  write_err(fmt::format(
      "trace: {} requests of {}{} objects, {} of them, the largest {}, {} left out\n",
      demand.requests, demand.exact ? "" : "about ", demand.objects,
      to_string(Bytes{demand.footprint_bytes}), to_string(Bytes{demand.largest}), demand.left_out));
}

Result<CacheReplay> survey_and_replay(const Config& config, CacheReplayOptions& options) {
  const InterruptGuard guard;
  const bool terminal = is_terminal(STDERR_FILENO);
  const auto open = [&] { return CacheReader::open(config.trace, {config.ignore_size}); };
  std::optional<trace::CacheSurvey> survey;
  if (needs_survey(options)) {
    auto reader = open();
    if (!reader.ok()) return reader.status();
    ProgressBar reading{"reading", terminal};
    options.progress = [&](double share) {
      reading.show(share);
      return !guard.interrupted();
    };
    auto surveyed = survey_requests(std::move(*reader), options);
    if (!surveyed.ok()) return surveyed.status();
    survey = std::move(*surveyed);
    reading.clear();
    if (config.verbose) say_demand(survey->demand);
  }
  auto reader = open();
  if (!reader.ok()) return reader.status();
  ProgressBar replaying{"replaying", terminal};
  options.progress = [&](double share) {
    replaying.show(share);
    return !guard.interrupted();
  };
  return replay_requests(std::move(*reader), survey ? &*survey : nullptr, options);
}

}  // namespace

Result<Exit> run_replay_cache(const Config& config) {
  auto options = options_of(config);
  if (!options.ok()) return options.status();
  if (!config.chart.empty()) {
    if (Status status = check_chart(config.chart); !status.ok()) return status;
  }
  if (Status status = check_passes(config, *options); !status.ok()) return status;
  const Result<CacheReplay> replay = survey_and_replay(config, *options);
  if (!replay.ok()) return replay.status();
  const CacheReplayContext context{config.trace, config.ignore_size, config.chart};
  const Status printed =
      write_out(config.json ? app::printed(json_of(*replay, context))
                            : cache_replay_report(*replay, context, Painter::of(STDOUT_FILENO)));
  // A reader that is gone (forebay replay … | head) has all it wanted.
  if (!printed.ok() && printed.code() != Code::interrupted) return printed;
  if (config.chart.empty()) return Exit::done;
  // Drawn after the report, which a full disk must not cost.
  const Status drawn = draw_curves(*replay, name_of_trace(config.trace), config.chart);
  if (drawn.ok()) return Exit::done;
  write_err(failure_report(drawn, Painter::of(STDERR_FILENO)));
  return Exit::bad_input;
}

}  // namespace forebay::app
