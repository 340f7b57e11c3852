// 2Q, the full version: a queue of newcomers, names of those who left it, and an LRU list of those
// who came back. Johnson and Shasha, "2Q: A Low Overhead High Performance Buffer Management
// Replacement Algorithm", VLDB 1994. Pages are bytes here.
#include <algorithm>
#include <limits>

#include "cache/ghosts.hpp"
#include "cache/policies/makers.hpp"
#include "cache/policies/weighed_list.hpp"

namespace forebay::detail {
namespace {

class TwoQPolicy final : public EvictionPolicy {
 public:
  explicit TwoQPolicy(const PolicyOptions& options) noexcept { set_capacity(options.capacity); }

  PolicyKind kind() const noexcept override { return PolicyKind::twoq; }

  // In the queue of newcomers a hit is taken for the same use of the page, and does nothing.
  void hit(EntryId id) noexcept override {
    if (nodes_[id].list == kMain) main_.renew(nodes_, id);
  }

  void missed(const EntryFacts& incoming) override {
    asked_for_ = incoming.hash;
    newcomer_ = !ghosts_.forget(incoming.hash);
  }

  EntryId victim(const EntryFacts& /*incoming*/) noexcept override {
    const bool from_in = main_.empty() || (!in_.empty() && in_.bytes() > in_target_);
    return (from_in ? in_ : main_).oldest();
  }

  void evicted(EntryId id) noexcept override {
    const WeighedNode& node = nodes_[id];
    const bool probation = node.list == kIn;
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
    (newcomer ? in_ : main_).add_newest(nodes_, id);
    newcomer_ = false;
  }

  void erased(EntryId id) noexcept override { list_of(id).remove(nodes_, id); }

  void updated(EntryId id, const EntryFacts& facts) noexcept override {
    list_of(id).weigh(nodes_, id, facts.bytes);
    hit(id);
  }

  void resized(std::uint64_t capacity) override { set_capacity(capacity); }

  void order(std::vector<EntryId>& entries) const override {
    in_.append_to(nodes_, entries);
    main_.append_to(nodes_, entries);
  }

  std::size_t metadata_bytes() const noexcept override {
    return nodes_.metadata_bytes() + ghosts_.metadata_bytes();
  }

 private:
  static constexpr std::uint8_t kIn = 0;
  static constexpr std::uint8_t kMain = 1;

  WeighedList& list_of(EntryId id) noexcept { return nodes_[id].list == kIn ? in_ : main_; }
  // The paper's shares: a quarter for newcomers, names for half of the pages.
  void set_capacity(std::uint64_t capacity) noexcept {
    in_target_ = std::max<std::uint64_t>(capacity / 4, 1);
    ghosts_.set_limits(std::numeric_limits<std::size_t>::max(),
                       std::max<std::uint64_t>(capacity / 2, 1));
  }

  EntryTable<WeighedNode> nodes_;
  WeighedList in_{kIn};
  WeighedList main_{kMain};
  Ghosts ghosts_;
  std::uint64_t in_target_ = 0;
  std::uint64_t asked_for_ = 0;
  bool newcomer_ = false;
};

}  // namespace

std::unique_ptr<EvictionPolicy> make_twoq(const PolicyOptions& options) {
  return std::make_unique<TwoQPolicy>(options);
}

}  // namespace forebay::detail
