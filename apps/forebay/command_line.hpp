// From argv to a command and its settings.
#pragma once

#include <string>
#include <vector>

#include "command.hpp"

namespace forebay::app {

struct CommandLine {
  enum class Wants { run, help, version };
  Wants wants = Wants::run;
  const Command* command = nullptr;  // null: help or version of the whole program,
  std::string group;                 // or help of this group of commands
  std::string config_file;           // of --config; empty: none
  std::vector<FlagValue> flags;      // in the order of the schema
};

// Error: invalid_argument in one line ("--max-memroy-gb: unknown flag; did you mean …").
// `arguments` are argv without the program's name.
Result<CommandLine> parse_command_line(const std::vector<std::string>& arguments);

}  // namespace forebay::app
