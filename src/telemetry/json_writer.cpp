#include "telemetry/json_writer.hpp"

#include "base/text.hpp"

namespace forebay::detail {

void JsonWriter::value(std::string_view text) {
  constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD
  separate();
  put('"');
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    const auto byte = static_cast<unsigned char>(text[0]);
    if (length == 0) {
      put(kReplacement);
    } else if (byte < 0x20 || byte == '"' || byte == '\\') {
      put_escaped(byte);
    } else {
      put(text.substr(0, length));
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  put('"');
}

void JsonWriter::put_escaped(unsigned char c) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  put('\\');
  if (c >= 0x20) return put(static_cast<char>(c));
  put("u00");
  put(kDigits[c >> 4U]);
  put(kDigits[c & 0xFU]);
}

void JsonWriter::flush() {
  if (status_.ok()) status_ = sink_.write({buffer_.data(), used_});
  used_ = 0;
}

Status JsonWriter::finish() {
  put('\n');
  flush();
  if (status_.ok()) status_ = sink_.finish();
  return status_;
}

}  // namespace forebay::detail
