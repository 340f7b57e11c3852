#include "generate_output.hpp"

#include <fmt/format.h>

#include "report.hpp"

namespace forebay::app {
namespace {

using enum Table::Align;

std::string_view in_words(StopReason reason) {
  switch (reason) {
    case StopReason::end_of_text:
      return "the model ended its text";
    case StopReason::max_tokens:
      return "as many tokens as asked for";
    case StopReason::cache_full:
      return "the KV cache is full";
    case StopReason::line_reached:
      return "the line is reached";
    case StopReason::interrupted:
      return "interrupted";
    case StopReason::failed:
      return "the engine failed";
  }
  return "unknown";
}

std::string summary_table(const GenerateReport& report, const RunContext& context,
                          const Painter& paint) {
  Table table{{left, left}};
  table.add(
      {"generated", fmt::format("{} in {:.2f} s: {:.1f} tokens/s", tokens(report.steps.size()),
                                report.generate_seconds, report.tokens_per_second)});
  table.add({"prompt",
             fmt::format("{} in {:.2f} s", tokens(report.prompt_tokens), report.prompt_seconds)});
  table.add({"ended", std::string{in_words(report.stop)}});
  table.add({"line", fmt::format("{} ({})", to_string(report.line), reason_of(context.line))});
  table.add({"line held:", report.line_held ? paint(Style::good, "yes") : paint(Style::bad, "no")});
  table.add(
      {"peak", fmt::format("{} accounted ({} of the line), {} resident", to_string(report.peak),
                           percent_of(report.peak, report.line), to_string(report.resident_peak))});
  table.add({"trims", fmt::format("{}", report.trims)});
  table.add({"denials", fmt::format("{}", report.denials)});
  table.add({"engine", fmt::format("{}, {} thread{}", report.engine, context.threads,
                                   context.threads == 1 ? "" : "s")});
  return table.text();
}

std::string owners_table(const GenerateReport& report) {
  Table table{{left, right, right, right}};
  table.add({"owner", "at the end", "peak", "of the line"});
  for (const OwnerUse& owner : report.owners) {
    table.add({owner.name, to_string(owner.used), to_string(owner.peak),
               percent_of(owner.peak, report.line)});
  }
  return table.text();
}

Json owners_of(const GenerateReport& report) {
  Json owners = Json::object();
  for (const OwnerUse& owner : report.owners) {
    owners[owner.name] = {{"peak_bytes", owner.peak.count()}, {"used_bytes", owner.used.count()}};
  }
  return owners;
}

Json stages_of(const GenerateReport& report) {
  Json stages = Json::array();
  for (const Stage& stage : report.stages) {
    stages.push_back({{"name", stage.name},
                      {"seconds", std::chrono::duration<double>(stage.at).count()},
                      {"used_bytes", stage.used.count()},
                      {"peak_bytes", stage.peak.count()},
                      {"line_bytes", stage.line.count()},
                      {"rss_bytes", stage.resident.count()}});
  }
  return stages;
}

Json step_of(const GenerateStep& step) {
  Json tokens = Json::array();
  for (const ParallelToken& token : step.tokens) {
    tokens.push_back({{"token_id", token.token},
                      {"text", token.text},
                      {"probability", token.probability},
                      {"pruned", token.pruned}});
  }
  return {{"position", step.position}, {"tokens", std::move(tokens)}};
}

Json steps_of(const GenerateReport& report) {
  Json steps = Json::array();
  for (const GenerateStep& step : report.steps) steps.push_back(step_of(step));
  return steps;
}

}  // namespace

std::string stage_line(const Stage& stage) {
  return fmt::format("{:8.2f} s  {:<14}  used {:>9}  peak {:>9}  line {:>9}  resident {:>9}\n",
                     std::chrono::duration<double>(stage.at).count(), stage.name,
                     to_string(stage.used), to_string(stage.peak), to_string(stage.line),
                     to_string(stage.resident));
}

std::string plan_line(const TokenPlan& plan) {
  return fmt::format(
      "plan: {} of {}: weights {}, kv {} ({} tokens), compute {}, output {}, other {}; "
      "up to {} tokens at one position\n",
      to_string(plan.need.total()), to_string(plan.line), to_string(plan.need.weights),
      to_string(plan.need.kv), filled_cells(plan.run), to_string(plan.need.compute),
      to_string(plan.need.output), to_string(plan.need.other), plan.run.parallel_tokens);
}

std::string generate_report(const GenerateReport& report, const RunContext& context,
                            const Painter& paint) {
  std::string text = "\n" + summary_table(report, context, paint) + "\n" + owners_table(report);
  for (const std::string& note : report.plan.notes) text += fmt::format("\n  note: {}\n", note);
  return text;
}

Json json_of(const GenerateReport& report, const RunContext& context) {
  Json object{
      {"text", report.text},
      {"tokens_generated", report.steps.size()},
      {"tokens_per_second", report.tokens_per_second},
      {"stop", to_string(report.stop)},
      {"line_bytes", report.line.count()},
      {"line_reason", context.line.reason},
      {"peak_bytes", report.peak.count()},
      {"peak_rss_bytes", report.resident_peak.count()},
      {"start_rss_bytes", report.resident_at_start.count()},
      {"line_held", report.line_held},
      {"accounted_ratio", report.accounted_ratio},
      {"trims", report.trims},
      {"denials", report.denials},
      {"prompt_tokens", report.prompt_tokens},
      {"prompt_seconds", report.prompt_seconds},
      {"generate_seconds", report.generate_seconds},
      {"cells_used", report.cells_used},
      {"planned_bytes", report.plan.need.total().count()},
      {"context_tokens", report.plan.run.context_tokens},
      {"max_parallel_tokens", report.plan.run.parallel_tokens},
      {"model", context.model.string()},
      {"seed", context.seed},
      {"threads", context.threads},
      {"engine", report.engine},
      {"owners", owners_of(report)},
      {"stages", stages_of(report)},
      {"steps", steps_of(report)},
      {"notes", report.plan.notes},
  };
  if (!report.outcome.ok()) object.update(json_of(report.outcome));
  return object;
}

}  // namespace forebay::app
