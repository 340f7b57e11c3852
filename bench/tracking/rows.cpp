#include "tracking/rows.hpp"

#include <fmt/format.h>

#include <cmath>
#include <exception>
#include <utility>

namespace forebay::bench {

const std::vector<RowSpec>& all_rows() {
  static const std::vector<RowSpec> rows{
      {"heavy", "acquire + drop, 16 - 4096 B, 2 threads, 200 k live, 768 places", heavy_row},
      {"step", "transformer training step, everything on", step_row},
      {"drop", "release on drop: bytes back in the budget", drop_row},
      {"drift", "counters against an oracle, 2 threads", drift_row},
      {"snapshot", "the live table and the file of it", snapshot_row},
      {"top", "a busy process that publishes its statistics", top_row},
  };
  return rows;
}

Samples Contender::samples(const std::string& figure, double factor) const {
  Samples samples;
  for (const Figures& figures : rounds) {
    const auto at = figures.find(figure);
    if (at != figures.end()) samples.add(at->second * factor);
  }
  return samples;
}

void run_rounds(std::vector<Contender>& contenders, int rounds) {
  for (int round = 0; round < rounds; ++round) {
    for (Contender& contender : contenders) {
      if (!contender.trouble.empty()) continue;
      try {
        contender.rounds.push_back(run(contender.command));
      } catch (const std::exception& error) {
        contender.trouble = error.what();
      }
    }
  }
}

Command own_work(const std::string& work, const std::string& variant, std::uint64_t count,
                 const Folder& folder) {
  return {{own_program(), "--work", work, "--variant", variant, "--count", std::to_string(count),
           "--folder", folder.path()},
          {}};
}

Command untracked_work(const std::string& work, std::uint64_t count) {
  return {{untracked_program(), work, std::to_string(count)}, {}};
}

Ratio ratio_of(const std::vector<Contender>& contenders, const Contender& contender,
               const std::string& figure) {
  Ratio ratio;
  for (const Contender& base : contenders) {
    if (base.name != contender.base) continue;
    const Samples ours = contender.samples(figure);
    const Samples theirs = base.samples(figure);
    if (ours.empty() || theirs.empty()) return ratio;
    ratio.medians = ours.median() / theirs.median();
    ratio.least = ours.least() / theirs.least();
    const std::size_t both = std::min(ours.values().size(), theirs.values().size());
    for (std::size_t i = 0; i != both; ++i) ratio.pairs.add(ours.values()[i] / theirs.values()[i]);
  }
  return ratio;
}

std::string to_text(const Ratio& ratio) {
  return fmt::format("{:.3f} (least of each {:.3f}; by rounds {:.3f} - {:.3f})", ratio.medians,
                     ratio.least, ratio.pairs.least(), ratio.pairs.most());
}

Part part_of(Row& row, std::string title, std::string unit,
             const std::vector<Contender>& contenders, const std::string& figure, double factor) {
  Part part;
  part.title = std::move(title);
  part.unit = std::move(unit);
  for (const Contender& contender : contenders) {
    std::string note = contender.trouble;
    const Ratio ratio = ratio_of(contenders, contender, figure);
    if (!ratio.pairs.empty()) note += to_text(ratio) + " of " + contender.base;
    part.figures.push_back(
        {contender.name, Role::shown, contender.samples(figure, factor), std::move(note)});
    if (!contender.trouble.empty()) {
      row.failures.push_back(fmt::format("{}: {}", contender.name, contender.trouble));
    }
  }
  return part;
}

void judge_ratio(Part& part, const std::vector<Contender>& contenders, const std::string& name,
                 const std::string& figure, double most) {
  for (const Contender& contender : contenders) {
    if (contender.name != name) continue;
    const Ratio ratio = ratio_of(contenders, contender, figure);
    if (ratio.pairs.empty()) return;
    judge(part, name, to_text(ratio), fmt::format("≤ {} of {}", most, contender.base),
          ratio.medians <= most);
  }
}

namespace {

// All figures of the contenders with a `unit`, named as they are.
Part plain_part(std::string title, std::string unit, const Contender& contender,
                const std::vector<std::pair<const char*, const char*>>& figures,
                double factor = 1) {
  Part part;
  part.title = std::move(title);
  part.unit = std::move(unit);
  for (const auto& [name, figure] : figures) {
    part.figures.push_back({name, Role::shown, contender.samples(figure, factor), ""});
  }
  return part;
}

// For a count that must be zero in all rounds: else the row fails.
void expect_zero(Row& row, const Contender& contender, const std::string& figure) {
  const Samples samples = contender.samples(figure);
  if (!samples.empty() && samples.most() > 0) {
    row.failures.push_back(fmt::format("{}: {} is {:.0f}", contender.name, figure, samples.most()));
  }
}

void note_trouble(Row& row, const Contender& contender) {
  if (contender.trouble.empty()) return;
  row.failures.push_back(fmt::format("{}: {}", contender.name, contender.trouble));
}

}  // namespace

Row step_row(const Settings& settings) {
  Row row;
  struct Kind {
    const char* title;
    const char* suffix;
    std::uint64_t steps;
    double most;  // of untracked; 0: not judged
  };
  // What a step does beside its acquires and drops is left out of the first kind altogether.
  for (const Kind& kind : {Kind{"acquires and drops alone", "", 10'000, 0},
                           Kind{"each tensor written once", "-written", 40, 1.03}}) {
    const Folder folder;
    const std::string suffix = kind.suffix;
    const std::uint64_t steps = settings.scaled(kind.steps, 2);
    std::vector<Contender> contenders{
        {"untracked", "", untracked_work("step" + suffix, steps), {}, {}},
        {"sampled", "untracked", own_work("step", "default" + suffix, steps, folder), {}, {}},
        {"everything",
         "untracked",
         own_work("step", "everything" + suffix, steps, folder),
         {},
         {}}};
    run_rounds(contenders, settings.rounds);
    Part time = part_of(row, kind.title, "ns of CPU an operation", contenders, "cpu_ns");
    if (kind.most > 0) judge_ratio(time, contenders, "everything", "cpu_ns", kind.most);
    row.parts.push_back(time);
    constexpr double kMiB = 1.0 / (1 << 20);
    Part space = part_of(row, fmt::format("{}: peak in memory", kind.title), "MiB", contenders,
                         "peak_bytes", kMiB);
    if (kind.most > 0) judge_ratio(space, contenders, "everything", "peak_bytes", kind.most);
    row.parts.push_back(space);
  }
  return row;
}

Row drop_row(const Settings& settings) {
  constexpr double kMostMicroseconds = 1000;
  const Folder folder;
  std::vector<Contender> contenders;
  for (const char* const kind : {"small", "large", "direct"}) {
    // Blocks of 1 MiB are too many addresses by the million; straight from the host, too slow.
    const bool small = std::string{kind} == "small";
    const std::uint64_t drops = settings.scaled(small ? 1'000'000 : 100'000, 1000);
    contenders.push_back({kind, "", own_work("drop", kind, drops, folder), {}, {}});
  }
  run_rounds(contenders, settings.rounds);
  Row row;
  Part part =
      part_of(row, "from the last drop to a budget at zero, longest", "us", contenders, "most_us");
  for (const Contender& contender : contenders) {
    const Samples waits = contender.samples("most_us");
    if (waits.empty()) continue;
    judge(part, contender.name, number(waits.most()) + " us at most", "≤ 1 ms",
          waits.most() <= kMostMicroseconds);
    part.notes.push_back(fmt::format(
        "{}: {:.0f} drops a round, {} in the budget before, {} right after the last drop",
        contender.name, contender.samples("drops").median(),
        size_text(contender.samples("held_bytes").median()),
        size_text(contender.samples("left_at_once").most())));
    expect_zero(row, contender, "missing");
    expect_zero(row, contender, "wrong");
  }
  row.parts.push_back(part);
  return row;
}

Row drift_row(const Settings& settings) {
  const Folder folder;
  const std::uint64_t operations = settings.scaled(settings.operations, 200'000);
  std::vector<Contender> contenders{
      {"64 x 64 tags and owners", "", own_work("drift", "any", operations, folder), {}, {}}};
  // One run of many operations is worth more than several.
  run_rounds(contenders, operations > 100'000'000 ? 1 : settings.rounds);
  Row row;
  const Contender& contender = contenders.front();
  note_trouble(row, contender);
  Part part = plain_part("counters, scope and oracle included", "ns of CPU an operation", contender,
                         {{"acquire or drop", "cpu_ns"}});
  double drift = 0;
  for (const char* const name :
       {"live", "live_blocks", "allocated", "allocations", "live_after", "live_blocks_after",
        "allocated_after", "allocations_after", "blocks_seen_after"}) {
    expect_zero(row, contender, name);
    if (!contender.rounds.empty()) drift += contender.samples(name).most();
  }
  if (!contender.rounds.empty()) {
    judge(part, fmt::format("after {} operations", operations), fmt::format("drift {:.0f}", drift),
          "0", drift == 0);
    part.notes.push_back(fmt::format("{:.0f} allocations compared, {:.0f} blocks live at the end",
                                     contender.samples("allocations_seen").median(),
                                     contender.samples("blocks_seen").median()));
  }
  row.parts.push_back(part);
  return row;
}

namespace {

void judge_snapshot(Row& row, const Contender& contender, std::uint64_t blocks, bool few) {
  constexpr double kMostPause = 2;      // ms
  constexpr double kMostBytes = 20e6;   // of the file
  constexpr double kMostWriting = 2e3;  // ms
  if (contender.rounds.empty()) return;
  Part& part = row.parts.back();
  if (!few) {
    const double took =
        contender.samples("take_ms").median() + contender.samples("zst_ms").median();
    judge(part, "taken and written", number(took) + " ms", "≤ 2 s", took <= kMostWriting);
    return;
  }
  const double pause = contender.samples("pause_ms").median();
  judge(part, fmt::format("pause, {} blocks", blocks),
        fmt::format("{} ms (least {})", number(pause),
                    number(contender.samples("least_pause_ms").least())),
        "≤ 2 ms", pause <= kMostPause);
  const double bytes = contender.samples("zst_bytes").median();
  judge(part, "file (.zst)", size_text(bytes), "≤ 20 MB", bytes <= kMostBytes);
}

}  // namespace

Row snapshot_row(const Settings& settings) {
  Row row;
  for (const std::uint64_t of : {200'000ULL, 1'000'000ULL}) {
    const std::uint64_t blocks = settings.scaled(of, 1000);
    for (const char* const grade : {"sampled", "full"}) {
      const Folder folder;
      std::vector<Contender> contenders{{fmt::format("{}, {} blocks", grade, blocks),
                                         "",
                                         own_work("snapshot", grade, blocks, folder),
                                         {},
                                         {}}};
      run_rounds(contenders, settings.rounds);
      const Contender& contender = contenders.front();
      note_trouble(row, contender);
      row.parts.push_back(plain_part(contender.name, "ms", contender,
                                     {{"Tracker::live()", "live_ms"},
                                      {"Tracker::live(), CPU", "live_cpu_ms"},
                                      {"longest acquire + drop beside it", "pause_ms"},
                                      {"the same without it", "no_pause_ms"},
                                      {"Snapshot::take(), CPU", "take_ms"},
                                      {"write .json, CPU", "json_ms"},
                                      {"write .json.zst, CPU", "zst_ms"}}));
      judge_snapshot(row, contender, blocks, of == 200'000);
      if (contender.rounds.empty()) continue;
      row.parts.back().notes.push_back(fmt::format(
          "{:.0f} blocks in the table, {:.0f} in the file; {} as .json, {} as .json.zst",
          contender.samples("blocks_seen").median(), contender.samples("blocks_written").median(),
          size_text(contender.samples("json_bytes").median()),
          size_text(contender.samples("zst_bytes").median())));
    }
  }
  return row;
}

Row top_row(const Settings& settings) {
  constexpr double kMostShare = 0.5;  // %
  const Folder folder;
  const std::uint64_t milliseconds = settings.scaled(4000, 400);
  std::vector<Contender> contenders{
      {"publisher", "", own_work("top", "any", milliseconds, folder), {}, {}}};
  run_rounds(contenders, settings.rounds);
  Row row;
  const Contender& contender = contenders.front();
  note_trouble(row, contender);
  Part share = plain_part(
      "processor time of the publisher", "%", contender,
      {{"of the process's own", "share_of_work"}, {"of the wall", "share_of_wall"}}, 100);
  if (!contender.rounds.empty()) {
    const double of_work = share.figures.front().samples.median();
    judge(share, "of the process's time", fmt::format("{:.3f} %", of_work), "≤ 0.5 %",
          of_work <= kMostShare);
    share.notes.push_back(fmt::format("{:.1f} M operations a second",
                                      contender.samples("operations_a_second").median() / 1e6));
  }
  row.parts.push_back(share);
  row.parts.push_back(plain_part("one thread, acquire or drop", "ns of CPU an operation", contender,
                                 {{"with the publisher", "with_ns"}, {"without", "without_ns"}}));
  return row;
}

}  // namespace forebay::bench
