#include "trace/reader.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "forebay/config.hpp"

namespace forebay::trace {
namespace {

constexpr std::chrono::hours kDay{24};
constexpr std::chrono::seconds kLongest{1'000'000'000};

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t") == std::string_view::npos;
}

}  // namespace

std::string_view to_string(Format format) noexcept {
  return format == Format::rmm_csv ? "RMM CSV" : "JSON lines";
}

Status not_allowed(std::string_view key, std::string_view value, std::string_view allowed) {
  return {Code::invalid_argument,
          fmt::format("{}: {} is not allowed; allowed: {}", key,
                      value.empty() ? "an empty value" : printable(value), allowed)};
}

Result<LineReader> LineReader::open(const std::filesystem::path& file) {
  auto input = open_input(file, FileKind::regular);
  if (!input.ok()) return input.status();
  return LineReader{printable(file.string()), Window{std::move(*input), kLineWindow}};
}

LineReader LineReader::over(std::string_view text, std::string name) {
  return {std::move(name), Window{input_over(text), kLineWindow}};
}

Status LineReader::error(Code code, std::string_view why) const {
  if (number_ == 0) return {code, fmt::format("{}: {}", name_, why)};
  return {code, fmt::format("{}:{}: {}", name_, number_, why)};
}

Result<bool> LineReader::next(std::string_view& line) {
  for (;;) {
    const std::string_view rest = window_.rest();
    const auto length = rest.find('\n');
    const bool whole = length != std::string_view::npos;
    if (std::min(length, rest.size()) > kMaxLine) {
      ++number_;
      return error(Code::invalid_argument, fmt::format("a line of more than {} bytes", kMaxLine));
    }
    if (whole || (window_.at_end() && !rest.empty())) {
      line = rest.substr(0, length);
      window_.skip(line.size() + (whole ? 1 : 0));
      if (line.ends_with('\r')) line.remove_suffix(1);
      ++number_;
      return true;
    }
    if (window_.at_end()) return false;
    if (const auto more = window_.refill(); !more.ok()) {
      return error(more.status().code(), more.status().message());
    }
  }
}

Result<Reader> Reader::begin(LineReader lines) {
  Reader reader{std::move(lines)};
  if (Status status = reader.detect(); !status.ok()) return status;
  return reader;
}

Result<Reader> Reader::open(const std::filesystem::path& file) {
  auto lines = LineReader::open(file);
  if (!lines.ok()) return lines.status();
  return begin(std::move(*lines));
}

Result<Reader> Reader::over(std::string_view text, std::string name) {
  return begin(LineReader::over(text, std::move(name)));
}

Status Reader::detect() {
  std::string_view line;
  for (bool first = true;; first = false) {
    const auto more = lines_.next(line);
    if (!more.ok()) return more.status();
    if (!*more) return error("the trace is empty; allowed: at least one allocation");
    if (first && line.starts_with(kByteOrderMark)) line.remove_prefix(kByteOrderMark.size());
    if (!is_blank(line)) break;
  }
  if (line == kRmmHeader) {
    format_ = Format::rmm_csv;
    return {};
  }
  if (line[line.find_first_not_of(" \t")] != '{') {
    return error(fmt::format("{} begins no trace; allowed: the header {} or a JSON object",
                             printable(line), kRmmHeader));
  }
  first_ = line;
  has_first_ = true;
  return {};
}

// Half a day is more than any line is late, so that a larger step has crossed midnight: forward
// if the clock fell, back, for a line written late, if it rose.
void Reader::count_days(Duration step) {
  if (step < -kDay / 2) days_ += kDay;
  if (step > kDay / 2) days_ -= kDay;
}

Result<Duration> Reader::since_start(Duration written) {
  if (!std::exchange(started_, true)) first_written_ = last_written_ = written;
  if (format_ == Format::rmm_csv) count_days(written - last_written_);
  last_written_ = written;
  const Duration passed = days_ + written - first_written_;
  if (passed > kLongest || passed < -kLongest) {
    return error(fmt::format("{}: {} s from the first line; allowed: at most {} s, 31 years",
                             format_ == Format::rmm_csv ? "Time" : "t",
                             std::chrono::duration_cast<std::chrono::seconds>(passed).count(),
                             kLongest.count()));
  }
  now_ = std::max(now_, passed);
  return now_;
}

Result<bool> Reader::next(Record& record) {
  std::string_view line = first_;
  if (!std::exchange(has_first_, false)) {
    do {
      auto more = lines_.next(line);
      if (!more.ok() || !*more) return more;
    } while (is_blank(line));
  }
  auto parsed = format_ == Format::rmm_csv ? parse_rmm_line(line) : parse_json_line(line);
  if (!parsed.ok()) return error(parsed.status().message());
  record = *parsed;
  const auto time = parsed->has_time ? since_start(parsed->time) : now_;
  if (!time.ok()) return time.status();
  record.time = *time;
  return true;
}

}  // namespace forebay::trace
