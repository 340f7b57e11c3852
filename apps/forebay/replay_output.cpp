#include "replay_output.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "forebay/config.hpp"

namespace forebay::app {
namespace {

using enum Table::Align;
using trace::Replay;
using trace::ReplayRun;

double ratio(Bytes part, Bytes whole) {
  return whole.is_zero() ? 0
                         : static_cast<double>(part.count()) / static_cast<double>(whole.count());
}

std::string percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

std::string time_of(double ns) {
  return ns < 9999.5 ? fmt::format("{:.{}f} ns", ns, ns < 99.95 ? 1 : 0)
                     : fmt::format("{:.1f} us", ns / 1000);
}

std::string counted(std::uint64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

std::string demand_line(const Replay& replay) {
  const trace::Demand& demand = replay.demand;
  const double seconds = std::chrono::duration<double>(demand.duration).count();
  return fmt::format("{}, {} in {:.3g} s, peak live {} in at most {}, {}", to_string(replay.format),
                     counted(demand.operations, "operation"), seconds, to_string(demand.peak_live),
                     counted(demand.peak_blocks, "block"), counted(demand.streams, "stream"));
}

std::string device_line(const ReplayContext& context) {
  std::string text =
      fmt::format("on {}", context.device == "host" ? "the host" : "a simulated device");
  if (!context.capacity.is_unlimited()) {
    text += fmt::format(" of {}", to_string(context.capacity));
  }
  return text + (context.touch ? ", each page written" : "");
}

std::vector<std::string> cells_of(const ReplayRun& run, const ReplayContext& context) {
  std::vector<std::string> cells{run.name, time_of(run.ns_per_operation)};
  if (context.device != "host") cells.push_back(time_of(run.device_ns_per_operation));
  cells.push_back(to_string(run.peak_reserved));
  cells.push_back(fmt::format("{:.2f}", ratio(run.peak_reserved, run.peak_live)));
  if (context.touch) cells.push_back(to_string(run.peak_resident));
  if (run.direct) {
    cells.insert(cells.end(), {"-", "-", "-"});
  } else {
    cells.insert(cells.end(), {percent(run.fragmentation.mean), percent(run.fragmentation.most),
                               run.served > 0 ? percent(run.hit_rate) : "-"});
  }
  cells.push_back(std::to_string(run.refused));
  return cells;
}

const ReplayRun* recommended_of(const Replay& replay) {
  return replay.recommended ? &replay.runs[*replay.recommended] : nullptr;
}

std::string run_table(const Replay& replay, const ReplayContext& context, const Painter& paint) {
  std::vector<std::string> heads{"configuration", "CPU/op"};
  if (context.device != "host") heads.emplace_back("device/op");
  heads.insert(heads.end(), {"peak reserved", "/ live"});
  if (context.touch) heads.emplace_back("peak resident");
  heads.insert(heads.end(), {"fragm. mean", "most", "hits", "refused"});
  std::vector<Table::Align> columns(heads.size(), right);
  columns[0] = left;
  Table table{columns};
  for (std::string& head : heads) head = paint(Style::dim, head);
  table.add(heads);
  for (const ReplayRun& run : replay.runs) {
    std::vector<std::string> cells = cells_of(run, context);
    if (&run == recommended_of(replay)) cells[0] = paint(Style::good, cells[0]);
    if (run.refused > 0) cells.back() = paint(Style::bad, cells.back());
    table.add(std::move(cells));
  }
  return table.text();
}

Json samples_of(const ReplayRun& run) {
  Json list = Json::array();
  for (const trace::Sample& sample : run.samples) {
    list.push_back({{"operation", sample.operation},
                    {"live_bytes", sample.live.count()},
                    {"reserved_bytes", sample.reserved.count()},
                    {"resident_bytes", sample.resident.count()},
                    {"fragmentation", sample.fragmentation}});
  }
  return list;
}

Json json_of(const ReplayRun& run) {
  return {{"name", run.name},
          {"spec", run.spec},
          {"operations", run.operations},
          {"ns_per_operation", run.ns_per_operation},
          {"ns_per_operation_min", run.ns_least},
          {"ns_per_operation_max", run.ns_most},
          {"device_ns_per_operation", run.device_ns_per_operation},
          {"device_calls", run.device_calls},
          {"peak_live_bytes", run.peak_live.count()},
          {"peak_served_bytes", run.peak_served.count()},
          {"peak_reserved_bytes", run.peak_reserved.count()},
          {"peak_resident_bytes", run.peak_resident.count()},
          {"reserved_per_live", ratio(run.peak_reserved, run.peak_live)},
          {"hit_rate", run.hit_rate},
          {"refused", run.refused},
          {"fragmentation",
           {{"min", run.fragmentation.least},
            {"mean", run.fragmentation.mean},
            {"max", run.fragmentation.most}}},
          {"samples", samples_of(run)}};
}

}  // namespace

std::string name_of_trace(const std::string& file) {
  return printable(std::filesystem::path{file}.filename().string());
}

std::string replay_report(const Replay& replay, const ReplayContext& context,
                          const Painter& paint) {
  std::string text =
      fmt::format("{}\n  {}\n  {}\n\n", paint(Style::bold, name_of_trace(context.trace)),
                  demand_line(replay), device_line(context));
  text += run_table(replay, context, paint);
  const ReplayRun* const best = recommended_of(replay);
  if (best == nullptr) return text + fmt::format("\nrecommended: none\n  {}\n", replay.reason);
  text += fmt::format("\nrecommended: {}\n  {}\n", paint(Style::good, best->name), replay.reason);
  if (!best->spec.empty()) text += fmt::format("  settings: {}\n", printable(best->spec));
  return text;
}

Json json_of(const Replay& replay, const ReplayContext& context) {
  const trace::Demand& demand = replay.demand;
  const ReplayRun* const best = recommended_of(replay);
  Json runs = Json::array();
  for (const ReplayRun& run : replay.runs) runs.push_back(json_of(run));
  return {
      {"trace", context.trace},
      {"format", to_string(replay.format)},
      {"device", context.device},
      {"capacity_bytes", context.capacity.is_unlimited() ? Json{} : Json(context.capacity.count())},
      {"touch", context.touch},
      {"repeat", context.repeat},
      {"operations", demand.operations},
      {"allocations", demand.allocations},
      {"frees", demand.frees},
      {"left_out", demand.left_out},
      {"peak_live_bytes", demand.peak_live.count()},
      {"peak_live_operation", demand.peak_at},
      {"peak_live_blocks", demand.peak_blocks},
      {"live_bytes_at_end", demand.live.count()},
      {"streams", demand.streams},
      {"trace_seconds", std::chrono::duration<double>(demand.duration).count()},
      {"runs", std::move(runs)},
      {"recommended", best != nullptr ? Json(best->name) : Json{}},
      {"reason", replay.reason},
      {"chart", context.chart.empty() ? Json{} : Json(context.chart)}};
}

Status refusal_of(const Replay& replay, const ReplayContext& context) {
  const ReplayRun& best = replay.runs[replay.recommended.value_or(0)];
  if (context.capacity.is_unlimited()) {
    // No limit was hit, so that none can be raised: the machine's or the pool's own words.
    return {Code::memory_refused,
            fmt::format("{} refused with {} of the trace live, though no capacity is set: {}",
                        to_string(best.first_refused), to_string(best.live_at_refusal),
                        printable(best.refusal))};
  }
  Refusal refusal;
  refusal.budget = context.device;
  refusal.asked = best.first_refused;
  refusal.used = best.live_at_refusal;
  refusal.limit = context.capacity;
  refusal.holders.push_back({.name = "the trace", .used = best.live_at_refusal, .reclaimable = {}});
  const Bytes needed = replay.demand.peak_live;
  refusal.advice.push_back(
      context.capacity < needed
          ? fmt::format("raise --capacity to at least {}, what the trace has live",
                        to_string(needed))
          : fmt::format("raise --capacity: {} are live, and each configuration holds more",
                        to_string(needed)));
  return Status{std::move(refusal)};
}

}  // namespace forebay::app
