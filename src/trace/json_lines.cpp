// One flat JSON object a line. Nothing is built of it, and nothing nests, so that a hostile
// line costs no more than its length.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>

#include "forebay/config.hpp"
#include "trace/record.hpp"

namespace forebay::trace {
namespace {

constexpr std::array<std::string_view, 6> kKeys{"t", "op", "id", "bytes", "stream", "tag"};
constexpr double kMaxSeconds = 9e9;  // as nanoseconds this is below 2^63
constexpr std::string_view kWhole = "a whole number from 0 to 18446744073709551615";
constexpr std::string_view kBlanks = " \t\r";
constexpr std::string_view kEscapes = "\"\\/bfnrtu";

Status bad(std::string why) { return {Code::invalid_argument, std::move(why)}; }

struct Token {
  std::string_view text;  // a string without its quotes; else as written
  bool is_string = false;
};

class Cursor {
 public:
  explicit Cursor(std::string_view text) : rest_(text) {}

  bool take(char wanted) {
    skip_blanks();
    if (!rest_.starts_with(wanted)) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool at_end() {
    skip_blanks();
    return rest_.empty();
  }
  std::string_view rest() const { return rest_; }

  // A string, or a run of what numbers and words are made of; empty if there is neither.
  std::optional<Token> scalar() {
    skip_blanks();
    if (rest_.starts_with('"')) return quoted();
    const auto end = rest_.find_first_not_of("+-.0123456789abcdefghijklmnopqrstuvwxyzE");
    const Token token{rest_.substr(0, end), false};
    rest_.remove_prefix(token.text.size());
    return token.text.empty() ? std::nullopt : std::optional{token};
  }

 private:
  std::optional<Token> quoted() {
    for (std::size_t i = 1; i < rest_.size(); ++i) {
      const auto byte = static_cast<unsigned char>(rest_[i]);
      if (byte < 0x20) return std::nullopt;
      if (byte == '"') {
        const Token token{rest_.substr(1, i - 1), true};
        rest_.remove_prefix(i + 1);
        return token;
      }
      if (byte != '\\') continue;
      ++i;
      if (i == rest_.size() || kEscapes.find(rest_[i]) == std::string_view::npos) {
        return std::nullopt;
      }
    }
    return std::nullopt;
  }

  void skip_blanks() {
    rest_.remove_prefix(std::min(rest_.find_first_not_of(kBlanks), rest_.size()));
  }

  std::string_view rest_;
};

std::optional<std::uint64_t> whole(const Token& token) {
  std::uint64_t number = 0;
  const char* const end = token.text.data() + token.text.size();
  const auto [stop, error] = std::from_chars(token.text.data(), end, number);
  if (token.is_string || error != std::errc{} || stop != end) return std::nullopt;
  return number;
}

std::optional<Duration> seconds(const Token& token) {
  double number = 0;
  const char* const end = token.text.data() + token.text.size();
  const auto [stop, error] = std::from_chars(token.text.data(), end, number);
  if (token.is_string || error != std::errc{} || stop != end) return std::nullopt;
  if (!(number >= 0 && number <= kMaxSeconds)) return std::nullopt;
  return Duration{std::llround(number * 1e9)};
}

Status unknown_key(std::string_view key) {
  if (const auto match = closest_match(key, kKeys)) {
    return bad(fmt::format("{}: unknown key; did you mean '{}'?", printable(key), *match));
  }
  return bad(fmt::format("{}: unknown key; allowed: {}", printable(key), fmt::join(kKeys, ", ")));
}

// Fills a record key by key, and remembers which were there.
class Filler {
 public:
  Status put(std::string_view key, const Token& value) {
    const auto* const known = std::ranges::find(kKeys, key);
    if (known == kKeys.end()) return unknown_key(key);
    const auto index = static_cast<std::size_t>(known - kKeys.begin());
    if (seen_[index]) return bad(fmt::format("{}: given twice; allowed: once", key));
    seen_[index] = true;
    using Setter = Status (Filler::*)(const Token&);
    static constexpr std::array<Setter, kKeys.size()> kSetters{
        &Filler::put_time,  &Filler::put_operation, &Filler::put_id,
        &Filler::put_bytes, &Filler::put_stream,    &Filler::put_tag};
    return (this->*kSetters[index])(value);
  }

