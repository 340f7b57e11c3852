// One maker a policy; make_policy() calls them. A family of policies has a file of its own.
#pragma once

#include <memory>

#include "cache/policy.hpp"

namespace forebay::detail {

std::unique_ptr<EvictionPolicy> make_lru(const PolicyOptions& options);
std::unique_ptr<EvictionPolicy> make_lfu(const PolicyOptions& options);
std::unique_ptr<EvictionPolicy> make_random(const PolicyOptions& options);
std::unique_ptr<EvictionPolicy> make_utility(const PolicyOptions& options);
std::unique_ptr<EvictionPolicy> make_hybrid(const PolicyOptions& options);
std::unique_ptr<EvictionPolicy> make_fifo(const PolicyOptions& options);
std::unique_ptr<EvictionPolicy> make_clock(const PolicyOptions& options);
std::unique_ptr<EvictionPolicy> make_sieve(const PolicyOptions& options);
std::unique_ptr<EvictionPolicy> make_wtinylfu(const PolicyOptions& options);
std::unique_ptr<EvictionPolicy> make_gdsf(const PolicyOptions& options);

// With ghosts.

// Learned.

}  // namespace forebay::detail
