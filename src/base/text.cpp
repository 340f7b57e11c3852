#include "base/text.hpp"

#include <fmt/format.h>

namespace forebay::detail {
namespace {

bool continues(std::string_view text, std::size_t at, unsigned char least = 0x80,
               unsigned char most = 0xBF) noexcept {
  const auto byte = static_cast<unsigned char>(text[at]);
  return byte >= least && byte <= most;
}

// Whether a character moves a terminal, or shows what comes after it in another order.
bool deceives(std::string_view character) noexcept {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(character[i]); };
  if (character.size() == 1) return byte(0) < 0x20 || byte(0) == 0x7F;
  if (character.size() == 2) return byte(0) == 0xC2 && byte(1) < 0xA0;  // C1: U+0080 to U+009F
  if (character.size() != 3 || byte(0) != 0xE2) return false;
  return (byte(1) == 0x80 && byte(2) >= 0xAA && byte(2) <= 0xAE) ||  // U+202A to U+202E
         (byte(1) == 0x81 && byte(2) >= 0xA6 && byte(2) <= 0xA9);    // U+2066 to U+2069
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
    const std::string_view character = text.substr(0, length == 0 ? 1 : length);
    text.remove_prefix(character.size());
    if (length != 0 && !deceives(character)) {
      result += character;
      continue;
    }
    for (const char c : character) {
      result += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  return result;
}

}  // namespace forebay::detail
