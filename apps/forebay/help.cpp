#include "help.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace forebay::app {
namespace {

constexpr std::size_t kIndent = 2;
constexpr std::size_t kColumn = 34;  // where descriptions begin
constexpr std::string_view kExitCodes =
    "exit codes\n"
    "  0 done   1 expectation failed   2 bad input   3 memory refused   130 interrupted\n";

// Breaks a text at spaces; all lines but the first start at `column`.
std::string wrapped(std::string_view text, std::size_t column, std::size_t width) {
  const std::size_t room = std::max<std::size_t>(width, column + 20) - column;
  std::string result;
  while (text.size() > room) {
    std::size_t end = text.rfind(' ', room);
    if (end == std::string_view::npos || end == 0) end = std::min(text.find(' '), text.size());
    result += text.substr(0, end);
    if (end == text.size()) return result;
    result += fmt::format("\n{:{}}", "", column);
    text.remove_prefix(end + 1);
  }
  return result + std::string{text};
}

std::string row(std::string_view name, std::string_view text, std::size_t width) {
  std::string line = fmt::format("{:{}}{}", "", kIndent, name);
  // A name that is too long for its column has the description below it.
  line += line.size() + 2 > kColumn ? fmt::format("\n{:{}}", "", kColumn)
                                    : std::string(kColumn - line.size(), ' ');
  return line + wrapped(text, kColumn, width) + "\n";
}

std::string option_row(const ConfigOption& option, std::size_t width) {
  const std::string name = option.argument.empty()
                               ? std::string{option.flag}
                               : fmt::format("{} {}", option.flag, option.argument);
  std::string text{option.help};
  if (option.kind == OptionKind::choice) {
    text += fmt::format(": {}", fmt::join(option.choices, ", "));
  }
  const bool shows_default = !option.default_text.empty() && option.kind != OptionKind::toggle;
  if (shows_default) text += fmt::format(" (default {})", option.default_text);
  return row(name, text, width);
}

std::string examples_of(const Command& command) {
  std::string text;
  for (const std::string_view example : command.examples) text += fmt::format("  {}\n", example);
  return text;
}

std::string commands_of(const ConfigOption& option) {
  std::vector<std::string_view> names;
  for (const Command& command : commands()) {
    if ((option.commands & command.bit) != 0) names.push_back(command.name);
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

std::string program_help(std::size_t width) {
  std::string text =
      "forebay: a memory runtime for long-running AI processes\n\n"
      "usage\n  forebay COMMAND [FLAGS]\n\ncommands\n";
  for (const Command& command : commands()) text += row(command.name, command.summary, width);
  text += "\nflags\n";
  text += row("-h, --help", "this text, or a command's: forebay plan --help", width);
  text += row("--version", "the version of this program", width);
  text += "\nexamples\n";
  for (const Command& command : commands()) text += fmt::format("  {}\n", command.examples[0]);
  return text + "\n" + std::string{kExitCodes};
}

std::string group_help(std::string_view group, std::size_t width) {
  std::string text = fmt::format("usage\n  forebay {} COMMAND [FLAGS]\n\ncommands\n", group);
  std::string examples;
  for (const Command& command : commands()) {
    if (!command.name.starts_with(fmt::format("{} ", group))) continue;
    text += row(command.name, command.summary, width);
    examples += fmt::format("  {}\n", command.examples[0]);
  }
  return fmt::format("{}\nexamples\n{}\n{}", text, examples, kExitCodes);
}

std::string command_help(const Command& command, std::size_t width) {
  std::string text =
      fmt::format("forebay {}: {}\n\nusage\n  forebay {} {}\n\nexamples\n{}", command.name,
                  command.summary, command.name, command.usage, examples_of(command));
  std::string_view section;
  for (const ConfigOption& option : config_schema()) {
    if ((option.commands & command.bit) == 0) continue;
    if (option.section != section) text += fmt::format("\n{}\n", section = option.section);
    text += option_row(option, width);
  }
  text += "\nothers\n";
  text += row("--config FILE",
              "read settings from a YAML or JSON file, as 'max_memory_gb: 2'; flags win over it",
              width);
  text += row("-h, --help", "this text", width);
  return text + "\n" + std::string{kExitCodes};
}

std::string settings_markdown() {
  std::string text =
      "| key | flag | commands | default | allowed | meaning |\n|---|---|---|---|---|---|\n";
  for (const ConfigOption& option : config_schema()) {
    text += fmt::format("| `{}` | `{}` | {} | {} | {} | {} |\n", option.key, option.flag,
                        commands_of(option),
                        option.default_text.empty() ? "" : fmt::format("`{}`", option.default_text),
                        allowed_values(option), option.help);
  }
  return text;
}

}  // namespace forebay::app
