// The terminal: whether there is one, its colours, tables and progress bars.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "forebay/status.hpp"

namespace forebay::app {

// Whether a descriptor is a terminal that can do more than print lines (TERM is not dumb).
bool is_terminal(int descriptor) noexcept;
// Columns of it; 100 if it is none or does not say.
std::size_t terminal_width(int descriptor) noexcept;

enum class Style { bold, dim, good, bad };

// Colours, or none: only on a terminal, and not if NO_COLOR is set to anything.
class Painter {
 public:
  explicit Painter(bool colours) noexcept : colours_(colours) {}
  static Painter of(int descriptor) noexcept;
  std::string operator()(Style style, std::string_view text) const;

 private:
  bool colours_;
};

// Writes all of `text`. Errors: interrupted if the reader is gone (EPIPE): it has all it
// wanted, which is no failure; io_error otherwise.
Status write_out(std::string_view text) noexcept;  // standard output
void write_err(std::string_view text) noexcept;    // standard error; failures are nobody's

// Standard output, with the first failure kept.
class Output {
 public:
  explicit Output(bool to_terminal) noexcept : to_terminal_(to_terminal) {}
  // On a terminal, control characters but newline and tab are left out: what a model
  // writes must not drive it.
  void write(std::string_view text);
  const Status& status() const noexcept { return status_; }

 private:
  bool to_terminal_;
  Status status_;
};

// A bar on standard error that redraws itself; nothing where that is no terminal.
class ProgressBar {
 public:
  ProgressBar(std::string label, bool shown) : label_(std::move(label)), shown_(shown) {}
  ~ProgressBar() { clear(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void show(double share);  // 0..1; draws when the percentage changes
  void clear() noexcept;    // takes the bar off the screen

 private:
  std::string label_;
  bool shown_;
  int drawn_percent_ = -1;
};

// Rows of cells in aligned columns: the first column left, the others as said.
class Table {
 public:
  enum class Align { left, right };
  explicit Table(std::vector<Align> columns) : columns_(std::move(columns)) {}
  void add(std::vector<std::string> cells);
  // Two blanks between columns, `indent` before the first, none at the end of a line.
  std::string text(std::size_t indent = 2) const;

 private:
  std::vector<Align> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace forebay::app
