#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "command.hpp"
#include "engine.hpp"
#include "environment.hpp"
#include "json_output.hpp"
#include "report.hpp"
#include "terminal.hpp"

namespace forebay::app {
namespace {

constexpr std::array<std::string_view, 8> kShapeKeys{"layers",     "heads",     "kv_heads",
                                                     "head_dim",   "embedding", "feed_forward",
                                                     "vocabulary", "weights"};
constexpr std::array<std::string_view, 5> kRequiredShapeKeys{"layers", "heads", "embedding",
                                                             "vocabulary", "weights"};

Status bad(std::string message) { return {Code::invalid_argument, std::move(message)}; }

// How a user can find a setting: where it was given, and its name if that is not in it.
std::string place_of(const Config& config, std::string_view key) {
  const ConfigOrigin& origin = config.origin(key);
  if (origin.source == ConfigOrigin::Source::flag) return origin.where;
  return fmt::format("{}: {}", origin.where, key);
}

// The first shape setting that was given by `source`; empty if none.
std::string_view shape_key_of(const Config& config, ConfigOrigin::Source source) {
  const auto given = std::ranges::find_if(
      kShapeKeys, [&](std::string_view key) { return config.origin(key).source == source; });
  return given == kShapeKeys.end() ? std::string_view{} : *given;
}

// Whether to plan for a shape instead of a file. A flag wins over the file here too.
// Error: both, from one source.
Result<bool> plans_for_shape(const Config& config) {
  using enum ConfigOrigin::Source;
  const ConfigOrigin::Source model = config.origin("model").source;
  for (const ConfigOrigin::Source source : {flag, file}) {
    const std::string_view key = shape_key_of(config, source);
    if (!key.empty() && model == source) {
      return bad(fmt::format("{}: a shape and a model ({}) are given; allowed: one of them",
                             place_of(config, key), place_of(config, "model")));
    }
    if (!key.empty()) return true;
    if (model == source) return false;
  }
  return false;
}

Result<ModelShape> shape_of(const Config& config) {
  for (const std::string_view key : kRequiredShapeKeys) {
    if (config.given(key)) continue;
    return bad(
        fmt::format("{}: not given; a shape needs --layers, --heads, --embedding, "
                    "--vocabulary and --weights",
                    find_option(key)->flag));
  }
  if (!config.head_dim && *config.embedding % *config.heads != 0) {
    return bad(fmt::format("--embedding: {} is no multiple of --heads {}; give --head-dim",
                           *config.embedding, *config.heads));
  }
  if (config.kv_heads.value_or(1) > *config.heads) {
    return bad(fmt::format("{}: {} is not allowed; allowed: at most the {} of --heads",
                           place_of(config, "kv_heads"), *config.kv_heads, *config.heads));
  }
  ModelShape shape;
  shape.name = "a model of the given shape";
  shape.layers = *config.layers;
  shape.heads = *config.heads;
  shape.kv_heads = config.kv_heads.value_or(shape.heads);
  shape.embedding = *config.embedding;
  shape.head_dim_k = shape.head_dim_v = config.head_dim.value_or(shape.embedding / shape.heads);
  shape.feed_forward = config.feed_forward.value_or(4 * shape.embedding);
  shape.vocabulary = *config.vocabulary;
  shape.weights = *config.weights;
  return shape;
}

// The model's numbers, and a meter of its compute memory if an engine can tell.
Status describe_model(const Config& config, PlanRequest& request) {
  const Result<bool> by_shape = plans_for_shape(config);
  if (!by_shape.ok()) return by_shape.status();
  if (*by_shape) {
    Result<ModelShape> shape = shape_of(config);
    if (shape.ok()) request.shape = std::move(*shape);
    return shape.status();
  }
  const auto file = model_of(config);
  if (!file.ok()) return file.status();
  Result<ModelShape> shape = read_gguf_shape(*file);
  if (!shape.ok()) return shape.status();
  request.shape = std::move(*shape);
  Result<ComputeMeter> meter = open_compute_meter(*file);
  if (!meter.ok()) {
    // The header was read: the plan stands on estimates, and says so.
    write_err(fmt::format("forebay: compute memory is estimated: {}\n", meter.status().message()));
    return {};
  }
  request.compute = std::move(*meter);
  return {};
}

void describe_run(const Config& config, PlanRequest& request) {
  request.run.context_tokens = config.context_tokens.value_or(0);
  request.run.batch_tokens = config.batch_tokens;
  request.run.kv_k = request.run.kv_v = config.kv_type;
  request.parallel = config.parallel;
  request.max_parallel = std::min(config.max_parallel_tokens.value_or(request.max_parallel),
                                  most_selectable(config.selection_threshold));
  request.max_context = config.max_cache_tokens.value_or(0);
}

Result<TokenPlan> plan_for_model(const Config& config, const MemoryReading& reading, Bytes line,
                                 ModelShape& shape) {
  PlanRequest request;
  if (Status status = describe_model(config, request); !status.ok()) return status;
  describe_run(config, request);
  request.line = line;
  request.process = reading.resident;
  shape = request.shape;
  return plan_tokens(request);
}

bool names_prompt(const Config& config) {
  return config.given("prompt") || config.given("prompt_file");
}

// With a prompt: the plan of the run that `generate` would make.
Result<TokenPlan> plan_for_prompt(const Config& config, Bytes line, ModelShape& shape) {
  const std::string_view prompt = config.given("prompt") ? "prompt" : "prompt_file";
  for (const std::string_view key : {"context_tokens", "parallel"}) {
    if (!config.given(key)) continue;
    return bad(fmt::format("{}: given with {}, which plans that run; allowed: one of them",
                           place_of(config, key), place_of(config, prompt)));
  }
  const Result<bool> by_shape = plans_for_shape(config);
  if (!by_shape.ok()) return by_shape.status();
  if (*by_shape) {
    return bad(fmt::format("{}: a prompt needs a model's file, and a shape is given",
                           place_of(config, prompt)));
  }
  const auto file = model_of(config);
  if (!file.ok()) return file.status();
  Result<ModelShape> read = read_gguf_shape(*file);
  if (!read.ok()) return read.status();
  shape = std::move(*read);
  return plan_of_run(config, line);
}

Status print_plan(const Config& config, const TokenPlan& plan, const PlanContext& context) {
  if (!config.json) return write_out(plan_report(plan, context, Painter::of(STDOUT_FILENO)));
  Json object = json_of(plan, context);
  if (!plan.fits) object.update(json_of(refusal_of(plan)));
  return write_out(printed(object));
}

}  // namespace

Result<Exit> run_plan(const Config& config) {
  const Result<MemoryReading> reading = PressureMonitor{}.read();
  if (!reading.ok()) return reading.status();
  const LineChoice line = line_of(config, *reading);
  if (config.verbose)
    write_err(fmt::format("line: {}\nengine: {}\n", line.reason, engine_version()));

  ModelShape shape;
  const Result<TokenPlan> plan = names_prompt(config)
                                     ? plan_for_prompt(config, line.line, shape)
                                     : plan_for_model(config, *reading, line.line, shape);
  if (!plan.ok()) return plan.status();
  const Status printed = print_plan(config, *plan, {shape, line});
  // A reader that is gone (forebay plan | head) has all it wanted.
  if (!printed.ok() && printed.code() != Code::interrupted) return printed;
  if (plan->fits) return Exit::done;
  write_err(failure_report(refusal_of(*plan), Painter::of(STDERR_FILENO)));
  return Exit::memory_refused;
}

}  // namespace forebay::app
