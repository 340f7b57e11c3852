#include <fmt/format.h>
#include <unistd.h>

#include "command.hpp"
#include "telemetry/attach.hpp"
#include "telemetry/publish_directory.hpp"
#include "terminal.hpp"
#include "top_output.hpp"
#include "top_screen.hpp"
#include "top_terminal.hpp"

namespace forebay::app {
namespace {

using detail::PublishedView;

// A reader that is gone (forebay top --once | head) has all it wanted.
Result<Exit> printed_as(const std::string& text) {
  const Status status = write_out(text);
  if (!status.ok() && status.code() != Code::interrupted) return status;
  return Exit::done;
}

Result<Exit> print_view(const PublishedView& view, bool json) {
  const Duration age = age_of(view, std::chrono::system_clock::now());
  if (json) return printed_as(printed(json_of(view, age)));
  const Painter paint = Painter::of(STDOUT_FILENO);
  std::string text;
  for (const ScreenLine& line : top_lines(view, {.age = age})) {
    text += (line.style ? paint(*line.style, line.text) : line.text) + "\n";
  }
  return printed_as(text);
}

// More than one, and none was chosen.
Result<Exit> print_processes(const std::vector<PublishedView>& views, bool json) {
  if (json) {
    Json list = Json::array();
    for (const PublishedView& view : views) {
      list.push_back({{"pid", view.pid},
                      {"program", view.program},
                      {"resident_bytes", view.resident.count()},
                      {"used_bytes", view.used.count()},
                      {"line_bytes", view.line.is_unlimited() ? Json{} : Json(view.line.count())}});
    }
    return printed_as(printed({{"processes", std::move(list)}}));
  }
  using enum Table::Align;
  Table table{{right, left, right, right, right}};
  table.add({"PID", "program", "resident", "used", "line"});
  for (const PublishedView& view : views) {
    table.add({std::to_string(view.pid), view.program, to_string(view.resident),
               to_string(view.used), view.line.is_unlimited() ? "-" : to_string(view.line)});
  }
  return printed_as(
      fmt::format("Several processes publish; give the PID of one.\n{}", table.text()));
}

Status none_publish(const Config& config) {
  return {Code::not_found,
          fmt::format("{}: no process publishes its statistics there; in C++, "
                      "forebay::Publisher::start() does",
                      printable(detail::publish_directory_path(config.publish_directory)))};
}

}  // namespace

Result<Exit> run_top(const Config& config) {
  const std::string& directory = config.publish_directory;
  std::int64_t pid = config.pid.value_or(0);
  if (pid == 0) {
    const auto found = detail::published_processes(directory);
    if (!found.ok()) return found.status();
    if (found->empty()) return none_publish(config);
    if (found->size() > 1) return print_processes(*found, config.json);
    pid = found->front().pid;
  }
  const LookAtProcess look = [&] { return detail::read_published(directory, pid); };
  const auto view = look();
  if (!view.ok()) return view.status();
  const bool full_screen =
      !config.once && !config.json && is_terminal(STDOUT_FILENO) && ::isatty(STDIN_FILENO) != 0;
  if (!full_screen) return print_view(*view, config.json);
  return show_full_screen(*view, look, std::chrono::milliseconds{config.interval});
}

}  // namespace forebay::app
