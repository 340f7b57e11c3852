// 2Q, the full version: a queue of newcomers, names of those who left it, and an LRU list of those
// who came back. Johnson and Shasha, "2Q: A Low Overhead High Performance Buffer Management
// Replacement Algorithm", VLDB 1994. Pages are bytes here.
#include <algorithm>

#include "cache/policies/makers.hpp"
#include "cache/policies/two_queues.hpp"

namespace forebay::detail {
namespace {

class TwoQPolicy final : public TwoQueuesPolicy {
 public:
  explicit TwoQPolicy(const PolicyOptions& options) noexcept { set_capacity(options.capacity); }

  PolicyKind kind() const noexcept override { return PolicyKind::twoq; }

  // In the queue of newcomers a hit is taken for the same use of the page, and does nothing.
  void hit(EntryId id) noexcept override {
    if (in_main(id)) main_.renew(nodes_, id);
  }

  EntryId victim(const EntryFacts& /*incoming*/) noexcept override {
    const bool from_in =
        main_.empty() || (!newcomers_.empty() && newcomers_.bytes() > newcomers_target_);
    return (from_in ? newcomers_ : main_).oldest();
  }

  void resized(std::uint64_t capacity) override { set_capacity(capacity); }

 private:
  // The paper's shares: a quarter for newcomers, names for half of the pages.
  void set_capacity(std::uint64_t capacity) noexcept {
    newcomers_target_ = std::max<std::uint64_t>(capacity / 4, 1);
    remember(std::max<std::uint64_t>(capacity / 2, 1), 9);
  }

  std::uint64_t newcomers_target_ = 0;
};

}  // namespace

std::unique_ptr<EvictionPolicy> make_twoq(const PolicyOptions& options) {
  return std::make_unique<TwoQPolicy>(options);
}

}  // namespace forebay::detail
