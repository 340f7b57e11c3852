#include "snapshot_source.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "telemetry/attach.hpp"
#include "telemetry/request_protocol.hpp"
#include "telemetry/snapshot_json.hpp"
#include "terminal.hpp"

namespace forebay::app {
namespace {

bool is_number(const std::string& text) {
  return std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

Result<Snapshot> ask(const Config& config, const std::string& source, const std::string& name) {
  std::int64_t pid = 0;
  const auto [end, error] = std::from_chars(source.data(), source.data() + source.size(), pid);
  if (error != std::errc{} || pid <= 0) {
    return Status{Code::invalid_argument,
                  fmt::format("{}: is no process; allowed: a number of a process, or a file",
                              printable(source))};
  }
  const Result<std::string> answer = detail::ask_published(
      config.publish_directory, pid, detail::kSnapshotRequest,
      {.on_wait = [pid] { write_err(fmt::format("forebay: waiting for process {}\n", pid)); }});
  if (!answer.ok()) return answer.status();
  return detail::parse_snapshot(*answer, name);
}

}  // namespace

Result<NamedSnapshot> snapshot_from(const Config& config, const std::string& source) {
  const bool asks = is_number(source);
  std::string name = asks ? fmt::format("process {}", source) : source;
  Result<Snapshot> snapshot = asks ? ask(config, source, name) : read_snapshot(source);
  if (!snapshot.ok()) return snapshot.status();
  return NamedSnapshot{std::move(name), std::move(*snapshot)};
}

}  // namespace forebay::app
