#include "prompt.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace forebay::app {
namespace {

Status bad(std::string message) { return {Code::invalid_argument, std::move(message)}; }

// Reads to the end, or one byte more than a prompt may have.
Result<std::string> read_all(int descriptor, const std::string& name) {
  std::string text;
  constexpr std::size_t kChunk = 1 << 16;
  while (text.size() <= kMaxPrompt.count()) {
    const std::size_t before = text.size();
    text.resize(before + kChunk);
    const ssize_t count = ::read(descriptor, text.data() + before, kChunk);
    text.resize(before + static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
    if (count == 0) break;
    if (count < 0 && errno != EINTR) {
      return Status{errno == EISDIR ? Code::invalid_argument : Code::io_error,
                    fmt::format("{}: cannot read: {}", name, std::strerror(errno))};
    }
  }
  return text;
}

Result<std::string> read_file(const std::string& path) {
  if (path == "-") return read_all(STDIN_FILENO, "standard input");
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    return Status{errno == ENOENT ? Code::not_found : Code::io_error,
                  fmt::format("{}: cannot open the prompt: {}", path, std::strerror(errno))};
  }
  Result<std::string> text = read_all(descriptor, path);
  ::close(descriptor);
  return text;
}

Result<std::string> checked(std::string text, const std::string& name) {
  if (text.size() > kMaxPrompt.count()) {
    return bad(fmt::format("{}: the prompt is too long; allowed: at most {}", name,
                           to_string(kMaxPrompt)));
  }
  if (!is_valid_utf8_text(text)) return bad(fmt::format("{}: the prompt is not UTF-8 text", name));
  if (text.ends_with('\n')) text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
  if (text.empty()) return bad(fmt::format("{}: the prompt is empty", name));
  return text;
}

}  // namespace

Result<std::string> read_prompt(const Config& config) {
  using enum ConfigOrigin::Source;
  const ConfigOrigin& text = config.origin("prompt");
  const ConfigOrigin& path = config.origin("prompt_file");
  if (text.source == built_in && path.source == built_in) {
    return bad(
        "no prompt given; allowed: --prompt TEXT, --prompt-file FILE, or - for standard input");
  }
  if (text.source == path.source) {
    return bad(fmt::format("{}: a prompt is given by {} too; allowed: one of them", path.where,
                           text.where));
  }
  const bool from_text = text.source == flag || path.source == built_in;
  if (from_text) return config.prompt;
  Result<std::string> content = read_file(config.prompt_file);
  if (!content.ok()) return content.status();
  return checked(std::move(*content),
                 config.prompt_file == "-" ? "standard input" : config.prompt_file);
}

}  // namespace forebay::app
