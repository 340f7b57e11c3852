#include "telemetry/json.hpp"

#include <fmt/format.h>

#include <cmath>
#include <string>

namespace forebay::detail {

void JsonDocument::separate() {
  if (comma_) out_.put(',');
  if (broken_) out_.put('\n');
  comma_ = true;
  broken_ = false;
}

void JsonDocument::begin(char bracket) {
  separate();
  out_.put(bracket);
  comma_ = false;
}

void JsonDocument::end(char bracket) {
  out_.put(bracket);
  comma_ = true;
  broken_ = false;
}

void JsonDocument::quoted(std::string_view text) {
  std::string escaped{'"'};
  for (const char c : to_utf8(text)) {
    if (c == '"' || c == '\\') {
      escaped += '\\';
      escaped += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      escaped += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
    } else {
      escaped += c;
    }
  }
  out_.put(escaped += '"');
}

void JsonDocument::key(std::string_view name) {
  separate();
  quoted(name);
  out_.put(':');
  comma_ = false;
}

void JsonDocument::text(std::string_view text) {
  separate();
  quoted(text);
}

void JsonDocument::number(std::uint64_t value) {
  separate();
  out_.put(fmt::format_int{value}.c_str());
}

void JsonDocument::real(double value) {
  separate();
  out_.put(fmt::format("{}", std::isfinite(value) ? value : 0.0));
}

void JsonDocument::boolean(bool value) {
  separate();
  out_.put(value ? "true" : "false");
}

void JsonDocument::pair(std::uint64_t first, std::uint64_t second) {
  begin_list();
  number(first);
  number(second);
  end_list();
}

void JsonDocument::line_break() { broken_ = true; }

}  // namespace forebay::detail
