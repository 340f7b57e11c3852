#include "command.hpp"
#include "engine.hpp"

namespace forebay::app {

Result<ComputeMeter> open_compute_meter(const std::filesystem::path&) { return ComputeMeter{}; }

Result<TokenPlan> plan_of_run(const Config&, Bytes) {
  return Status{Code::unsupported,
                "plan: a prompt needs a language-model engine, which this build does not have"};
}

std::string engine_version() { return "none"; }

Result<Exit> run_generate(const Config&) {
  return Status{
      Code::unsupported,
      "generate: this build has no language-model engine; run 'make setup' and build again"};
}

}  // namespace forebay::app
