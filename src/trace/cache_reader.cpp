#include "trace/cache_reader.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "forebay/config.hpp"

namespace forebay::trace {
namespace {

constexpr std::size_t kWindow = kLineWindow;
constexpr std::size_t kHead = 4096;  // bytes that tell the format
constexpr std::uint64_t kMostBytes = 1ULL << 63;

// A text has no control characters but blanks and line ends, and no byte 0xFF, which UTF-8 has
// not. A record of oracleGeneral has one or the other: it ends with -1, or with the upper bytes of
// the number of a request.
bool is_text(std::string_view head) {
  return std::ranges::none_of(head, [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte == 0x7F || byte == 0xFF || (byte < 0x20 && c != '\t' && c != '\n' && c != '\r');
  });
}

Status overflow(std::uint64_t bytes) {
  return {Code::invalid_argument,
          fmt::format("size: {} bytes make those of all requests overflow; allowed: a sum of at "
                      "most 2^63",
                      bytes)};
}

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t") == std::string_view::npos;
}

}  // namespace

Result<CacheReader> CacheReader::open(const std::filesystem::path& file, Options options) {
  if (file == "-") return begin(standard_input(), "standard input", options);
  auto input = open_input(file, FileKind::any_stream);
  if (!input.ok()) return input.status();
  return begin(std::move(*input), printable(file.string()), options);
}

Result<CacheReader> CacheReader::over(std::string_view text, std::string name, Options options) {
  return begin(input_over(text), std::move(name), options);
}

Result<CacheReader> CacheReader::begin(std::unique_ptr<Input> input, std::string name,
                                       Options options) {
  auto plain = unpacked(std::move(input), name);
  if (!plain.ok()) return plain.status().with_context(name);
  CacheReader reader{std::move(name), options};
  if (Status status = reader.detect(Window{std::move(*plain), kWindow}); !status.ok()) {
    return status;
  }
  return reader;
}

Status CacheReader::detect(Window window) {
  while (!window.at_end() && window.rest().size() < kHead) {
    if (const auto more = window.refill(); !more.ok()) return more.status().with_context(name_);
  }
  const std::string_view head = window.rest().substr(0, kHead);
  if (head.empty()) {
    return {Code::invalid_argument,
            fmt::format("{}: the trace is empty; allowed: at least one request", name_)};
  }
  if (name_.find("oracleGeneral") != std::string::npos || !is_text(head)) {
    format_ = CacheFormat::oracle_general;
    records_ = std::move(window);
    return {};
  }
  if (head.starts_with(kByteOrderMark)) window.skip(kByteOrderMark.size());
  lines_.emplace(name_, std::move(window));
  return read_header();
}

Status CacheReader::read_header() {
  std::string_view line;
  const auto more = next_line(line);
  if (!more.ok()) return more.status();
  if (!*more) return {};
  first_ = line;
  has_first_ = true;
  if (line[line.find_first_not_of(" \t")] == '{') {
    format_ = CacheFormat::json_lines;
    return {};
  }
  if (!CsvColumns::is_header(line)) return {};
  has_first_ = false;
  auto columns = CsvColumns::of_header(line);
  if (!columns.ok()) return lines_->error(Code::invalid_argument, columns.status().message());
  columns_ = *columns;
  return {};
}

Result<bool> CacheReader::next_line(std::string_view& line) {
  if (std::exchange(has_first_, false)) {
    line = first_;
    return true;
  }
  for (;;) {
    auto more = lines_->next(line);
    if (!more.ok() || !*more || !is_blank(line)) return more;
  }
}

double CacheReader::share() const noexcept {
  return lines_ ? lines_->share() : records_ ? records_->share() : 1;
}

bool CacheReader::take(CacheRequest request, std::vector<CacheRequest>& batch) {
  if (options_.ignore_size) request.bytes = 1;
  if (request.bytes == 0) {
    ++left_out_;
    return true;
  }
  if (request.bytes > kMostBytes - bytes_) return false;
  bytes_ += request.bytes;
  batch.push_back(request);
  return true;
}

Status CacheReader::fill_lines(std::vector<CacheRequest>& batch, std::size_t most) {
  std::string_view line;
  while (batch.size() < most) {
    const auto more = next_line(line);
    if (!more.ok()) return more.status();
    if (!*more) return {};
    const auto request =
        format_ == CacheFormat::json_lines ? parse_cache_json_line(line) : columns_.parse(line);
    const Status status = !request.ok()           ? request.status()
                          : take(*request, batch) ? Status{}
                                                  : overflow(request->bytes);
    if (!status.ok()) return lines_->error(status.code(), status.message());
  }
  return {};
}

Status CacheReader::record_error(const Status& why) const {
  return {why.code(), fmt::format("{}: record {}: {}", name_, record_, why.message())};
}

Status CacheReader::take_records(std::string_view records, std::vector<CacheRequest>& batch) {
  for (; !records.empty(); records.remove_prefix(OracleRecord::kBytes)) {
    const OracleRecord record = OracleRecord::at(records.data());
    ++record_;
    if (!record.is_valid()) return record_error(record.refusal());
    if (!take({.key = record.key, .bytes = record.bytes}, batch)) {
      return record_error(overflow(record.bytes));
    }
  }
  return {};
}

Status CacheReader::fill_records(std::vector<CacheRequest>& batch, std::size_t most) {
  while (batch.size() < most) {
    const std::string_view rest = records_->rest();
    if (rest.size() < OracleRecord::kBytes) {
      const auto more = records_->refill();
      if (!more.ok()) return more.status().with_context(name_);
      if (*more) continue;
      if (rest.empty()) return {};
      ++record_;
      return record_error({Code::corrupt_data,
                           fmt::format("the file ends after {} bytes of it; allowed: whole records "
                                       "of {} bytes",
                                       rest.size(), OracleRecord::kBytes)});
    }
    const std::size_t count = std::min(most - batch.size(), rest.size() / OracleRecord::kBytes);
    const std::string_view records = rest.substr(0, count * OracleRecord::kBytes);
    if (Status status = take_records(records, batch); !status.ok()) return status;
    records_->skip(records.size());
  }
  return {};
}

Result<std::size_t> CacheReader::fill(std::vector<CacheRequest>& batch, std::size_t most) {
  batch.clear();
  batch.reserve(most);
  Status status = lines_ ? fill_lines(batch, most) : fill_records(batch, most);
  if (!status.ok()) return status;
  return batch.size();
}

}  // namespace forebay::trace
