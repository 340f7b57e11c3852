// Reads a trace of cache requests front to back in bounded memory, whatever its size.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "trace/cache_record.hpp"
#include "trace/reader.hpp"

namespace forebay::trace {

class CacheReader {
 public:
  struct Options {
    bool ignore_size = false;  // each object counts 1
  };

  // "-" is standard input. Errors: those of open_input and unpacked; invalid_argument if the
  // beginning is of no format.
  static Result<CacheReader> open(const std::filesystem::path& file, Options options);
  static Result<CacheReader> over(std::string_view text, std::string name, Options options);

  // Replaces `batch` with the next requests, at most `most` and as many if there are; zero at
  // the end. Requests of no bytes are left out, as libCacheSim does. Errors: io_error;
  // corrupt_data; invalid_argument as "name:line: key: …" or "name: record 7: key: …".
  Result<std::size_t> fill(std::vector<CacheRequest>& batch, std::size_t most);

  CacheFormat format() const noexcept { return format_; }
  const std::string& name() const noexcept { return name_; }  // as in errors
  std::uint64_t left_out() const noexcept { return left_out_; }
  double share() const noexcept;

 private:
  CacheReader(std::string name, Options options) : name_(std::move(name)), options_(options) {}
  static Result<CacheReader> begin(std::unique_ptr<Input> input, std::string name, Options options);
  Status detect(Window window);
  Status read_header();
  // The next line that is not blank; false at the end.
  Result<bool> next_line(std::string_view& line);
  Status fill_lines(std::vector<CacheRequest>& batch, std::size_t most);
  Status fill_records(std::vector<CacheRequest>& batch, std::size_t most);
  // Whether it could be counted: not if the sum of all bytes overflows.
  bool take(CacheRequest request, std::vector<CacheRequest>& batch);
  Status take_records(std::string_view records, std::vector<CacheRequest>& batch);
  Status record_error(const Status& why) const;

  std::string name_;
  Options options_;
  CacheFormat format_ = CacheFormat::csv;
  CsvColumns columns_;
  std::optional<LineReader> lines_;  // of a text,
  std::optional<Window> records_;    // or of binary records
  std::string first_;                // a line that was read to tell the format
  bool has_first_ = false;
  std::uint64_t record_ = 0;  // records read
  std::uint64_t left_out_ = 0;
  std::uint64_t bytes_ = 0;  // of all requests
};

}  // namespace forebay::trace
