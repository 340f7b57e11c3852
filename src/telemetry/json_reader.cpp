#include "telemetry/json_reader.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "base/text.hpp"

namespace forebay::detail {
namespace {

constexpr std::size_t kMostDepth = 64;
constexpr std::size_t kMostString = 1 << 20;
constexpr std::size_t kMostWhiteSpace = 64 << 10;

// The grammar of RFC 8259: -?(0|[1-9]digits)(.digits)?([eE][+-]?digits)?
bool is_json_number(std::string_view text) noexcept {
  std::size_t at = 0;
  const auto digits = [&] {
    const std::size_t first = at;
    while (at < text.size() && text[at] >= '0' && text[at] <= '9') ++at;
    return at - first;
  };
  const auto is = [&](std::string_view any) {
    return at < text.size() && any.find(text[at]) != std::string_view::npos;
  };
  if (is("-")) ++at;
  const std::size_t begin = at;
  const std::size_t whole = digits();
  if (whole == 0 || (whole > 1 && text[begin] == '0')) return false;
  if (is(".")) {
    ++at;
    if (digits() == 0) return false;
  }
  if (is("eE")) {
    ++at;
    if (is("+-")) ++at;
    if (digits() == 0) return false;
  }
  return at == text.size();
}

bool may_be_in_number(int c) noexcept {
  return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

void append_utf8(std::string& text, std::uint32_t point) {
  const auto put = [&](std::uint32_t byte) { text += static_cast<char>(byte); };
  if (point < 0x80) return put(point);
  if (point < 0x800) {
    put(0xC0 | point >> 6U);
  } else {
    if (point < 0x10000) {
      put(0xE0 | point >> 12U);
    } else {
      put(0xF0 | point >> 18U);
      put(0x80 | (point >> 12U & 0x3FU));
    }
    put(0x80 | (point >> 6U & 0x3FU));
  }
  put(0x80 | (point & 0x3FU));
}

bool is_utf8(std::string_view text) noexcept {
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

}  // namespace

JsonReader::JsonReader(ByteSource& source, std::string name, Bytes most)
    : source_(source), name_(std::move(name)), most_(most.count()) {}

bool JsonReader::refill() {
  before_ += chunk_.size();
  chunk_ = {};
  at_ = 0;
  if (!charge(0)) return false;
  const Result<std::string_view> more = source_.next();
  if (!more.ok()) {
    stop(more.status());
    return false;
  }
  chunk_ = *more;
  return !chunk_.empty();
}

int JsonReader::peek() {
  if (at_ == chunk_.size() && !refill()) return kEnd;
  return static_cast<unsigned char>(chunk_[at_]);
}

int JsonReader::peek_token() {
  for (std::size_t skipped = 0;; ++skipped, ++at_) {
    const int c = peek();
    if (c != ' ' && c != '\n' && c != '\r' && c != '\t') return ok() ? c : kEnd;
    if (skipped == kMostWhiteSpace) {
      fail("more than 64 KiB of white space");
      return kEnd;
    }
  }
}

void JsonReader::begin(char bracket, std::string_view what) {
  if (peek_token() != bracket) return fail(fmt::format("expected {}", what));
  if (depth_ == kMostDepth) return fail("more than 64 levels deep");
  ++at_;
  if (levels_.size() == depth_) levels_.emplace_back();
  Level& level = levels_[depth_++];
  level.object = bracket == '{';
  level.index = 0;
  level.key.clear();
  fresh_ = true;
}

bool JsonReader::next(char bracket) {
  const int c = peek_token();
  if (!ok()) return false;
  if (c == bracket) {
    ++at_;
    --depth_;
    fresh_ = false;
    return false;
  }
  if (fresh_) {
    fresh_ = false;
    return true;
  }
  if (c != ',') {
    fail(fmt::format("expected , or {}", bracket));
    return false;
  }
  ++at_;
  return true;
}

bool JsonReader::next_key() {
  if (!ok() || !next('}')) return false;
  std::string& name = levels_[depth_ - 1].key;
  if (peek_token() != '"') {
    fail("expected a key");
    return false;
  }
  read_string(name);
  if (ok() && peek_token() != ':') fail("expected : after the key");
  if (ok()) ++at_;
  return ok();
}

bool JsonReader::next_element() {
  if (!ok()) return false;
  Level& level = levels_[depth_ - 1];
  const bool first = fresh_;
  if (!next(']')) return false;
  if (!first) ++level.index;
  return true;
}

void JsonReader::expect_end() {
  if (ok() && peek_token() != kEnd) fail("there is more after the snapshot");
}

// A number is copied to where it is in one piece.
bool JsonReader::read_number(std::string_view& text, std::string_view what) {
  std::size_t size = 0;
  for (int c = peek_token(); may_be_in_number(c) && size < sizeof number_; c = peek()) {
    number_[size++] = static_cast<char>(c);
    ++at_;
  }
  text = {number_, size};
  if (!ok()) return false;
  if (size == sizeof number_ || !is_json_number(text)) {
    fail(fmt::format("expected {}", what));
    return false;
  }
  return true;
}

void JsonReader::read_unsigned(std::uint64_t& number, std::uint64_t most) {
  std::string_view text;
  if (!read_number(text, "a whole number")) return;
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value > most) {
    return fail(
        fmt::format("{} is not allowed; allowed: a whole number of at most {}", text, most));
  }
  number = value;
}

void JsonReader::read(std::uint32_t& number) {
  std::uint64_t value = number;
  read_unsigned(value, std::numeric_limits<std::uint32_t>::max());
  number = static_cast<std::uint32_t>(value);
}

void JsonReader::read(std::int64_t& number) {
  std::string_view text;
  if (!read_number(text, "a whole number")) return;
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) {
    return fail(fmt::format("{} is not allowed; allowed: a whole number of 64 bits", text));
  }
  number = value;
}

void JsonReader::read(double& number) {
  std::string_view text;
  if (!read_number(text, "a number")) return;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || !std::isfinite(value)) {
    return fail(fmt::format("{} is not allowed; allowed: a number that a double can hold", text));
  }
  number = value;
}

