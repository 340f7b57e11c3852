// The pool configurations that a trace is replayed against.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "forebay/pool.hpp"

namespace forebay::trace {

struct PoolSetup {
  std::string name;
  std::string spec;     // its settings as text; empty: all defaults
  bool direct = false;  // no pool: straight to the device
  bool alignment_given = false;
  PoolOptions options;
};

inline constexpr std::size_t kMaxPools = 16;

// "NAME", one of the built-in ones; "NAME:key=value,key=value", a new one, or a built-in one
// with changes. Keys are the fields of PoolOptions, and direct. Error: invalid_argument in
// one line, with the name, the key, the value and what is allowed.
Result<PoolSetup> parse_pool(std::string_view text);
// Several, with names that differ; none: the built-in ones. Errors also: too many.
Result<std::vector<PoolSetup>> parse_pools(std::span<const std::string> texts, bool on_host);

}  // namespace forebay::trace
