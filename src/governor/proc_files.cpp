#include "governor/proc_files.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>

namespace forebay::detail {
namespace {

constexpr std::size_t kLargestFile = std::size_t{4} << 20;

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) noexcept : fd_(fd) {}
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const noexcept { return fd_; }

 private:
  int fd_;
};

}  // namespace

std::optional<std::string> read_text(const std::filesystem::path& file) {
  const FileDescriptor fd{::open(file.c_str(), O_RDONLY | O_CLOEXEC)};
  if (fd.get() < 0) return std::nullopt;
  std::string text;
  std::array<char, 4096> chunk;
  while (text.size() <= kLargestFile) {
    const auto got = ::read(fd.get(), chunk.data(), chunk.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return std::nullopt;
    if (got == 0) return text;
    text.append(chunk.data(), static_cast<std::size_t>(got));
  }
  return std::nullopt;
}

std::optional<std::uint64_t> parse_number(std::string_view text) noexcept {
  constexpr std::string_view kSpace = " \t\n";
  const auto first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return std::nullopt;
  text = text.substr(first, text.find_last_not_of(kSpace) - first + 1);
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::vector<std::string_view> fields_of(std::string_view text, std::string_view separators) {
  std::vector<std::string_view> fields;
  auto begin = text.find_first_not_of(separators);
  while (begin != std::string_view::npos) {
    const auto end = text.find_first_of(separators, begin);
    fields.push_back(text.substr(begin, end - begin));
    begin = text.find_first_not_of(separators, end);
  }
  return fields;
}

std::optional<Bytes> kilobyte_field(std::string_view text, std::string_view key) {
  for (const std::string_view line : fields_of(text, "\n")) {
    const auto fields = fields_of(line, " \t");
    if (fields.size() != 3 || fields[0] != key || fields[2] != "kB") continue;
    const auto number = parse_number(fields[1]);
    return number ? checked_mul(Bytes{1024}, *number) : std::nullopt;
  }
  return std::nullopt;
}

}  // namespace forebay::detail
