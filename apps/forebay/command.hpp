// What a command of the program is, and how it ends.
#pragma once

#include <span>
#include <string_view>

#include "forebay/config.hpp"
#include "forebay/status.hpp"

namespace forebay::app {

// Exit codes of every command; scripts rely on them.
enum class Exit : int {
  done = 0,
  expectation_failed = 1,
  bad_input = 2,
  memory_refused = 3,
  interrupted = 130,  // 128 + SIGINT, as shells have it
};

// The exit code that says the same as a status.
Exit exit_of(const Status& status) noexcept;

struct Command {
  std::string_view name;     // one word, or a group's and one: "replay alloc"
  std::string_view summary;  // one line
  CommandSet bit;            // its settings in the schema
  std::string_view usage;    // what follows the name
  std::string_view operand;  // key of the setting that a word without a flag is; may be empty
  std::span<const std::string_view> examples;
  // Runs it; prints its product, returns how it ended. A failure is returned as a Status
  // and printed by main, so that all commands say it in the same way.
  Result<Exit> (*run)(const Config& config);
};

std::span<const Command> commands() noexcept;

Result<Exit> run_plan(const Config& config);
Result<Exit> run_generate(const Config& config);
Result<Exit> run_replay_alloc(const Config& config);
Result<Exit> run_replay_cache(const Config& config);
Result<Exit> run_top(const Config& config);
Result<Exit> run_report(const Config& config);
Result<Exit> run_snapshot(const Config& config);
Result<Exit> run_leaks(const Config& config);
Result<Exit> run_diff(const Config& config);

}  // namespace forebay::app
