// JsonWriter: JSON as it is produced, without a tree.
#pragma once

#include <array>
#include <charconv>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <string_view>

#include "telemetry/byte_stream.hpp"

namespace forebay::detail {

// Values follow each other, and each key is followed by its value; commas come by themselves.
// After a failure of the sink the rest is dropped, and status() says what it was. Text that is no
// UTF-8 gets U+FFFD for each byte that is wrong. Not thread-safe.
class JsonWriter {
 public:
  explicit JsonWriter(ByteSink& sink) : sink_(sink) {}

  void begin_object() { open('{'); }
  void end_object() { close('}'); }
  void begin_array() { open('['); }
  void end_array() { close(']'); }
  void key(std::string_view name) {
    value(name);
    put(':');
    comma_ = false;
  }
  // Before a key: it begins a line.
  void new_line() {
    if (comma_) put(',');
    put('\n');
    comma_ = false;
  }

  void value(std::integral auto number) { put_number(number); }
  void value(bool flag) { put_word(flag ? "true" : "false"); }
  // Not finite: null.
  void value(double number) {
    if (!std::isfinite(number)) return null();
    put_number(number);
  }
  void value(std::string_view text);
  void null() { put_word("null"); }

  // After the last value: its line ends, and what was written goes to the sink.
  Status finish();

 private:
  static constexpr std::size_t kBuffer = 64 << 10;
  static constexpr std::size_t kRoom = 32;  // of a number, with its comma

  void put_number(auto number) {
    if (used_ + kRoom > kBuffer) flush();
    if (comma_) buffer_[used_++] = ',';
    const auto done = std::to_chars(buffer_.data() + used_, buffer_.data() + kBuffer, number);
    used_ = static_cast<std::size_t>(done.ptr - buffer_.data());
    comma_ = true;
  }
  void put(char c) {
    if (used_ == kBuffer) flush();
    buffer_[used_++] = c;
  }
  void put(std::string_view text) {
    for (const char c : text) put(c);
  }
  void separate() {
    if (comma_) put(',');
    comma_ = true;
  }
  void put_word(std::string_view word) {
    separate();
    put(word);
  }
  void open(char bracket) {
    separate();
    put(bracket);
    comma_ = false;
  }
  void close(char bracket) {
    put(bracket);
    comma_ = true;
  }
  void put_escaped(unsigned char c);
  void flush();

  ByteSink& sink_;
  std::array<char, kBuffer> buffer_;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  std::size_t used_ = 0;
  bool comma_ = false;  // a value stands before the next one
  Status status_;
};

}  // namespace forebay::detail
