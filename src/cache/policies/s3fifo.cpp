// S3-FIFO: a small queue, a main queue, and names of what left the small one.
// Yang et al., "FIFO Queues are All You Need for Cache Eviction", SOSP 2023. Sizes are bytes here.
#include <algorithm>

#include "cache/policies/makers.hpp"
#include "cache/policies/two_queues.hpp"

namespace forebay::detail {
namespace {

// The paper's: a tenth for the small queue; two hits there lead to the main one; hits are counted
// up to three.
constexpr std::uint64_t kSmallPart = 10;
constexpr unsigned kPromotionHits = 2;
constexpr unsigned kMaxHits = 3;

class S3FifoPolicy final : public TwoQueuesPolicy {
 public:
  explicit S3FifoPolicy(const PolicyOptions& options) noexcept { set_capacity(options.capacity); }

  PolicyKind kind() const noexcept override { return PolicyKind::s3fifo; }

  void hit(EntryId id) noexcept override {
    const unsigned mark = nodes_[id].mark();
    if ((mark & kHitsMask) < kMaxHits) nodes_[id].set_mark(mark + 1);
  }

  EntryId victim(const EntryFacts& /*incoming*/) noexcept override {
    // Every round moves an entry of the small queue, or takes a hit off one of the main queue.
    for (;;) {
      const bool from_main = newcomers_.empty() || (!main_.empty() && main_.bytes() > main_target_);
      const EntryId id = (from_main ? main_ : newcomers_).oldest();
      const unsigned mark = nodes_[id].mark();
      const unsigned hits = mark & kHitsMask;
      if (from_main) {
        if (hits == 0) return id;
        nodes_[id].set_mark(mark - 1);
        main_.renew(nodes_, id);
      } else {
        if (hits < kPromotionHits) return id;
        const std::uint64_t bytes = facts_.bytes(id);
        newcomers_.remove(nodes_, id, bytes);
        nodes_[id].set_mark(kMainMark);
        main_.add_newest(nodes_, id, bytes);
      }
    }
  }

  void resized(std::uint64_t capacity) override { set_capacity(capacity); }

 private:
  void set_capacity(std::uint64_t capacity) noexcept {
    main_target_ = capacity - std::max<std::uint64_t>(capacity / kSmallPart, 1);
    // A little more than with entries of one size, as those who go are smaller than those who stay.
    remember(main_target_, 18);
  }

  std::uint64_t main_target_ = 0;
};

}  // namespace

std::unique_ptr<EvictionPolicy> make_s3fifo(const PolicyOptions& options) {
  return std::make_unique<S3FifoPolicy>(options);
}

}  // namespace forebay::detail
