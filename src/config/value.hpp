// Reading one value of the schema.
#pragma once

#include <string>
#include <string_view>

#include "forebay/config.hpp"

namespace forebay::detail {

// A value as it was written, before its type is known.
struct RawValue {
  std::string_view text;
  bool quoted = false;  // "42" in YAML: text, never a number
  bool null = false;    // nothing, ~ or null in YAML
};

// Writes the value into the option's field of `config`. Error: invalid_argument saying
// "<value> is not allowed; allowed: …", without a place; `config` is then unchanged.
Status assign(Config& config, const ConfigOption& option, const RawValue& value);

}  // namespace forebay::detail
