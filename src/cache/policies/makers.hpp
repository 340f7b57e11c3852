// One maker a policy; make_policy() calls them. A family of policies has a file of its own.
#pragma once

#include <memory>

#include "cache/policy.hpp"

namespace forebay::detail {

std::unique_ptr<EvictionPolicy> make_lru(const PolicyOptions& options);
std::unique_ptr<EvictionPolicy> make_fifo(const PolicyOptions& options);

// With ghosts.

// Learned.

}  // namespace forebay::detail
