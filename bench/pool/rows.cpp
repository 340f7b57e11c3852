#include "pool/rows.hpp"

#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <nlohmann/json.hpp>
#include <stdexcept>

extern char** environ;

namespace forebay::bench {

const std::vector<RowSpec>& all_rows() {
  static const std::vector<RowSpec> rows{
      {"random", "random sizes up to 1 MiB, as RMM's benchmark does it", random_row},
      {"flat", "random replacement at exactly so many live blocks", flat_row},
      {"step", "transformer training step", step_row},
      {"hot", "one size, taken and given back", hot_row},
      {"churn", "random sizes up to 1 MiB, each page written", churn_row},
      {"fresh", "a pool's hit against a fresh block of the host", fresh_row},
      {"growth", "batches that grow, with small survivors", growth_row},
      {"replace", "256 B - 64 MiB replaced at random under a line", replace_row},
      {"threads", "two threads, a transformer step each", threads_row},
      {"pipe", "two threads, one produces and one consumes", pipe_row},
      {"latency", "single acquires of a warm pool", latency_row},
      {"burst", "resident memory after a burst", burst_row},
      {"accounting", "a pool over a budget and over the bare host", accounting_row},
      {"hits", "share of acquires that upstream did not see", hits_row},
  };
  return rows;
}

const std::vector<ChildSpec>& all_children() {
  static const std::vector<ChildSpec> children{
      {"growth", growth_child}, {"replace", replace_child}, {"burst", burst_child}};
  return children;
}

namespace {

std::string read_all(int file) {
  std::string text;
  std::array<char, 4096> part{};
  for (ssize_t got = 0; (got = read(file, part.data(), part.size())) > 0;) {
    text.append(part.data(), static_cast<std::size_t>(got));
  }
  return text;
}

// Starts this program again with `arguments`; its standard output ends up in `out`. Returns
// its exit status as waitpid has it.
int run_self(std::vector<std::string> arguments, std::string& out) {
  std::array<int, 2> ends{};
  if (pipe(ends.data()) != 0) throw std::runtime_error{"no pipe"};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_addclose(&actions, ends[0]);
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  pid_t child = 0;
  const int error = posix_spawn(&child, "/proc/self/exe", &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  if (error == 0) out = read_all(ends[0]);
  close(ends[0]);
  if (error != 0) throw std::runtime_error{"this program cannot be started again"};
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

}  // namespace

namespace {

// This program with the same settings and `more`. Returns what it printed; throws if it
// failed.
std::string ask_self(const Settings& settings, const std::vector<std::string>& more) {
  std::vector<std::string> arguments{"pool_bench", "--scale", fmt::format("{}", settings.scale),
                                     "--rounds", std::to_string(settings.rounds)};
  if (settings.smoke) arguments.emplace_back("--smoke");
  if (settings.sized_free) arguments.emplace_back("--sized-free");
  if (settings.untracked) arguments.emplace_back("--untracked");
  if (!settings.peers.with_ours) arguments.emplace_back("--only-peers");
  for (const std::string& peer : settings.wanted_peers) {
    arguments.insert(arguments.end(), {"--peers", peer});
  }
  arguments.insert(arguments.end(), more.begin(), more.end());
  std::string out;
  const int status = run_self(std::move(arguments), out);
  if (status == 0) return out;
  throw std::runtime_error{WIFSIGNALED(status)
                               ? fmt::format("its process ended by signal {}", WTERMSIG(status))
                               : "its process failed; see above"};
}

}  // namespace

Row run_apart(const Settings& settings, const RowSpec& spec) {
  try {
    return row_from_line(ask_self(settings, {"--row", spec.id}));
  } catch (const std::runtime_error& error) {
    Row row;
    row.id = spec.id;
    row.title = spec.title;
    row.failures.emplace_back(error.what());
    return row;
  }
}

Figures run_child(const Settings& settings, const std::string& id, const std::string& contender) {
  const std::string out = ask_self(settings, {"--child", id, "--contender", contender});
  const auto json = nlohmann::json::parse(out, nullptr, false);
  if (!json.is_object()) throw std::runtime_error{"its process printed no figures"};
  return json.get<Figures>();
}

std::string to_line(const Figures& figures) { return nlohmann::json(figures).dump() + "\n"; }

}  // namespace forebay::bench
