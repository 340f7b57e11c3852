// A budget of the C door.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "c/boundary.hpp"
#include "forebay/budget.hpp"

// NOLINTNEXTLINE(readability-identifier-naming): C's name of it
struct forebay_budget {
  forebay_budget(const char* name, forebay::Bytes limit) : budget(name, {.limit = limit}) {}

  forebay::Budget budget;
  std::atomic<std::uint64_t> caches{0};  // charged to it
};
