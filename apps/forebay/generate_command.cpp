#include <fmt/format.h>
#include <unistd.h>

#include "command.hpp"
#include "environment.hpp"
#include "forebay/generate.hpp"
#include "generate_output.hpp"
#include "interrupt.hpp"
#include "publish.hpp"
#include "report.hpp"
#include "run_options.hpp"
#include "terminal.hpp"

namespace forebay::app {
namespace {

// What the user sees while a run goes on: text on standard output as it comes, a bar on a
// terminal, lines on standard error with --verbose.
class Display {
 public:
  explicit Display(const Config& config)
      : config_(config),
        out_(is_terminal(STDOUT_FILENO)),
        loading_("loading", is_terminal(STDERR_FILENO)),
        // Text that streams to the terminal shows progress by itself.
        generating_("generating",
                    is_terminal(STDERR_FILENO) && (config.json || !is_terminal(STDOUT_FILENO))) {}

  void on_load(float share) {
    loading_.show(static_cast<double>(share));
    if (share >= 1.0F) loading_.clear();
  }

  void on_plan(const TokenPlan& plan) {
    if (config_.verbose && plan.fits) log(plan_line(plan));
  }

  void on_stage(const Stage& stage) {
    if (config_.verbose) log(stage_line(stage));
  }

  void on_step(const GenerateStep& step) {
    if (!config_.json) {
      out_.write(step.tokens.front().text);
      ends_with_newline_ = step.tokens.front().text.ends_with('\n');
    }
    generating_.show((step.position + 1.0) / config_.max_tokens);
  }

  void finish() {
    loading_.clear();
    generating_.clear();
    if (!ends_with_newline_) out_.write("\n");
  }

  const Output& out() const noexcept { return out_; }

 private:
  void log(std::string_view line) {
    loading_.clear();
    generating_.clear();
    // Text that streams to the same terminal is not cut by a log line.
    if (!ends_with_newline_ && is_terminal(STDOUT_FILENO) && is_terminal(STDERR_FILENO)) {
      write_err("\n");
    }
    write_err(line);
  }

  const Config& config_;
  Output out_;
  ProgressBar loading_;
  ProgressBar generating_;
  bool ends_with_newline_ = true;
};

GenerateHooks hooks_of(Display& display, const InterruptGuard& guard) {
  GenerateHooks hooks;
  hooks.on_load = [&display](float share) { display.on_load(share); };
  hooks.on_plan = [&display](const TokenPlan& plan) { display.on_plan(plan); };
  hooks.on_stage = [&display](const Stage& stage) { display.on_stage(stage); };
  hooks.on_step = [&display](const GenerateStep& step) { display.on_step(step); };
  hooks.stop = [&display, &guard] { return guard.interrupted() || !display.out().status().ok(); };
  return hooks;
}

Exit exit_of_run(const GenerateReport& report) {
  if (!report.line_held) return Exit::expectation_failed;
  if (report.stop == StopReason::interrupted) return Exit::interrupted;
  return exit_of(report.outcome);
}

// The object is built in memory of this process too: what it takes is looked at before it is
// said whether the line was held.
std::string json_text(GenerateReport& report, const RunContext& context) {
  Json object = json_of(report, context);
  std::string text = printed(object);
  const Result<MemoryReading> reading = PressureMonitor{}.read();
  report.resident_peak = reading.ok() ? reading->resident_peak : report.resident_peak;
  report.line_held = report.line_held && report.resident_peak <= report.line;
  object["peak_rss_bytes"] = report.resident_peak.count();
  object["line_held"] = report.line_held;
  text = printed(object);
  return text;
}

Status print_report(const Config& config, GenerateReport& report, const RunContext& context) {
  const Painter paint = Painter::of(STDERR_FILENO);
  if (!config.json || config.verbose) write_err(generate_report(report, context, paint));
  if (!report.outcome.ok()) write_err(failure_report(report.outcome, paint));
  return config.json ? write_out(json_text(report, context)) : Status{};
}

}  // namespace

Result<Exit> run_generate(const Config& config) {
  Result<GenerateOptions> options = run_options(config);
  if (!options.ok()) return options.status();
  const Result<MemoryReading> reading = PressureMonitor{}.read();
  if (!reading.ok()) return reading.status();
  const RunContext context{options->model, config.seed, options->threads,
                           line_of(config, *reading)};
  options->line = context.line.line;
  if (config.verbose) write_err(fmt::format("line: {}\n", context.line.reason));

  const auto published = publish_if_asked(config);
  if (!published.ok()) return published.status();
  const InterruptGuard guard;
  Display display{config};
  Result<GenerateReport> report = generate(*options, hooks_of(display, guard));
  display.finish();
  if (!report.ok()) return report.status();

  Status printed = print_report(config, *report, context);
  if (!display.out().status().ok()) printed = display.out().status();
  // A reader that is gone (forebay generate … | head) has all it wanted.
  if (printed.code() == Code::interrupted)
    return report->line_held ? Exit::done : Exit::expectation_failed;
  if (!printed.ok()) return printed;
  return exit_of_run(*report);
}

}  // namespace forebay::app
