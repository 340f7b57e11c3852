#include "telemetry/text.hpp"

#include <fmt/format.h>

namespace forebay::detail {
namespace {

bool continues(std::string_view text, std::size_t at, unsigned char least = 0x80,
               unsigned char most = 0xBF) noexcept {
  const auto byte = static_cast<unsigned char>(text[at]);
  return byte >= least && byte <= most;
}

}  // namespace

// Table 3-7 of the Unicode standard.
std::size_t utf8_length(std::string_view text) noexcept {
  const auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (text.size() < length) return 0;
  const unsigned char least = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned char most = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (!continues(text, 1, least, most)) return 0;
  for (std::size_t i = 2; i < length; ++i) {
    if (!continues(text, i)) return 0;
  }
  return length;
}

std::string printable_text(std::string_view text) {
  constexpr std::size_t kMost = 120;
  std::string result;
  for (std::size_t shown = 0; !text.empty(); ++shown) {
    if (shown == kMost) return result + "...";
    const std::size_t length = utf8_length(text);
    const auto byte = static_cast<unsigned char>(text[0]);
    if (length == 0 || byte < 0x20 || byte == 0x7F) {
      result += fmt::format("\\x{:02x}", byte);
    } else {
      result += text.substr(0, length);
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return result;
}

}  // namespace forebay::detail
