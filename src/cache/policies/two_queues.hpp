// TwoQueuesPolicy: what s3fifo and twoq share. Newcomers go to a queue of their own; names of those
// who left it without having earned their place are remembered, and who comes back in time goes to
// the main queue.
#pragma once

#include <cstdint>
#include <vector>

#include "cache/ghosts.hpp"
#include "cache/known_facts.hpp"
#include "cache/policies/weighed_list.hpp"
#include "cache/policy.hpp"

namespace forebay::detail {

class TwoQueuesPolicy : public EvictionPolicy {
 public:
  void use_facts(const EntryFactsSource& source) noexcept override { facts_.use(source); }

  void missed(const EntryFacts& incoming) override {
    asked_for_ = incoming.hash;
    newcomer_ = !ghosts_.forget(incoming.hash);
  }

  std::uint32_t likely_victims(std::span<EntryId> entries) const noexcept override {
    const std::uint32_t count = newcomers_.some_oldest(nodes_, entries.first(entries.size() / 2));
    return count + main_.some_oldest(nodes_, entries.subspan(count));
  }

  void evicted(EntryId id) noexcept override {
    const KnownFacts::Facts facts = facts_[id];
    queue_of(id).remove(nodes_, id, facts.bytes);
    if (!in_main(id)) ghosts_.add(facts.hash, facts.bytes);
  }

  void inserted(EntryId id, const EntryFacts& facts) override {
    facts_.make_room(id);
    if (id >= nodes_.size()) {
      nodes_.make_room(id);
      limit_names();
    }
    const KnownFacts::Told told{facts_, id, facts};
    // Who comes without having been asked for was in a cache before, and is no newcomer.
    const bool newcomer = newcomer_ && asked_for_ == facts.hash;
    nodes_[id].set_mark(newcomer ? 0 : kMainMark);
    queue_of(id).add_newest(nodes_, id, facts.bytes);
    newcomer_ = false;
  }

  void erased(EntryId id) noexcept override { queue_of(id).remove(nodes_, id, facts_.bytes(id)); }

  void updated(EntryId id, const EntryFacts& facts) noexcept override {
    queue_of(id).weigh(facts_.bytes(id), facts.bytes);
    const KnownFacts::Told told{facts_, id, facts};
    hit(id);
  }

  void order(std::vector<EntryId>& entries) const override {
    newcomers_.append_to(nodes_, entries);
    main_.append_to(nodes_, entries);
  }

  std::size_t metadata_bytes() const noexcept override {
    return nodes_.metadata_bytes() + facts_.metadata_bytes() + ghosts_.metadata_bytes();
  }

 protected:
  // A node's mark: whether it is in the main queue, and hits.
  static constexpr unsigned kMainMark = 4;
  static constexpr unsigned kHitsMask = 3;

  bool in_main(EntryId id) const noexcept { return (nodes_[id].mark() & kMainMark) != 0; }
  WeighedList<>& queue_of(EntryId id) noexcept { return in_main(id) ? main_ : newcomers_; }
  // Names of so many bytes, and of so many sixteenths of the most entries that there have been at a
  // time: the room for names is charged to entries.
  void remember(std::uint64_t bytes, std::size_t sixteenths) noexcept {
    remembered_ = bytes;
    sixteenths_ = sixteenths;
    limit_names();
  }

  EntryTable<EntryLinks> nodes_;
  KnownFacts facts_;
  WeighedList<> newcomers_;
  WeighedList<> main_;

 private:
  void limit_names() noexcept { ghosts_.set_limits(nodes_.size() * sixteenths_ / 16, remembered_); }

  Ghosts ghosts_;
  std::uint64_t remembered_ = 0;
  std::size_t sixteenths_ = 16;
  std::uint64_t asked_for_ = 0;
  bool newcomer_ = false;
};

}  // namespace forebay::detail
