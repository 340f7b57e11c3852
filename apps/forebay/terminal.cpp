#include "terminal.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace forebay::app {
namespace {

constexpr std::size_t kDefaultWidth = 100;

// Columns that a text takes: its characters, without the escapes of colours.
std::size_t columns_of(std::string_view text) {
  std::size_t columns = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\x1b') {
      i = std::min(text.find('m', i), text.size());
    } else if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) {
      ++columns;
    }
  }
  return columns;
}

// 0, or the errno of the write that failed.
int write_all(int descriptor, std::string_view text) noexcept {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor, text.data(), text.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

}  // namespace

bool is_terminal(int descriptor) noexcept {
  if (::isatty(descriptor) == 0) return false;
  const char* term = std::getenv("TERM");
  return term != nullptr && *term != '\0' && std::string_view{term} != "dumb";
}

std::size_t terminal_width(int descriptor) noexcept {
  winsize size{};
  if (::isatty(descriptor) == 0 || ::ioctl(descriptor, TIOCGWINSZ, &size) != 0) {
    return kDefaultWidth;
  }
  return size.ws_col == 0 ? kDefaultWidth : std::max<std::size_t>(40, size.ws_col);
}

Painter Painter::of(int descriptor) noexcept {
  const char* no_colour = std::getenv("NO_COLOR");  // https://no-color.org
  return Painter{is_terminal(descriptor) && (no_colour == nullptr || *no_colour == '\0')};
}

std::string Painter::operator()(Style style, std::string_view text) const {
  if (!colours_) return std::string{text};
  const int code = style == Style::bold   ? 1
                   : style == Style::dim  ? 2
                   : style == Style::good ? 32
                                          : 31;
  return fmt::format("\x1b[{}m{}\x1b[0m", code, text);
}

Status write_out(std::string_view text) noexcept {
  const int error = write_all(STDOUT_FILENO, text);
  if (error == 0) return {};
  if (error == EPIPE) return {Code::interrupted, "the reader of standard output is gone"};
  return {Code::io_error, fmt::format("cannot write standard output: {}", std::strerror(error))};
}

void write_err(std::string_view text) noexcept {
  static_cast<void>(write_all(STDERR_FILENO, text));
}

void Output::write(std::string_view text) {
  if (!status_.ok()) return;
  if (!to_terminal_) {
    status_ = write_out(text);
    return;
  }
  std::string safe{text};
  std::erase_if(safe, [](char c) {
    return (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') || c == 0x7F;
  });
  status_ = write_out(safe);
}

void ProgressBar::show(double share) {
  if (!shown_) return;
  const int percent = static_cast<int>(std::clamp(share, 0.0, 1.0) * 100);
  if (percent == drawn_percent_) return;
  drawn_percent_ = percent;
  constexpr int kCells = 30;
  const auto filled = static_cast<std::size_t>(percent * kCells / 100);
  write_err(
      fmt::format("\r{:<12} [{:-<{}}] {:3} %", label_, std::string(filled, '#'), kCells, percent));
}

void ProgressBar::clear() noexcept {
  if (drawn_percent_ >= 0) write_err("\r\x1b[K");
  drawn_percent_ = -1;
}

void Table::add(std::vector<std::string> cells) {
  cells.resize(columns_.size());
  rows_.push_back(std::move(cells));
}

std::string Table::text(std::size_t indent) const {
  std::vector<std::size_t> widths(columns_.size(), 0);
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i)
      widths[i] = std::max(widths[i], columns_of(row[i]));
  }
  std::string result;
  for (const auto& row : rows_) {
    std::string line(indent, ' ');
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - columns_of(row[i]), ' ');
      line += columns_[i] == Align::left ? row[i] + padding : padding + row[i];
      line += "  ";
    }
    line.erase(line.find_last_not_of(' ') + 1);
    result += line + "\n";
  }
  return result;
}

}  // namespace forebay::app
