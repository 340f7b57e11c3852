// Reads flat JSON objects, one a line. Nothing is built of them, and nothing nests, so that a
// hostile line costs no more than its length.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>

#include "forebay/status.hpp"

namespace forebay::trace {

struct JsonToken {
  std::string_view text;  // a string without its quotes, escapes as written; else as written
  bool is_string = false;
};

// The token as a whole number, or as any number; none if it is a string.
std::optional<std::uint64_t> whole_number(const JsonToken& token);
std::optional<double> number(const JsonToken& token);

// "key: value is not allowed; allowed: …", a string in its quotes.
Status not_allowed(std::string_view key, const JsonToken& value, std::string_view allowed);

// Gives each key of the line's object, and its value, to `put`, and returns the first error.
// Errors: those of put; invalid_argument, which for what is no object says "allowed: as
// <example>".
Status read_flat_object(std::string_view line, std::string_view example,
                        const std::function<Status(std::string_view, const JsonToken&)>& put);

// "key: unknown key; …": what was meant, or all there are.
Status unknown_key(std::string_view key, std::span<const std::string_view> keys);

}  // namespace forebay::trace
