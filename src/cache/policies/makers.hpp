// One maker a policy; make_policy() calls them. A family of policies has a file of its own.
#pragma once

#include <memory>

#include "cache/policy.hpp"

namespace forebay::detail {

std::unique_ptr<EvictionPolicy> make_lru(const PolicyOptions& options);
std::unique_ptr<EvictionPolicy> make_fifo(const PolicyOptions& options);

// With ghosts.
std::unique_ptr<EvictionPolicy> make_s3fifo(const PolicyOptions& options);
std::unique_ptr<EvictionPolicy> make_arc(const PolicyOptions& options);
std::unique_ptr<EvictionPolicy> make_lirs(const PolicyOptions& options);
std::unique_ptr<EvictionPolicy> make_twoq(const PolicyOptions& options);

// Learned.
std::unique_ptr<EvictionPolicy> make_learned(const PolicyOptions& options);

}  // namespace forebay::detail
