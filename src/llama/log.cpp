#include "llama/log.hpp"

#include <cstdlib>
#include <memory>
#include <mutex>
#include <utility>

namespace forebay::llama {
namespace {

using Sink = std::function<void(std::string_view)>;

thread_local LogCapture* current_capture = nullptr;
thread_local std::string unfinished_line;

struct SharedSink {
  std::mutex mutex;
  std::shared_ptr<Sink> sink;  // guarded by mutex

  std::shared_ptr<Sink> get() {
    const std::lock_guard lock(mutex);
    return sink;
  }
};

SharedSink& shared_sink() {
  static SharedSink the_sink;
  return the_sink;
}

// Gives each finished line to the sink, which is called without the lock.
void send_lines(std::string_view text) {
  const auto sink = shared_sink().get();
  if (sink == nullptr) return;
  unfinished_line += text;
  for (;;) {
    const std::size_t end = unfinished_line.find('\n');
    if (end == std::string::npos) return;
    const std::string line = unfinished_line.substr(0, end);
    unfinished_line.erase(0, end + 1);
    if (!line.empty()) (*sink)(line);
  }
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ' || text.back() == '.'))
    text.remove_suffix(1);
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  return text;
}

}  // namespace

// Called from inside llama.cpp: a sink that throws, or no memory for a line, loses the line.
void log_text(const char* text, bool is_error) noexcept {
  if (text == nullptr) return;
  try {
    for (LogCapture* capture = current_capture; capture != nullptr; capture = capture->outer_)
      capture->add(text, is_error);
    send_lines(text);
  } catch (...) {
    unfinished_line.clear();
  }
}

void set_sink(Sink sink) {
  auto next = sink ? std::make_shared<Sink>(std::move(sink)) : nullptr;
  const std::lock_guard lock(shared_sink().mutex);
  shared_sink().sink.swap(next);
}

std::optional<Bytes> compute_bytes_in_log(std::string_view log) {
  const std::string_view key = "compute buffer size =";
  const double bytes_per_mib = 1024.0 * 1024.0;
  std::optional<Bytes> sum;
  for (std::size_t at = log.find(key); at != std::string_view::npos; at = log.find(key, at)) {
    at += key.size();
    const double mib = std::strtod(std::string(log.substr(at, 32)).c_str(), nullptr);
    if (!(mib >= 0 && mib < 1e9)) return std::nullopt;
    sum = sum.value_or(Bytes{}) + Bytes{static_cast<std::uint64_t>((mib + 0.01) * bytes_per_mib)};
  }
  return sum;
}

LogCapture::LogCapture() noexcept : outer_(std::exchange(current_capture, this)) {}
LogCapture::~LogCapture() { current_capture = outer_; }

void LogCapture::add(std::string_view text, bool is_error) {
  text_ += text;
  if (is_error && first_error_.empty()) first_error_ = trimmed(text);
}

std::string LogCapture::first_error_or(const std::string& other) const {
  if (!first_error_.empty()) return first_error_;
  return other.empty() ? "no reason given" : other;
}

}  // namespace forebay::llama
