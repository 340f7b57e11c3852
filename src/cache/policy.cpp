#include "cache/policy.hpp"

#include <algorithm>
#include <array>

#include "cache/policies/makers.hpp"

namespace forebay::detail {
namespace {

constexpr std::array<std::string_view, kPolicyKinds> kNames{
    "lru",    "lfu", "random", "utility", "hybrid",   "fifo", "clock",   "sieve",
    "s3fifo", "arc", "lirs",   "twoq",    "wtinylfu", "gdsf", "learned", "auto"};

}  // namespace

std::string_view to_string(PolicyKind kind) noexcept {
  return kNames.at(static_cast<std::size_t>(kind));
}

std::optional<PolicyKind> policy_kind(std::string_view name) noexcept {
  const auto* const found = std::find(kNames.begin(), kNames.end(), name);
  if (found == kNames.end()) return std::nullopt;
  return static_cast<PolicyKind>(found - kNames.begin());
}

std::unique_ptr<EvictionPolicy> make_policy(PolicyKind kind, const PolicyOptions& options) {
  switch (kind) {
    case PolicyKind::lru:
      return make_lru(options);
    case PolicyKind::lfu:
      return make_lfu(options);
    case PolicyKind::random:
      return make_random(options);
    case PolicyKind::utility:
      return make_utility(options);
    case PolicyKind::hybrid:
      return make_hybrid(options);
    case PolicyKind::fifo:
      return make_fifo(options);
    case PolicyKind::clock:
      return make_clock(options);
    case PolicyKind::sieve:
      return make_sieve(options);
    case PolicyKind::wtinylfu:
      return make_wtinylfu(options);
    case PolicyKind::gdsf:
      return make_gdsf(options);

    // With ghosts.
    case PolicyKind::s3fifo:
      return nullptr;
    case PolicyKind::arc:
      return nullptr;
    case PolicyKind::lirs:
      return nullptr;
    case PolicyKind::twoq:
      return nullptr;

    // Learned.
    case PolicyKind::learned:
      return nullptr;

    default:
      return nullptr;
  }
}

}  // namespace forebay::detail
