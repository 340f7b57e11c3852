// S3-FIFO: a small queue, a main queue, and names of what left the small one.
// Yang et al., "FIFO Queues are All You Need for Cache Eviction", SOSP 2023. Sizes are bytes here.
#include <algorithm>
#include <limits>

#include "cache/ghosts.hpp"
#include "cache/policies/makers.hpp"
#include "cache/policies/weighed_list.hpp"

namespace forebay::detail {
namespace {

// The paper's: a tenth for the small queue; two hits there lead to the main one; hits are counted
// up to three.
constexpr std::uint64_t kSmallPart = 10;
constexpr std::uint8_t kPromotionHits = 2;
constexpr std::uint8_t kMaxHits = 3;

class S3FifoPolicy final : public EvictionPolicy {
 public:
  explicit S3FifoPolicy(const PolicyOptions& options) noexcept { set_capacity(options.capacity); }

  PolicyKind kind() const noexcept override { return PolicyKind::s3fifo; }

  void hit(EntryId id) noexcept override {
    std::uint8_t& hits = nodes_[id].hits;
    hits = std::min<std::uint8_t>(kMaxHits, static_cast<std::uint8_t>(hits + 1));
  }

  void missed(const EntryFacts& incoming) override {
    asked_for_ = incoming.hash;
    newcomer_ = !ghosts_.forget(incoming.hash);
  }

  EntryId victim(const EntryFacts& /*incoming*/) noexcept override {
    // Every round moves an entry of the small queue, or takes a hit off one of the main queue.
    for (;;) {
      const bool from_main = small_.empty() || (!main_.empty() && main_.bytes() > main_target_);
      WeighedList& queue = from_main ? main_ : small_;
      const EntryId id = queue.oldest();
      std::uint8_t& hits = nodes_[id].hits;
      if (from_main) {
        if (hits == 0) return id;
        --hits;
        main_.renew(nodes_, id);
      } else {
        if (hits < kPromotionHits) return id;
        hits = 0;
        small_.remove(nodes_, id);
        main_.add_newest(nodes_, id);
      }
    }
  }

  void evicted(EntryId id) noexcept override {
    const WeighedNode& node = nodes_[id];
    const bool probation = node.list == kSmall;
    list_of(id).remove(nodes_, id);
    if (probation) ghosts_.add(node.hash, node.bytes);
  }

  void inserted(EntryId id, const EntryFacts& facts) override {
    nodes_.make_room(id);
    nodes_[id] = {};
    nodes_[id].hash = facts.hash;
    nodes_[id].bytes = facts.bytes;
    // Who comes without having been asked for was in a cache before, and is no newcomer.
    const bool newcomer = newcomer_ && asked_for_ == facts.hash;
    (newcomer ? small_ : main_).add_newest(nodes_, id);
    newcomer_ = false;
  }

  void erased(EntryId id) noexcept override { list_of(id).remove(nodes_, id); }

  void updated(EntryId id, const EntryFacts& facts) noexcept override {
    list_of(id).weigh(nodes_, id, facts.bytes);
    hit(id);
  }

  void resized(std::uint64_t capacity) override { set_capacity(capacity); }

  void order(std::vector<EntryId>& entries) const override {
    small_.append_to(nodes_, entries);
    main_.append_to(nodes_, entries);
  }

  std::size_t metadata_bytes() const noexcept override {
    return nodes_.metadata_bytes() + ghosts_.metadata_bytes();
  }

 private:
  static constexpr std::uint8_t kSmall = 0;
  static constexpr std::uint8_t kMain = 1;

  WeighedList& list_of(EntryId id) noexcept { return nodes_[id].list == kSmall ? small_ : main_; }
  void set_capacity(std::uint64_t capacity) noexcept {
    main_target_ = capacity - std::max<std::uint64_t>(capacity / kSmallPart, 1);
    ghosts_.set_limits(std::numeric_limits<std::size_t>::max(), main_target_);
  }

  EntryTable<WeighedNode> nodes_;
  WeighedList small_{kSmall};
  WeighedList main_{kMain};
  Ghosts ghosts_;
  std::uint64_t main_target_ = 0;
  std::uint64_t asked_for_ = 0;
  bool newcomer_ = false;
};

}  // namespace

std::unique_ptr<EvictionPolicy> make_s3fifo(const PolicyOptions& options) {
  return std::make_unique<S3FifoPolicy>(options);
}

}  // namespace forebay::detail