  Result<Record> finish() const {
    if (!seen_[1]) return bad("op: not given; allowed: alloc, free");
    if (!seen_[2]) return bad(fmt::format("id: not given; allowed: {}", kWhole));
    if (record_.kind == Record::Kind::allocate && !seen_[3]) {
      return bad("bytes: not given; an alloc needs its size in bytes");
    }
    return record_;
  }

 private:
  static Status refuse(std::string_view key, const Token& value, std::string_view allowed) {
    if (!value.is_string) return not_allowed(key, value.text, allowed);
    return not_allowed(key, fmt::format("\"{}\"", value.text), allowed);
  }
  Status put_time(const Token& value) {
    const auto time = seconds(value);
    if (!time) return refuse("t", value, "seconds from 0 to 9e9");
    record_.time = *time;
    record_.has_time = true;
    return {};
  }
  Status put_operation(const Token& value) {
    if (!value.is_string || (value.text != "alloc" && value.text != "free")) {
      return refuse("op", value, "\"alloc\", \"free\"");
    }
    record_.kind = value.text == "alloc" ? Record::Kind::allocate : Record::Kind::free;
    return {};
  }
  Status put_id(const Token& value) {
    const auto id = whole(value);
    if (!id) return refuse("id", value, kWhole);
    record_.id = *id;
    return {};
  }
  Status put_bytes(const Token& value) {
    const auto bytes = whole(value);
    if (!bytes || *bytes > kMaxBlock.count()) {
      return refuse("bytes", value, fmt::format("a whole number from 0 to {}", kMaxBlock.count()));
    }
    record_.bytes = Bytes{*bytes};
    record_.has_bytes = true;
    return {};
  }
  Status put_stream(const Token& value) {
    const auto stream = whole(value);
    if (!stream) return refuse("stream", value, kWhole);
    record_.stream = *stream;
    record_.has_stream = true;
    return {};
  }
  Status put_tag(const Token& value) {
    if (!value.is_string || !is_valid_utf8_text(value.text)) {
      return refuse("tag", value, "a string of UTF-8 text");
    }
    record_.tag = value.text;
    return {};
  }

  Record record_;
  std::array<bool, kKeys.size()> seen_{};
};

// One `"key": value` into the record.
Status read_pair(Cursor& cursor, Filler& filler) {
  const auto key = cursor.scalar();
  if (!key || !key->is_string) {
    return bad(fmt::format("{} where a key in quotes must stand", printable(cursor.rest())));
  }
  if (!cursor.take(':')) {
    return bad(fmt::format("{}: no ':' after the key", printable(key->text)));
  }
  const auto value = cursor.scalar();
  if (!value) {
    return bad(fmt::format("{}: {} is no value; allowed: a number or a string",
                           printable(key->text), printable(cursor.rest())));
  }
  return filler.put(key->text, *value);
}

}  // namespace

Result<Record> parse_json_line(std::string_view line) {
  Cursor cursor{line};
  Filler filler;
  const std::string_view example = R"({"t":0.5,"op":"alloc","id":7,"bytes":4096})";
  if (!cursor.take('{')) {
    return bad(fmt::format("{} is no JSON object; allowed: as {}", printable(line), example));
  }
  if (!cursor.take('}')) {
    do {
      if (Status status = read_pair(cursor, filler); !status.ok()) return status;
    } while (cursor.take(','));
    if (!cursor.take('}')) return bad("the object is not closed; allowed: one object on a line");
  }
  if (!cursor.at_end()) {
    return bad(fmt::format("{} after the object; allowed: one object on a line",
                           printable(cursor.rest())));
  }
  return filler.finish();
}

}  // namespace forebay::trace
