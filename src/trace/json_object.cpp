#include "trace/json_object.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "forebay/config.hpp"
#include "trace/record.hpp"

namespace forebay::trace {
namespace {

constexpr std::string_view kBlanks = " \t\r";
constexpr std::string_view kEscapes = "\"\\/bfnrtu";

using Put = std::function<Status(std::string_view, const JsonToken&)>;

Status bad(std::string why) { return {Code::invalid_argument, std::move(why)}; }

template <typename Number>
std::optional<Number> read_number(const JsonToken& token) {
  Number value{};
  const char* const end = token.text.data() + token.text.size();
  const auto [stop, error] = std::from_chars(token.text.data(), end, value);
  if (token.is_string || error != std::errc{} || stop != end) return std::nullopt;
  return value;
}

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
  std::optional<JsonToken> scalar() {
    skip_blanks();
    if (rest_.starts_with('"')) return quoted();
    const auto end = rest_.find_first_not_of("+-.0123456789abcdefghijklmnopqrstuvwxyzE");
    const JsonToken token{rest_.substr(0, end), false};
    rest_.remove_prefix(token.text.size());
    return token.text.empty() ? std::nullopt : std::optional{token};
  }

 private:
  std::optional<JsonToken> quoted() {
    for (std::size_t i = 1; i < rest_.size(); ++i) {
      const auto byte = static_cast<unsigned char>(rest_[i]);
      if (byte < 0x20) return std::nullopt;
      if (byte == '"') {
        const JsonToken token{rest_.substr(1, i - 1), true};
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

// One `"key": value` to put.
Status read_pair(Cursor& cursor, const Put& put) {
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
  return put(key->text, *value);
}

}  // namespace

std::optional<std::uint64_t> whole_number(const JsonToken& token) {
  return read_number<std::uint64_t>(token);
}

std::optional<double> number(const JsonToken& token) { return read_number<double>(token); }

Status not_allowed(std::string_view key, const JsonToken& value, std::string_view allowed) {
  if (!value.is_string) return not_allowed(key, value.text, allowed);
  return not_allowed(key, fmt::format("\"{}\"", value.text), allowed);
}

Status unknown_key(std::string_view key, std::span<const std::string_view> keys) {
  if (const auto match = closest_match(key, keys)) {
    return bad(fmt::format("{}: unknown key; did you mean '{}'?", printable(key), *match));
  }
  return bad(fmt::format("{}: unknown key; allowed: {}", printable(key), fmt::join(keys, ", ")));
}

Status read_flat_object(std::string_view line, std::string_view example, const Put& put) {
  Cursor cursor{line};
  if (!cursor.take('{')) {
    return bad(fmt::format("{} is no JSON object; allowed: as {}", printable(line), example));
  }
  if (!cursor.take('}')) {
    do {
      if (Status status = read_pair(cursor, put); !status.ok()) return status;
    } while (cursor.take(','));
    if (!cursor.take('}')) return bad("the object is not closed; allowed: one object on a line");
  }
  if (cursor.at_end()) return {};
  return bad(
      fmt::format("{} after the object; allowed: one object on a line", printable(cursor.rest())));
}

}  // namespace forebay::trace
