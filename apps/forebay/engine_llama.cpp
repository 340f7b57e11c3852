#include <memory>

#include "engine.hpp"
#include "forebay/generate.hpp"
#include "forebay/llama.hpp"
#include "run_options.hpp"

namespace forebay::app {

Result<ComputeMeter> open_compute_meter(const std::filesystem::path& model) {
  llama::set_log_sink(nullptr);
  Result<std::unique_ptr<llama::Probe>> probe = llama::Probe::open(model);
  if (!probe.ok()) return probe.status();
  const std::shared_ptr<llama::Probe> shared = std::move(*probe);
  return ComputeMeter{[shared](const RunShape& run) { return shared->measure(run); }};
}

Result<TokenPlan> plan_of_run(const Config& config, Bytes line) {
  llama::set_log_sink(nullptr);
  Result<GenerateOptions> options = run_options(config);
  if (!options.ok()) return options.status();
  options->line = line;
  return plan_generation(*options);
}

std::string engine_version() { return llama::version(); }

}  // namespace forebay::app
