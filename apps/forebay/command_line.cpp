#include "command_line.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>

namespace forebay::app {
namespace {

constexpr std::string_view kConfigAllowed = "the path of a YAML or JSON file";

Status bad(std::string message) { return {Code::invalid_argument, std::move(message)}; }

// "; did you mean 'X'?" or the way to the list.
std::string hint(std::string_view word, const std::vector<std::string_view>& candidates,
                 std::string_view help_of) {
  if (const auto match = closest_match(word, candidates)) {
    return fmt::format("; did you mean '{}'?", *match);
  }
  return fmt::format("; see 'forebay{}{} --help'", help_of.empty() ? "" : " ", help_of);
}

// The group of "replay alloc" is "replay"; of "plan", none.
std::string_view group_of(const Command& command) {
  const auto blank = command.name.find(' ');
  return blank == std::string_view::npos ? "" : command.name.substr(0, blank);
}

Status unknown_command(std::string_view word) {
  std::vector<std::string_view> names;
  for (const Command& command : commands()) {
    names.push_back(command.name);
    if (const auto group = group_of(command); !group.empty()) names.push_back(group);
  }
  return bad(fmt::format("{}: unknown command{}", printable(word), hint(word, names, "")));
}

Status unknown_argument(const Command* command, const std::string& argument) {
  const std::string_view word = std::string_view{argument}.substr(0, argument.find('='));
  if (!word.starts_with('-')) {
    if (command == nullptr) return unknown_command(word);
    return bad(fmt::format("{}: not expected; allowed: flags, see 'forebay {} --help'",
                           printable(word), command->name));
  }
  std::vector<std::string_view> flags{"--help"};
  if (command == nullptr) {
    flags.push_back("--version");
    return bad(fmt::format("{}: unknown flag{}", printable(word), hint(word, flags, "")));
  }
  flags.push_back("--config");
  for (const ConfigOption& option : config_schema()) {
    if ((option.commands & command->bit) != 0) {
      flags.push_back(option.flag);
    } else if (option.flag == word) {
      return bad(fmt::format("{}: not a flag of '{}'; see 'forebay {} --help'", word, command->name,
                             command->name));
    }
  }
  return bad(fmt::format("{}: unknown flag{}", printable(word), hint(word, flags, command->name)));
}

// One command with its flags, as CLI11 sees them.
struct BoundCommand {
  const Command* command = nullptr;
  CLI::App* app = nullptr;
  CLI::Option* help = nullptr;
  CLI::Option* config = nullptr;
  std::vector<std::pair<const ConfigOption*, CLI::Option*>> options;
};

// A flag that takes exactly one value each time it is given, whatever the value looks
// like; how often it may be given is the configuration's business.
CLI::Option* add_valued(CLI::App& app, std::string_view flag) {
  return app.add_option(std::string{flag})
      ->type_size(1)
      ->expected(1, CLI::detail::expected_max_vector_size)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->allow_extra_args(false);
}

struct BoundGroup {
  std::string name;
  CLI::App* app = nullptr;
  CLI::Option* help = nullptr;
};

// A subcommand that takes what comes and has no help of CLI11's. Behind one command's name,
// another's is an argument like any other.
CLI::App* add_plain(CLI::App& app, std::string_view name) {
  CLI::App* const added = app.add_subcommand(std::string{name});
  added->set_help_flag();
  added->allow_extras();
  app.require_subcommand(0, 1);
  return added;
}

// Where a command is to be added: the program, or its group, which is made if it is new.
CLI::App& parent_of(CLI::App& app, const Command& command, std::vector<BoundGroup>& groups) {
  const std::string_view name = group_of(command);
  if (name.empty()) return app;
  const auto known = std::ranges::find(groups, name, &BoundGroup::name);
  if (known != groups.end()) return *known->app;
  CLI::App* const added = add_plain(app, name);
  groups.push_back({std::string{name}, added, added->add_flag("-h,--help")});
  return *added;
}

BoundCommand bind(CLI::App& app, const Command& command, std::vector<BoundGroup>& groups) {
  BoundCommand bound;
  bound.command = &command;
  bound.app =
      add_plain(parent_of(app, command, groups), command.name.substr(command.name.find(' ') + 1));
  bound.help = bound.app->add_flag("-h,--help");
  bound.config = add_valued(*bound.app, "--config");
  for (const ConfigOption& option : config_schema()) {
    if ((option.commands & command.bit) == 0) continue;
    CLI::Option* flag = option.kind == OptionKind::toggle
                            ? bound.app->add_flag(std::string{option.flag})
                            : add_valued(*bound.app, option.flag);
    bound.options.emplace_back(&option, flag);
  }
  return bound;
}

// CLI11 takes the word after "--flag=" for the flag's value; refuse before it does.
Status refuse_empty_values(const std::vector<std::string>& arguments) {
  for (const ConfigOption& option : config_schema()) {
    const std::string empty = fmt::format("{}=", option.flag);
    if (std::ranges::find(arguments, empty) != arguments.end()) {
      return bad(fmt::format("{}: an empty value is not allowed; allowed: {}", option.flag,
                             allowed_values(option)));
    }
  }
  return {};
}

// CLI11 gives a valued flag the next word, so that a value can only be missing at the end.
Status missing_value(const std::vector<std::string>& arguments, const CLI::ParseError& error) {
  const std::string_view last = arguments.empty() ? "" : std::string_view{arguments.back()};
  if (last == "--config")
    return bad(fmt::format("--config: no value given; allowed: {}", kConfigAllowed));
  for (const ConfigOption& option : config_schema()) {
    if (option.flag != last) continue;
    return bad(fmt::format("{}: no value given; allowed: {}", last, allowed_values(option)));
  }
  return bad(printable(error.what()));
}

Result<CommandLine> collect(const BoundCommand& bound) {
  CommandLine line{.wants = CommandLine::Wants::run,
                   .command = bound.command,
                   .group = {},
                   .config_file = {},
                   .flags = {}};
  if (bound.help->count() > 0) {
    line.wants = CommandLine::Wants::help;
    return line;
  }
  for (const auto& [option, flag] : bound.options) {
    const std::vector<std::string> values = flag->results();
    // A toggle given twice says the same twice; the last one counts.
    const std::size_t first =
        option->kind == OptionKind::toggle && !values.empty() ? values.size() - 1 : 0;
    for (std::size_t i = first; i < values.size(); ++i) {
      line.flags.push_back({std::string{option->key}, values[i]});
    }
  }
  for (const std::string& extra : bound.app->remaining()) {
    const bool is_word = !extra.empty() && extra[0] != '-';
    const bool is_input = extra == "-" && bound.command->bit == kReplayCache;
    if (!bound.command->operand.empty() && (is_word || is_input)) {
      line.flags.push_back({std::string{bound.command->operand}, extra});
      continue;
    }
    const bool reads_input = extra == "-" && bound.command->bit == kGenerate;
    if (!reads_input) return unknown_argument(bound.command, extra);
    line.flags.push_back({"prompt_file", "-"});
  }
  const std::vector<std::string> files = bound.config->results();
  if (files.size() > 1) return bad("--config: given twice; allowed: once");
  if (!files.empty() && files[0].empty()) {
    return bad(fmt::format("--config: an empty value is not allowed; allowed: {}", kConfigAllowed));
  }
  if (!files.empty()) line.config_file = files[0];
  return line;
}

// A group's name without a command of it: its help, or what is wrong.
Result<CommandLine> collect(const BoundGroup& group) {
  if (group.help->count() > 0) {
    return CommandLine{CommandLine::Wants::help, nullptr, group.name, {}, {}};
  }
  if (const auto extras = group.app->remaining(); !extras.empty()) {
    if (extras[0].starts_with('-')) {
      return bad(fmt::format("{}: unknown flag; see 'forebay {} --help'", printable(extras[0]),
                             group.name));
    }
    return unknown_command(fmt::format("{} {}", group.name, extras[0]));
  }
  return bad(fmt::format("{}: which one? See 'forebay {} --help'", group.name, group.name));
}

}  // namespace

Result<CommandLine> parse_command_line(const std::vector<std::string>& arguments) {
  CLI::App app;
  app.set_help_flag();
  app.allow_extras();
  const CLI::Option* help = app.add_flag("-h,--help");
  const CLI::Option* version = app.add_flag("--version");
  std::vector<BoundGroup> groups;
  std::vector<BoundCommand> bound;
  for (const Command& command : commands()) bound.push_back(bind(app, command, groups));

  if (Status status = refuse_empty_values(arguments); !status.ok()) return status;
  try {
    app.parse(std::vector<std::string>{arguments.rbegin(), arguments.rend()});
  } catch (const CLI::ParseError& error) {
    return missing_value(arguments, error);
  }
  if (version->count() > 0) return CommandLine{CommandLine::Wants::version, nullptr, {}, {}, {}};
  if (help->count() > 0) return CommandLine{CommandLine::Wants::help, nullptr, {}, {}, {}};
  if (const auto extras = app.remaining(); !extras.empty())
    return unknown_argument(nullptr, extras[0]);
  const auto given =
      std::ranges::find_if(bound, [](const BoundCommand& b) { return b.app->parsed(); });
  const auto group =
      std::ranges::find_if(groups, [](const BoundGroup& g) { return g.app->parsed(); });
  if (given == bound.end() && group != groups.end()) return collect(*group);
  if (given == bound.end()) return bad("no command given; see 'forebay --help'");
  return collect(*given);
}

}  // namespace forebay::app
