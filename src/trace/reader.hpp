// Reads a trace front to back in bounded memory, whatever its size.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "trace/record.hpp"

namespace forebay::trace {

// A line longer than this is no line of a trace.
inline constexpr std::size_t kMaxLine = 64 << 10;

// Lines of a file or of a text, through one window.
class LineReader {
 public:
  LineReader(LineReader&&) noexcept;
  LineReader& operator=(LineReader&&) = delete;
  ~LineReader();
  // Errors: not_found, io_error; invalid_argument for what is no regular file (a trace is
  // read several times).
  static Result<LineReader> open(const std::filesystem::path& file);
  // Over a text that must live as long; `name` is its name in errors.
  static LineReader over(std::string_view text, std::string name);

  // The next line without its end ("\n", "\r\n", or none at the end of the file). False at
  // the end. The line is valid until the next call. Errors: io_error; invalid_argument (too
  // long).
  Result<bool> next(std::string_view& line);
  // An error at the line that next() gave last: "name:line: why".
  Status error(Code code, std::string_view why) const;
  std::uint64_t line_number() const noexcept { return number_; }  // from 1
  double share() const noexcept;                                  // read so far, 0..1

 private:
  LineReader(std::string name, int descriptor, std::string_view text, std::uint64_t size);
  // Brings more bytes behind those that are there. False at the end.
  Result<bool> refill();
  Result<std::size_t> read_some(char* to, std::size_t most);

  std::string name_;
  int descriptor_;         // -1: a text
  std::string_view text_;  // what of it was not read yet
  std::uint64_t size_;
  std::uint64_t read_ = 0;
  std::uint64_t number_ = 0;
  std::vector<char> window_;
  std::size_t begin_ = 0, end_ = 0;  // bytes of the window that were not given yet
  bool at_end_ = false;
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
