// A flat map out of a YAML text, without trusting it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "forebay/status.hpp"

namespace forebay::detail {

// One `key: value` as it stands in the file.
struct YamlEntry {
  std::string key;
  std::string text;
  bool quoted = false;
  bool null = false;
  int line = 0;  // from 1
};

// Reads all entries, in order. Errors: invalid_argument as "source:line: …" for anything
// but one flat map of scalars: syntax errors, nesting, aliases, anchors, tags, a key twice,
// more than one document. Nothing is expanded or built, so a hostile text costs no more
// than its length.
Result<std::vector<YamlEntry>> read_flat_yaml(std::string_view yaml, const std::string& source);

}  // namespace forebay::detail
