#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <system_error>
#include <utility>

#include "forebay/tracker.hpp"
#include "track/glob.hpp"

namespace forebay {
namespace {

constexpr std::size_t kLargestFile = 4U << 20;  // some 50 000 rules
constexpr std::size_t kLongestLine = 1024;

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r";
  const std::size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

// Printable and short: it is part of a message.
std::string quoted(std::string_view text) {
  std::string shown{text.substr(0, 60)};
  std::replace_if(
      shown.begin(), shown.end(), [](char c) { return c < ' ' || c == '\x7f'; }, '?');
  return '"' + shown + (text.size() > 60 ? "...\"" : "\"");
}

Status too_large(std::string_view file, std::uint64_t bytes) {
  return {Code::corrupt_data, fmt::format("{}: {} bytes; allowed: {}", file, bytes, kLargestFile)};
}

class Descriptor {
 public:
  explicit Descriptor(int descriptor) noexcept : descriptor_(descriptor) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  int get() const noexcept { return descriptor_; }

 private:
  int descriptor_;
};

Status bad_line(std::string_view file, std::size_t line, std::string_view text,
                std::string_view why) {
  return {Code::corrupt_data,
          fmt::format("{}:{}: {} {}; allowed: tag:GLOB, owner:GLOB, source:GLOB, function:GLOB, "
                      "module:GLOB, # comment",
                      file, line, quoted(text), why)};
}

}  // namespace

Result<Suppressions> Suppressions::parse(std::string_view text, std::string_view file) {
  static constexpr std::array<std::pair<std::string_view, Rule::Of>, 5> kKinds{
      {{"tag", Rule::Of::tag},
       {"owner", Rule::Of::owner},
       {"source", Rule::Of::source},
       {"function", Rule::Of::function},
       {"module", Rule::Of::module}}};
  if (text.size() > kLargestFile) return too_large(file, text.size());
  Suppressions all;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = text.find('\n');
    const std::string_view line = trimmed(text.substr(0, end));
    text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
    if (line.empty() || line.front() == '#') continue;
    if (line.size() > kLongestLine) {
      return bad_line(file, number, line, fmt::format("is longer than {} bytes", kLongestLine));
    }
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) return bad_line(file, number, line, "has no ':'");
    const std::string_view name = trimmed(line.substr(0, colon));
    const std::string_view pattern = trimmed(line.substr(colon + 1));
    const auto* const kind = std::find_if(kKinds.begin(), kKinds.end(),
                                          [&](const auto& one) { return one.first == name; });
    if (kind == kKinds.end()) return bad_line(file, number, name, "is no kind of rule");
    if (pattern.empty()) return bad_line(file, number, line, "has no pattern");
    all.rules_.push_back({kind->second, std::string{pattern}});
  }
  return all;
}

Result<Suppressions> Suppressions::load(const std::string& path) {
  const auto failed = [&](int error) {
    return Status{error == ENOENT ? Code::not_found : Code::io_error,
                  fmt::format("{}: {}", path, std::generic_category().message(error))};
  };
  // Not blocking, so that a pipe is refused instead of waited for.
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)};
  if (file.get() < 0) return failed(errno);
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return failed(errno);
  if (!S_ISREG(info.st_mode)) {
    return Status{Code::io_error, path + ": is no regular file; allowed: a file"};
  }
  if (static_cast<std::uint64_t>(info.st_size) > kLargestFile) {
    return too_large(path, static_cast<std::uint64_t>(info.st_size));
  }
  std::string text;
  std::array<char, 4096> part{};
  while (text.size() <= kLargestFile) {  // it may have grown: one more than is allowed says enough
    const ssize_t read = ::read(file.get(), part.data(), part.size());
    if (read < 0 && errno == EINTR) continue;
    if (read < 0) return failed(errno);
    if (read == 0) break;
    text.append(part.data(), static_cast<std::size_t>(read));
  }
  return parse(text, path);
}

bool Suppressions::covers(const LeakGroup& group, const std::vector<Frame>& frames) const {
  const auto matches = [&](const Rule& rule) {
    const auto any_frame = [&](std::string Frame::*name) {
      return std::any_of(frames.begin(), frames.end(), [&](const Frame& frame) {
        return detail::matches_glob(rule.pattern, frame.*name);
      });
    };
    switch (rule.of) {
      case Rule::Of::tag:
        return detail::matches_glob(rule.pattern, group.tag);
      case Rule::Of::owner:
        return detail::matches_glob(rule.pattern, group.owner);
      case Rule::Of::source:
        return detail::matches_glob(rule.pattern, group.source);
      case Rule::Of::function:
        return any_frame(&Frame::function);
      case Rule::Of::module:
        return any_frame(&Frame::module);
    }
    return false;
  };
  return std::any_of(rules_.begin(), rules_.end(), matches);
}

bool Suppressions::covers(const LeakGroup& group) const {
  const auto of_frames = [](const Rule& rule) {
    return rule.of == Rule::Of::function || rule.of == Rule::Of::module;
  };
  if (covers(group, {})) return true;
  // Names of functions cost much: looked up only if a rule asks for them.
  if (group.stack == 0 || std::none_of(rules_.begin(), rules_.end(), of_frames)) return false;
  return covers(group, Tracker::frames_of(group.stack));
}

}  // namespace forebay
