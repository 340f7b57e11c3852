#include "track/retired_tags.hpp"

#include <array>
#include <atomic>

namespace forebay::detail {
namespace {

struct Sum {
  std::atomic<std::uint64_t> taken{0};
  std::atomic<std::uint64_t> given{0};
  std::atomic<std::uint64_t> bytes_taken{0};
  std::atomic<std::uint64_t> bytes_given{0};
};
constinit std::array<Sum, kMaxContexts> g_sums{};

}  // namespace

void retire_tag(ContextId context, const TagSum& sum) noexcept {
  Sum& to = g_sums[context];
  to.taken.fetch_add(sum.taken, std::memory_order_relaxed);
  to.given.fetch_add(sum.given, std::memory_order_relaxed);
  to.bytes_taken.fetch_add(sum.bytes_taken, std::memory_order_relaxed);
  to.bytes_given.fetch_add(sum.bytes_given, std::memory_order_relaxed);
}

void add_retired_tags(std::vector<TagSum>& sums) {
  for (std::size_t context = 0; context != sums.size(); ++context) {
    const Sum& from = g_sums[context];
    sums[context].taken += from.taken.load(std::memory_order_relaxed);
    sums[context].given += from.given.load(std::memory_order_relaxed);
    sums[context].bytes_taken += from.bytes_taken.load(std::memory_order_relaxed);
    sums[context].bytes_given += from.bytes_given.load(std::memory_order_relaxed);
  }
}

}  // namespace forebay::detail
