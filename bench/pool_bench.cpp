// What pools cost in time and space, beside the mallocs that programs use today.
//
//   pool_bench                       the whole table, 5 rounds
//   pool_bench --list                the rows
//   pool_bench --only random         one of them
//   pool_bench --smoke               all of them for an instant: do they work
//
// In a row every contender does the same work, made beforehand, in one process, one round of
// each in turn; figures are CPU time, medians with the least and the most. Each row has a
// process of its own; in rows about resident memory, each contender has. The exit code is 0 also
// where a target is missed, and 1 where blocks overlap, content is lost or counters do not add up.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "forebay/tracker.hpp"
#include "pool/rows.hpp"

namespace {

using namespace forebay::bench;
using forebay::Tracker;
using forebay::TrackingGrade;

constexpr double kSmokeScale = 0.001;

struct Options {
  std::vector<std::string> only;
  std::vector<std::string> peers;
  std::string json;
  std::string show;
  bool list = false;
  bool only_peers = false;
  bool markdown = false;
  std::string row;        // of ourselves: see run_apart
  std::string child;      // see run_child
  std::string contender;  // likewise
};

int run_as_row(const Settings& settings, const std::string& id) {
  for (const RowSpec& spec : all_rows()) {
    if (spec.id != id) continue;
    Row row = spec.run(settings);
    row.id = spec.id;
    row.title = spec.title;
    std::fputs(to_line(row).c_str(), stdout);
    return 0;
  }
  throw std::runtime_error{"no row " + id};
}

int run_as_child(const Settings& settings, const Options& options) {
  for (const ChildSpec& child : all_children()) {
    if (child.id != options.child) continue;
    std::fputs(to_line(child.run(settings, options.contender)).c_str(), stdout);
    return 0;
  }
  throw std::runtime_error{"no child " + options.child};
}

std::vector<std::string> describe(const Settings& settings) {
  std::vector<std::string> lines;
  for (const Peer& peer : settings.peers.here) {
    const char* const how = peer.give != nullptr ? "" : "; blocks go back with their size";
    lines.push_back(fmt::format("{}: {}{}", peer.name, peer.proof, how));
  }
  if (settings.peers.pmr) {
    lines.emplace_back("pmr: std::pmr::(un)synchronized_pool_resource over glibc's operator new");
  }
  lines.insert(lines.end(), settings.peers.missing.begin(), settings.peers.missing.end());
  return lines;
}

void print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

bool is_wanted(const Options& options, const std::string& id) {
  return options.only.empty() ||
         std::find(options.only.begin(), options.only.end(), id) != options.only.end();
}

std::string heading(const Report& report) {
  std::string text = report.machine + "\n";
  for (const std::string& line : report.peers) text += "  " + line + "\n";
  return text;
}

// For docs/performance.md: no details, all medians.
std::string markdown(const Report& report) {
  std::string text = "`" + report.command + "`: " + report.machine + ".\n\n";
  for (const std::string& line : report.peers) text += "- " + line + "\n";
  return text + "\n" + summary(report.rows, Format::markdown) + "\n" +
         matrix(report.rows, Format::markdown);
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
  print(heading(report));
  for (const Row& row : report.rows) print("\n" + details(row, Format::text));
  print("\n" + summary(report.rows, Format::text));
  return 0;
}

// Runs the rows one by one, showing each as it ends. Returns whether all was right.
bool run_rows(const Settings& settings, const Options& options, const std::string& command) {
  Report report{machine_line(), command, describe(settings), {}};
  if (!options.markdown) print(heading(report));
  bool right = true;
  for (const RowSpec& spec : all_rows()) {
    if (!is_wanted(options, spec.id)) continue;
    report.rows.push_back(run_apart(settings, spec));
    const Row& row = report.rows.back();
    right = right && row.failures.empty();
    if (!options.markdown) print("\n" + details(row, Format::text));
    for (const std::string& failure : row.failures) {
      std::fprintf(stderr, "pool_bench: %s: %s\n", row.id.c_str(), failure.c_str());
    }
  }
  print(options.markdown ? markdown(report) : "\n" + summary(report.rows, Format::text));
  if (!options.json.empty()) {
    std::ofstream file{options.json};
    file << to_json(report);
    if (!file.flush()) throw std::runtime_error{options.json + ": cannot be written"};
  }
  return right;
}

// If the machine runs out of memory, this is the process that it can spare.
void be_first_to_go() { std::ofstream{"/proc/self/oom_score_adj"} << 1000; }

std::vector<std::string> row_names() {
  std::vector<std::string> names;
  for (const RowSpec& spec : all_rows()) names.emplace_back(spec.id);
  return names;
}

void add_options(CLI::App& app, Options& options, Settings& settings) {
  auto peers = known_peers();
  peers.emplace_back("none");
  app.add_option("--only", options.only, "these rows")->check(CLI::IsMember(row_names()));
  app.add_option("--rounds", settings.rounds, "rounds that count")->check(CLI::Range(1, 1000));
  app.add_option("--scale", settings.scale, "amount of work, 1 for the table's")
      ->check(CLI::Range(0.0001, 100.0));
  app.add_flag("--smoke", settings.smoke, "an instant of each row: do they work");
  app.add_option("--peers", options.peers, "these peers")->check(CLI::IsMember(peers));
  app.add_flag("--only-peers", options.only_peers, "without Forebay");
  app.add_flag("--sized-free", settings.sized_free,
               "peers that can be are told the size of what is given back, as the pool is");
  app.add_flag("--untracked", settings.untracked,
               "ours with tracking off, as the peers are, instead of at its default grade");
  app.add_option("--json", options.json, "write all figures to this file");
  app.add_option("--show", options.show, "run nothing: show what --json wrote to this file");
  app.add_flag("--markdown", options.markdown, "tables for a document");
  app.add_flag("--list", options.list, "print the rows and end");
  app.add_option("--row", options.row)->group("");
  app.add_option("--child", options.child)->group("");
  app.add_option("--contender", options.contender)->group("");
}

int run(int argc, char** argv) {
  Options options;
  Settings settings;
  CLI::App app{"What pools cost in time and space, beside the mallocs of today", "pool_bench"};
  add_options(app, options, settings);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (options.list) {
    for (const RowSpec& spec : all_rows()) print(fmt::format("{:<12}{}\n", spec.id, spec.title));
    return 0;
  }
  if (!options.show.empty()) return show(options);
  restart_with_room_for_peers(argv);
  be_first_to_go();
  const bool is_apart = !options.row.empty() || !options.child.empty();
  if (settings.smoke && !is_apart) {
    settings.scale = kSmokeScale;
    settings.rounds = std::min(settings.rounds, 2);
  }
  if (settings.untracked) Tracker::set_options({.grade = TrackingGrade::off}).throw_if_error();
  settings.wanted_peers = options.peers;
  settings.peers = load_peers(
      options.child.empty() ? options.peers : std::vector<std::string>{options.contender},
      settings.sized_free);
  settings.peers.with_ours = !options.only_peers;
  if (!options.child.empty()) return run_as_child(settings, options);
  if (!options.row.empty()) return run_as_row(settings, options.row);
  std::string command = "pool_bench";
  for (int i = 1; i < argc; ++i) command += std::string{" "} + argv[i];
  return run_rows(settings, options, command) ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "pool_bench: %s\n", error.what());
    return 1;
  }
}
