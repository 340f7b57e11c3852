// Reads a trace front to back in bounded memory, whatever its size.
#pragma once

#include <filesystem>
#include <string>

#include "trace/input.hpp"
#include "trace/record.hpp"

namespace forebay::trace {

// A line longer than this is no line of a trace.
inline constexpr std::size_t kMaxLine = 64 << 10;
inline constexpr std::size_t kLineWindow = 4 * kMaxLine;
inline constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// Lines of a file or of a text, through one window.
class LineReader {
 public:
  // Errors: not_found, io_error; invalid_argument for what is no regular file (a trace of
  // allocations is read several times).
  static Result<LineReader> open(const std::filesystem::path& file);
  // Over a text that must live as long; `name` is its name in errors.
  static LineReader over(std::string_view text, std::string name);
  // `name` as errors are to have it.
  LineReader(std::string name, Window window)
      : name_(std::move(name)), window_(std::move(window)) {}

  // The next line without its end ("\n", "\r\n", or none at the end of the file). False at
  // the end. The line is valid until the next call. Errors: io_error, corrupt_data;
  // invalid_argument (too long).
  Result<bool> next(std::string_view& line);
  // An error at the line that next() gave last: "name:line: why".
  Status error(Code code, std::string_view why) const;
  std::uint64_t line_number() const noexcept { return number_; }  // from 1
  double share() const noexcept { return window_.share(); }       // read so far, 0..1

 private:
  std::string name_;
  Window window_;
  std::uint64_t number_ = 0;
};

// Records of a trace in either format.
class Reader {
 public:
  // Opens a trace and tells its format. Errors: those of LineReader; invalid_argument if the
  // first line is of neither format.
  static Result<Reader> open(const std::filesystem::path& file);
  static Result<Reader> over(std::string_view text, std::string name);

  Format format() const noexcept { return format_; }
  // False at the end. A record's time is since the first that has one, and never goes back: a
  // log that passes midnight goes on, and lines that several threads wrote out of order count
  // as simultaneous. Errors: invalid_argument as "name:line: key: …"; io_error.
  Result<bool> next(Record& record);
  Status error(std::string_view why) const { return lines_.error(Code::invalid_argument, why); }
  double share() const noexcept { return lines_.share(); }

 private:
  explicit Reader(LineReader lines) : lines_(std::move(lines)) {}
  static Result<Reader> begin(LineReader lines);
  Status detect();
  void count_days(Duration step);
  Result<Duration> since_start(Duration written);

  LineReader lines_;
  Format format_ = Format::json_lines;
  std::string first_;  // a JSON line that was read to tell the format
  bool has_first_ = false;
  bool started_ = false;
  Duration days_{}, first_written_{}, last_written_{}, now_{};
};

}  // namespace forebay::trace
