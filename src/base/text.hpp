// Text from outside, as it may stand in messages and in JSON.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

// Used by component forebay::telemetry, which may be a library of its own.
#pragma GCC visibility push(default)
namespace forebay::detail {

// As it may stand in a one-line message: control characters, those that turn the direction of
// text, and bytes that are no UTF-8 escaped; cut after 120 characters.
std::string printable_text(std::string_view text);

// Bytes of the well-formed UTF-8 sequence that `text` begins with, without overlong forms,
// surrogates and what is beyond U+10FFFF; 0: it is none. REQUIRES: not empty.
std::size_t utf8_length(std::string_view text) noexcept;

}  // namespace forebay::detail
#pragma GCC visibility pop
