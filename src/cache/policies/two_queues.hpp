// TwoQueuesPolicy: what s3fifo and twoq share. Newcomers go to a queue of their own; names of those
// who left it without having earned their place are remembered, and who comes back in time goes to
// the main queue.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "cache/ghosts.hpp"
#include "cache/policies/weighed_list.hpp"
#include "cache/policy.hpp"

namespace forebay::detail {

class TwoQueuesPolicy : public EvictionPolicy {
 public:
  void missed(const EntryFacts& incoming) override {
    asked_for_ = incoming.hash;
    newcomer_ = !ghosts_.forget(incoming.hash);
  }

  void evicted(EntryId id) noexcept override {
    const WeighedNode& node = nodes_[id];
    const bool is_newcomer = node.list == kNewcomers;
    list_of(id).remove(nodes_, id);
    if (is_newcomer) ghosts_.add(node.hash, node.bytes);
  }

  void inserted(EntryId id, const EntryFacts& facts) override {
    nodes_.make_room(id);
    nodes_[id] = {};
    nodes_[id].hash = facts.hash;
    nodes_[id].bytes = facts.bytes;
    // Who comes without having been asked for was in a cache before, and is no newcomer.
    const bool newcomer = newcomer_ && asked_for_ == facts.hash;
    (newcomer ? newcomers_ : main_).add_newest(nodes_, id);
    newcomer_ = false;
  }

  void erased(EntryId id) noexcept override { list_of(id).remove(nodes_, id); }

  void updated(EntryId id, const EntryFacts& facts) noexcept override {
    list_of(id).weigh(nodes_, id, facts.bytes);
    hit(id);
  }

  void order(std::vector<EntryId>& entries) const override {
    newcomers_.append_to(nodes_, entries);
    main_.append_to(nodes_, entries);
  }

  std::size_t metadata_bytes() const noexcept override {
    return nodes_.metadata_bytes() + ghosts_.metadata_bytes();
  }

 protected:
  static constexpr std::uint8_t kNewcomers = 0;
  static constexpr std::uint8_t kMain = 1;

  WeighedList& list_of(EntryId id) noexcept {
    return nodes_[id].list == kNewcomers ? newcomers_ : main_;
  }
  void remember(std::uint64_t bytes) noexcept {
    ghosts_.set_limits(std::numeric_limits<std::size_t>::max(), bytes);
  }

  EntryTable<WeighedNode> nodes_;
  WeighedList newcomers_{kNewcomers};
  WeighedList main_{kMain};

 private:
  Ghosts ghosts_;
  std::uint64_t asked_for_ = 0;
  bool newcomer_ = false;
};

}  // namespace forebay::detail
