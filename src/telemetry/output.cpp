#include "telemetry/output.hpp"

#include <fmt/format.h>

#include "base/text.hpp"

namespace forebay::detail {

std::string to_utf8(std::string_view text) {
  std::string valid;
  valid.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    if (length == 0) {
      valid += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[0]));
    } else {
      valid += text.substr(0, length);
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return valid;
}

}  // namespace forebay::detail
