// What tracking costs, beside the same code with tracking compiled out and beside other tools.
//
//   tracking_bench                          the whole table, 5 rounds
//   tracking_bench --list                   the rows
//   tracking_bench --only heavy             one of them
//   tracking_bench --only drift --operations 1000000000
//   tracking_bench --smoke                  all of them for an instant: do they work
//
// Each variant of a row's work is a process of its own, one of each in turn, so that processor
// time and peak memory are its alone. Figures are medians of CPU time with the least and the most.
// The exit code is 0 also where a target is missed, and 1 where something is wrong: counters that
// drift, bytes that do not come back, records that found no room, a process that fails.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "tracking/rows.hpp"
#include "tracking/work.hpp"

namespace forebay::bench {

const std::vector<WorkSpec>& all_work() {
  static const std::vector<WorkSpec> work{
      {"heavy", tracked_heavy_work}, {"step", tracked_step_work}, {"drop", drop_work},
      {"drift", drift_work},         {"snapshot", snapshot_work}, {"top", top_work}};
  return work;
}

}  // namespace forebay::bench

namespace {

using namespace forebay::bench;

constexpr double kSmokeScale = 0.001;

struct Options {
  std::vector<std::string> only;
  std::string json;
  std::string show;
  bool list = false;
  bool markdown = false;
  bool smoke = false;
  bool no_peers = false;
  std::string work;  // of ourselves: see work.hpp
  WorkOptions of_work;
};

void print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

int do_work(const Options& options) {
  for (const WorkSpec& spec : all_work()) {
    if (spec.id != options.work) continue;
    print(to_line(spec.run(options.of_work)));
    return 0;
  }
  throw std::runtime_error{"no work " + options.work};
}

std::string markdown(const Report& report) {
  std::string text = "`" + report.command + "`: " + report.machine + ".\n\n" +
                     summary(report.rows, Format::markdown);
  for (const Row& row : report.rows) text += "\n" + details(row, Format::markdown);
  return text;
}

// Shows what an earlier run wrote.
int show(const Options& options) {
  std::ifstream file{options.show};
  if (!file) throw std::runtime_error{options.show + ": cannot be read"};
  const Report report = report_from_json({std::istreambuf_iterator<char>{file}, {}});
  if (options.markdown) {
    print(markdown(report));
    return 0;
  }
  print(report.machine + "\n");
  for (const Row& row : report.rows) print("\n" + details(row, Format::text));
  print("\n" + summary(report.rows, Format::text));
  return 0;
}

Row run_row(const Settings& settings, const RowSpec& spec) {
  Row row;
  try {
    row = spec.run(settings);
  } catch (const std::exception& error) {
    row.failures.emplace_back(error.what());
  }
  row.id = spec.id;
  row.title = spec.title;
  return row;
}

bool is_wanted(const Options& options, const std::string& id) {
  return options.only.empty() ||
         std::find(options.only.begin(), options.only.end(), id) != options.only.end();
}

void write_json(const Report& report, const std::string& path) {
  std::ofstream file{path};
  file << to_json(report);
  if (!file.flush()) throw std::runtime_error{path + ": cannot be written"};
}

// Runs the rows one by one, showing each as it ends. Returns whether all was right.
bool run_rows(const Settings& settings, const Options& options, const std::string& command) {
  Report report{machine_line(), command, {}, {}};
  if (!options.markdown) print(report.machine + "\n");
  bool right = true;
  for (const RowSpec& spec : all_rows()) {
    if (!is_wanted(options, spec.id)) continue;
    report.rows.push_back(run_row(settings, spec));
    const Row& row = report.rows.back();
    right = right && row.failures.empty();
    if (!options.markdown) print("\n" + details(row, Format::text));
    for (const std::string& failure : row.failures) {
      std::fprintf(stderr, "tracking_bench: %s: %s\n", row.id.c_str(), failure.c_str());
    }
    if (!options.json.empty()) write_json(report, options.json);
  }
  print(options.markdown ? markdown(report) : "\n" + summary(report.rows, Format::text));
  return right;
}

std::vector<std::string> row_names() {
  std::vector<std::string> names;
  for (const RowSpec& spec : all_rows()) names.emplace_back(spec.id);
  return names;
}

void add_options(CLI::App& app, Options& options, Settings& settings) {
  app.add_option("--only", options.only, "these rows")->check(CLI::IsMember(row_names()));
  app.add_option("--rounds", settings.rounds, "rounds")->check(CLI::Range(1, 1000));
  app.add_option("--scale", settings.scale, "amount of work, 1 for the table's")
      ->check(CLI::Range(0.0001, 100.0));
  app.add_option("--operations", settings.operations, "of the row drift")
      ->check(CLI::Range(1'000'000ULL, 1'000'000'000'000ULL));
  app.add_flag("--no-peers", options.no_peers, "without other tools");
  app.add_flag("--smoke", options.smoke, "an instant of each row: do they work");
  app.add_option("--json", options.json, "write all figures to this file");
  app.add_option("--show", options.show, "run nothing: show what --json wrote to this file");
  app.add_flag("--markdown", options.markdown, "tables for a document");
  app.add_flag("--list", options.list, "print the rows and end");
  app.add_option("--work", options.work)->group("");
  app.add_option("--variant", options.of_work.variant)->group("");
  app.add_option("--count", options.of_work.count)->group("");
  app.add_option("--folder", options.of_work.folder)->group("");
}

int run_program(int argc, char** argv) {
  Options options;
  Settings settings;
  CLI::App app{"What tracking costs in time and space", "tracking_bench"};
  add_options(app, options, settings);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (!options.work.empty()) return do_work(options);
  if (options.list) {
    for (const RowSpec& spec : all_rows()) print(fmt::format("{:<12}{}\n", spec.id, spec.title));
    return 0;
  }
  if (!options.show.empty()) return show(options);
  if (options.smoke) {
    settings.scale = kSmokeScale;
    settings.rounds = std::min(settings.rounds, 1);
  }
  settings.peers = !options.no_peers;
  std::string command = "tracking_bench";
  for (int i = 1; i < argc; ++i) command += std::string{" "} + argv[i];
  return run_rows(settings, options, command) ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run_program(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tracking_bench: %s\n", error.what());
    return 1;
  }
}