bool JsonReader::read_word(std::string_view word) {
  for (const char expected : word) {
    if (peek() != expected) {
      fail(fmt::format("expected {}", word));
      return false;
    }
    ++at_;
  }
  return ok();
}

void JsonReader::read(bool& flag) {
  const int c = peek_token();
  if (c != 't' && c != 'f') return fail("expected true or false");
  const bool value = c == 't';
  if (read_word(value ? "true" : "false")) flag = value;
}

bool JsonReader::read_null() { return peek_token() == 'n' && read_word("null"); }

void JsonReader::read(std::string& text) {
  if (peek_token() != '"') return fail("expected a text");
  read_string(text);
  if (ok() && text.capacity() > sizeof(std::string)) charge(text.size());
}

void JsonReader::read_string(std::string& text) {
  ++at_;
  text.clear();
  bool plain = true;  // ASCII alone
  for (;;) {
    const int c = peek();
    if (c == kEnd) return fail("the text does not end");
    if (c < 0x20) return fail("a control character in a text");
    if (text.size() >= kMostString) return fail("a text of more than 1 MiB");
    ++at_;
    if (c == '"') break;
    if (c == '\\') {
      read_escape(text);
      if (!ok()) return;
    } else {
      text += static_cast<char>(c);
      plain = plain && c < 0x80;
    }
  }
  if (!plain && !is_utf8(text)) fail("a text that is no UTF-8");
}

void JsonReader::read_escape(std::string& text) {
  constexpr std::string_view kNames = "\"\\/bfnrt";
  constexpr std::string_view kMeant = "\"\\/\b\f\n\r\t";
  const int c = peek();
  if (c == kEnd) return fail("the text does not end");
  ++at_;
  if (c != 'u') {
    const std::size_t which = kNames.find(static_cast<char>(c));
    if (which == std::string_view::npos) return fail("an escape that JSON does not have");
    text += kMeant[which];
    return;
  }
  std::uint32_t point = read_hex();
  if (point >= 0xD800 && point < 0xDC00) {  // the first half of a pair
    if (!read_word("\\u")) return;
    const std::uint32_t low = read_hex();
    if (!ok()) return;
    if (low < 0xDC00 || low > 0xDFFF) return fail("half a surrogate pair");
    point = 0x10000 + ((point - 0xD800) << 10U) + (low - 0xDC00);
  } else if (point >= 0xDC00 && point < 0xE000) {
    return fail("half a surrogate pair");
  }
  if (ok()) append_utf8(text, point);
}

std::uint32_t JsonReader::read_hex() {
  std::uint32_t value = 0;
  for (int i = 0; i < 4 && ok(); ++i) {
    const int c = peek();
    const int lower = c | 0x20;
    if (c >= '0' && c <= '9') {
      value = value << 4U | static_cast<std::uint32_t>(c - '0');
    } else if (lower >= 'a' && lower <= 'f') {
      value = value << 4U | static_cast<std::uint32_t>(lower - 'a' + 10);
    } else {
      fail("expected four hexadecimal digits");
      return 0;
    }
    ++at_;
  }
  return value;
}

// A value that nobody asked for; its brackets are levels like all others.
void JsonReader::skip() {
  const std::size_t outer = depth_;
  do {
    skip_value();
    while (ok() && depth_ > outer) {
      if (levels_[depth_ - 1].object ? next_key() : next_element()) break;
    }
  } while (ok() && depth_ > outer);
}

void JsonReader::skip_value() {
  std::string_view number;
  bool flag = false;
  switch (peek_token()) {
    case '{':
      return begin_object();
    case '[':
      return begin_array();
    case '"':
      return read_string(skipped_);
    case 't':
    case 'f':
      return read(flag);
    case 'n':
      return static_cast<void>(read_null());
    default:
      static_cast<void>(read_number(number, "a value"));
  }
}

// Text beyond four times the memory that it may become is padding: white space, unknown keys.
bool JsonReader::charge(std::uint64_t bytes) {
  if (!ok()) return false;
  if (bytes <= most_ - charged_ && before_ / 4 <= most_) {
    charged_ += bytes;
    return true;
  }
  stop({Code::memory_refused,
        fmt::format("{}: needs more than {} of memory to be read (at byte {})",
                    printable_text(name_), to_string(Bytes{most_}), before_ + at_)});
  return false;
}

std::string JsonReader::where() const {
  std::string path;
  for (std::size_t i = 0; i < depth_; ++i) {
    const Level& level = levels_[i];
    if (!level.object) {
      path += fmt::format("[{}]", level.index);
    } else if (!level.key.empty()) {
      path += fmt::format("{}{}", path.empty() ? "" : ".", printable_text(level.key));
    }
  }
  return path;
}

void JsonReader::fail(std::string_view what) {
  if (!ok()) return;
  const bool ended = at_ == chunk_.size() && !refill();
  if (!ok()) return;
  const std::string path = where();
  stop({Code::corrupt_data, fmt::format("{}: {}{}{}{} (at byte {})", printable_text(name_), path,
                                        path.empty() ? "" : ": ", what,
                                        ended ? ", and the file ends" : "", before_ + at_)});
}

void JsonReader::stop(Status status) {
  if (!status_.ok()) return;
  status_ = std::move(status);
  chunk_ = {};
  at_ = 0;
}

}  // namespace forebay::detail
