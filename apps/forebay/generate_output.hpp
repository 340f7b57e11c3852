// What `forebay generate` says: log lines, the final report, JSON.
#pragma once

#include <string>

#include "forebay/config.hpp"
#include "forebay/generate.hpp"
#include "json_output.hpp"
#include "terminal.hpp"

namespace forebay::app {

// A stage in one line: when, what, used, peak, line, process.
std::string stage_line(const Stage& stage);
// The plan in one line.
std::string plan_line(const TokenPlan& plan);

// What a run was asked, for its report.
struct RunContext {
  std::filesystem::path model;
  std::uint64_t seed = 0;
  int threads = 1;
  LineChoice line;
};

std::string generate_report(const GenerateReport& report, const RunContext& context,
                            const Painter& paint);
Json json_of(const GenerateReport& report, const RunContext& context);

}  // namespace forebay::app
