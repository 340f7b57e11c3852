// Help texts, out of the commands and the schema.
#pragma once

#include <string>

#include "command.hpp"

namespace forebay::app {

// `width`: columns that a line may take, at least 40.
std::string program_help(std::size_t width);
// Of a group of commands: "replay".
std::string group_help(std::string_view group, std::size_t width);
std::string command_help(const Command& command, std::size_t width);

// The settings of the schema as a Markdown table, for the documentation.
std::string settings_markdown();

}  // namespace forebay::app
