// What llama.cpp says: lines go to the user's sink, and to a capture for the Status of the call
// that is under way on this thread.
//
// Thread safety: thread-safe; a capture sees its own thread's lines.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "forebay/bytes.hpp"

namespace forebay::llama {

// A piece of log text, as llama.cpp's callback gets it: whole lines, or parts of one.
void log_text(const char* text, bool is_error) noexcept;

// Replaces the sink; empty: drop lines.
void set_sink(std::function<void(std::string_view line)> sink);

// The sum of the "compute buffer size = 21.52 MiB" of a context's log, each rounded up to the
// next 0.01 MiB; empty if it has none.
std::optional<Bytes> compute_bytes_in_log(std::string_view log);

// Keeps what is logged on this thread while it lives. Captures nest.
class LogCapture {
 public:
  LogCapture() noexcept;
  ~LogCapture();
  LogCapture(const LogCapture&) = delete;
  LogCapture& operator=(const LogCapture&) = delete;

  const std::string& text() const noexcept { return text_; }
  // The first error, which is nearest to the cause; else `other`; else "no reason given".
  std::string first_error_or(const std::string& other) const;

 private:
  friend void log_text(const char* text, bool is_error) noexcept;
  void add(std::string_view text, bool is_error);

  LogCapture* outer_;
  std::string text_;
  std::string first_error_;
};

}  // namespace forebay::llama
