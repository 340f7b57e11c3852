#include "report.hpp"

#include <fmt/format.h>

#include "forebay/config.hpp"

namespace forebay::app {
namespace {

using enum Table::Align;

std::string model_line(const ModelShape& shape) {
  const std::string kind = shape.architecture.empty() ? "" : shape.architecture + ", ";
  return fmt::format("{}{} layers, {} heads ({} key/value), {} tokens of vocabulary", kind,
                     shape.layers, shape.heads, shape.kv_heads, shape.vocabulary);
}

std::string need_table(const TokenPlan& plan, const PlanContext& context, const Painter& paint) {
  const MemoryNeed& need = plan.need;
  const Bytes per_layer = kv_bytes_per_token_per_layer(context.shape, plan.run.kv_k, plan.run.kv_v);
  const std::string_view how = need.measured ? "measured" : "estimated";
  Table table{{left, right, right, left}};
  const auto add = [&](std::string_view owner, Bytes bytes, const std::string& note) {
    table.add({std::string{owner}, to_string(bytes), percent_of(bytes, plan.line),
               paint(Style::dim, note)});
  };
  add("weights", need.weights, "as stored in the file");
  add("kv cache", need.kv,
      fmt::format("{} tokens x {} ({} a layer, {})", filled_cells(plan.run),
                  to_string(plan.kv_per_token), to_string(per_layer), to_string(plan.run.kv_k)));
  add("compute", need.compute, fmt::format("{}, {} at once", how, tokens(plan.run.batch_tokens)));
  add("output", need.output,
      fmt::format("{}, {} at one position", how, tokens(plan.run.parallel_tokens)));
  add("other", need.other, "the process itself");
  table.add({paint(Style::bold, "total"), paint(Style::bold, to_string(need.total())),
             percent_of(need.total(), plan.line), ""});
  table.add({"line", to_string(plan.line), "", paint(Style::dim, reason_of(context.line))});
  return table.text();
}

std::string answer_table(const TokenPlan& plan, const Painter& paint) {
  Table table{{left, left}};
  table.add({"fits", plan.fits ? paint(Style::good, "yes") : paint(Style::bad, "no")});
  if (plan.fits) {
    table.add({"context", fmt::format("{} planned, {} at most", tokens(plan.run.context_tokens),
                                      plan.max_context_tokens)});
    table.add(
        {"parallel set", fmt::format("{} planned, {} at most", tokens(plan.run.parallel_tokens),
                                     plan.max_parallel_tokens)});
  }
  table.add({"smallest line", to_string(plan.smallest_line)});
  return table.text();
}

std::string alternatives_table(const TokenPlan& plan, const Painter& paint) {
  if (plan.alternatives.empty()) return "";
  Table table{{left, right, right, left}};
  for (const PlanAlternative& alternative : plan.alternatives) {
    table.add({alternative.change, to_string(alternative.need.total()),
               tokens(alternative.context_tokens),
               alternative.fits ? "fits" : paint(Style::bad, "does not fit")});
  }
  return "\nwith one change\n" + table.text();
}

// The message without what the account below it says.
std::string_view headline(const Status& failure) {
  const std::string_view message = failure.message();
  if (failure.refusal() == nullptr) return message;
  return message.substr(0, std::min(message.find("; held by "), message.find("; try: ")));
}

}  // namespace

std::string tokens(std::uint64_t count) {
  return fmt::format("{} token{}", count, count == 1 ? "" : "s");
}

std::string_view reason_of(const LineChoice& line) {
  std::string_view reason = line.reason;
  if (const std::string size = to_string(line.line); reason.starts_with(size)) {
    reason.remove_prefix(size.size());
    reason.remove_prefix(std::min(reason.find_first_not_of(", "), reason.size()));
  }
  return reason;
}

std::string percent_of(Bytes part, Bytes whole) {
  if (whole.is_zero() || whole.is_unlimited()) return "-";
  const double percent =
      100.0 * static_cast<double>(part.count()) / static_cast<double>(whole.count());
  if (!part.is_zero() && percent < 1) return "<1 %";
  return fmt::format("{:.0f} %", percent);
}

std::string plan_report(const TokenPlan& plan, const PlanContext& context, const Painter& paint) {
  const std::string name = context.shape.name.empty() ? "model" : printable(context.shape.name);
  std::string text =
      fmt::format("{}\n  {}\n\n", paint(Style::bold, name), model_line(context.shape));
  text += need_table(plan, context, paint) + "\n" + answer_table(plan, paint);
  text += alternatives_table(plan, paint);
  if (!plan.notes.empty()) text += "\nnotes\n";
  for (const std::string& note : plan.notes) text += fmt::format("  {}\n", note);
  return text;
}

std::string failure_report(const Status& failure, const Painter& paint) {
  std::string text = fmt::format("{} {}\n", paint(Style::bad, "forebay:"), headline(failure));
  const Refusal* refusal = failure.refusal();
  if (refusal == nullptr) return text;
  Table table{{left, left, right, left}};
  for (std::size_t i = 0; i < refusal->holders.size(); ++i) {
    const Holder& holder = refusal->holders[i];
    table.add({i == 0 ? "held by" : "", holder.name, to_string(holder.used),
               holder.reclaimable.is_zero()
                   ? ""
                   : fmt::format("{} reclaimable", to_string(holder.reclaimable))});
  }
  for (std::size_t i = 0; i < refusal->reclaimers.size(); ++i) {
    const ReclaimAnswer& answer = refusal->reclaimers[i];
    table.add({i == 0 ? "gave back" : "", answer.name, to_string(answer.freed),
               fmt::format("of {} asked for{}{}", to_string(answer.asked),
                           answer.kept.empty() ? "" : "; keeps ", answer.kept)});
  }
  text += table.text();
  for (std::size_t i = 0; i < refusal->advice.size(); ++i) {
    text += fmt::format("  {:7}  {}\n", i == 0 ? "try" : "", refusal->advice[i]);
  }
  return text;
}

}  // namespace forebay::app
