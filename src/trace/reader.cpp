#include "trace/reader.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "forebay/config.hpp"

namespace forebay::trace {
namespace {

constexpr std::size_t kWindow = 4 * kMaxLine;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr std::chrono::hours kDay{24};
constexpr std::chrono::seconds kLongest{1'000'000'000};

Status cannot(Code code, const std::filesystem::path& file, std::string_view what) {
  return {code, fmt::format("{}: {}", printable(file.string()), what)};
}

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

LineReader::LineReader(std::string name, int descriptor, std::string_view text, std::uint64_t size)
    : name_(std::move(name)), descriptor_(descriptor), text_(text), size_(size), window_(kWindow) {}

LineReader::LineReader(LineReader&& other) noexcept
    : name_(std::move(other.name_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      text_(other.text_),
      size_(other.size_),
      read_(other.read_),
      number_(other.number_),
      window_(std::move(other.window_)),
      begin_(other.begin_),
      end_(other.end_),
      at_end_(other.at_end_) {}

LineReader::~LineReader() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<LineReader> LineReader::open(const std::filesystem::path& file) {
  // Not blocking, so that a pipe is refused instead of waited for.
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    if (errno == ENOENT) return cannot(Code::not_found, file, "no such trace");
    return cannot(Code::io_error, file, fmt::format("cannot open: {}", std::strerror(errno)));
  }
  struct stat info {};
  LineReader reader{printable(file.string()), descriptor, {}, 0};
  if (::fstat(descriptor, &info) != 0 || !S_ISREG(info.st_mode)) {
    return cannot(Code::invalid_argument, file,
                  "is no regular file; allowed: a file, because it is read several times");
  }
  reader.size_ = static_cast<std::uint64_t>(info.st_size);
  return reader;
}

LineReader LineReader::over(std::string_view text, std::string name) {
  return {std::move(name), -1, text, text.size()};
}

double LineReader::share() const noexcept {
  if (size_ == 0) return 1;
  return std::min(1.0, static_cast<double>(read_) / static_cast<double>(size_));
}

Status LineReader::error(Code code, std::string_view why) const {
  if (number_ == 0) return {code, fmt::format("{}: {}", name_, why)};
  return {code, fmt::format("{}:{}: {}", name_, number_, why)};
}

Result<std::size_t> LineReader::read_some(char* to, std::size_t most) {
  if (descriptor_ < 0) {
    const std::size_t taken = text_.copy(to, most);
    text_.remove_prefix(taken);
    return taken;
  }
  for (;;) {
    const ssize_t got = ::read(descriptor_, to, most);
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno == EINTR) continue;
    return error(Code::io_error, fmt::format("cannot read on: {}", std::strerror(errno)));
  }
}

Result<bool> LineReader::refill() {
  std::copy(window_.begin() + static_cast<std::ptrdiff_t>(begin_),
            window_.begin() + static_cast<std::ptrdiff_t>(end_), window_.begin());
  end_ -= begin_;
  begin_ = 0;
  const auto got = read_some(window_.data() + end_, window_.size() - end_);
  if (!got.ok()) return got.status();
  end_ += *got;
  read_ += *got;
  at_end_ = *got == 0;
  return !at_end_;
}

Result<bool> LineReader::next(std::string_view& line) {
  for (;;) {
    const std::string_view rest{window_.data() + begin_, end_ - begin_};
    const auto length = rest.find('\n');
    const bool whole = length != std::string_view::npos;
    if (std::min(length, rest.size()) > kMaxLine) {
      ++number_;
      return error(Code::invalid_argument, fmt::format("a line of more than {} bytes", kMaxLine));
    }
    if (whole || (at_end_ && !rest.empty())) {
      line = rest.substr(0, length);
      begin_ += line.size() + (whole ? 1 : 0);
      if (line.ends_with('\r')) line.remove_suffix(1);
      ++number_;
      return true;
    }
    if (at_end_) return false;
    if (const auto more = refill(); !more.ok()) return more.status();
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
