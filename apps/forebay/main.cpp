// The program `forebay`: one verb a command. Standard output carries the product, standard
// error everything else.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <exception>
#include <new>

#include "command_line.hpp"
#include "engine.hpp"
#include "help.hpp"
#include "json_output.hpp"
#include "report.hpp"
#include "terminal.hpp"

namespace forebay::app {
namespace {

// A reader that is gone (forebay … | head) has all it wanted: that is no failure.
Exit exit_after_print(const Status& printed) {
  if (printed.ok() || printed.code() == Code::interrupted) return Exit::done;
  write_err(failure_report(printed, Painter::of(STDERR_FILENO)));
  return Exit::bad_input;
}

Exit fail(const Status& failure, bool json) {
  if (json) static_cast<void>(write_out(printed(json_of(failure))));
  write_err(failure_report(failure, Painter::of(STDERR_FILENO)));
  return exit_of(failure);
}

Exit run(const std::vector<std::string>& arguments) {
  // Asked before anything is parsed: a bad flag is to be answered in JSON too.
  const bool asks_json = std::ranges::any_of(arguments, [](const std::string& argument) {
    return argument == "--json" || argument == "--json=true";
  });
  const Result<CommandLine> line = parse_command_line(arguments);
  if (!line.ok()) return fail(line.status(), asks_json);
  if (line->wants == CommandLine::Wants::version) {
    return exit_after_print(
        write_out(fmt::format("forebay {} (engine: {})\n", FOREBAY_VERSION, engine_version())));
  }
  if (line->wants == CommandLine::Wants::help) {
    const std::size_t width = std::min<std::size_t>(terminal_width(STDOUT_FILENO), 110);
    return exit_after_print(write_out(line->command != nullptr ? command_help(*line->command, width)
                                      : line->group.empty()    ? program_help(width)
                                                               : group_help(line->group, width)));
  }
  const Result<Config> config = load_config(line->config_file, line->flags);
  if (!config.ok()) return fail(config.status(), asks_json);
  const Result<Exit> exit = line->command->run(*config);
  return exit.ok() ? *exit : fail(exit.status(), config->json);
}

}  // namespace
}  // namespace forebay::app

int main(int argc, char** argv) {
  using namespace forebay::app;
  std::signal(SIGPIPE, SIG_IGN);  // a write that fails is answered where it is made
  try {
    return static_cast<int>(run({argv + 1, argv + argc}));
  } catch (const std::bad_alloc&) {
    write_err("forebay: the system has no memory left\n");
    return static_cast<int>(Exit::memory_refused);
  } catch (const std::exception& error) {
    write_err(fmt::format("forebay: {}\n", forebay::printable(error.what())));
    return static_cast<int>(Exit::bad_input);
  }
}
