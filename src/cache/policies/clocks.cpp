// clock and sieve: a queue and one bit an entry. A hit sets the bit and moves nothing.
#include "cache/entry_list.hpp"
#include "cache/policies/makers.hpp"

namespace forebay::detail {
namespace {

// The mark says whether it was visited.
class BitNode : public EntryLinks {
 public:
  bool visited() const noexcept { return mark() != 0; }
  void visit() noexcept { set_mark(1); }
  void clear() noexcept { set_mark(0); }
};

// Whoever is not visited goes first, both in the order of the walk that begins at `start`, goes
// towards newer entries and wraps around.
void append_walk(const EntryTable<BitNode>& nodes, const EntryList<BitNode>& list, EntryId start,
                 std::vector<EntryId>& entries) {
  entries.reserve(entries.size() + list.size());
  for (const bool visited : {false, true}) {
    EntryId id = start;
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (nodes[id].visited() == visited) entries.push_back(id);
      id = nodes[id].newer() == kNoEntry ? list.oldest() : nodes[id].newer();
    }
  }
}

class BitPolicy : public EvictionPolicy {
 public:
  std::size_t next_victims(std::span<EntryId> entries) const noexcept override {
    constexpr std::uint32_t kLooks = 8;
    std::size_t count = 0;
    EntryId id = start();
    for (std::uint32_t i = 0; i != kLooks && count != entries.size() && id != kNoEntry; ++i) {
      if (!nodes_[id].visited()) entries[count++] = id;
      id = nodes_[id].newer();
    }
    return count;
  }
  void hit(EntryId id) noexcept override { nodes_[id].visit(); }
  void missed(const EntryFacts& /*incoming*/) override {}
  void inserted(EntryId id, const EntryFacts& /*facts*/) override {
    nodes_.make_room(id);
    nodes_[id].clear();
    list_.add_newest(nodes_, id);
  }
  void evicted(EntryId id) noexcept override { erased(id); }
  void updated(EntryId id, const EntryFacts& /*facts*/) noexcept override { hit(id); }
  void resized(std::uint64_t /*capacity*/) override {}
  std::size_t metadata_bytes() const noexcept override { return nodes_.metadata_bytes(); }

 protected:
  // Where the walk for a victim begins.
  virtual EntryId start() const noexcept { return list_.oldest(); }

  EntryTable<BitNode> nodes_;
  EntryList<BitNode> list_;
};

// Corbató, "A paging experiment with the Multics system", 1968: the oldest goes unless it was
// visited; then it is among the newest again, its bit cleared.
class ClockPolicy final : public BitPolicy {
 public:
  PolicyKind kind() const noexcept override { return PolicyKind::clock; }
  EntryId victim(const EntryFacts& /*incoming*/) noexcept override {
    while (nodes_[list_.oldest()].visited()) {
      const EntryId id = list_.oldest();
      nodes_[id].clear();
      list_.renew(nodes_, id);
    }
    return list_.oldest();
  }
  void erased(EntryId id) noexcept override { list_.remove(nodes_, id); }
  void order(std::vector<EntryId>& entries) const override {
    append_walk(nodes_, list_, list_.oldest(), entries);
  }
};

// Zhang, Yang, Yue, Vigfusson, Rashmi, "SIEVE is simpler than LRU", NSDI 2024: a hand walks from
// the oldest to the newest and around, clears bits and takes the first that has none. Visited
// entries stay where they are, so new ones are sifted out between them.
class SievePolicy final : public BitPolicy {
 public:
  PolicyKind kind() const noexcept override { return PolicyKind::sieve; }
  EntryId victim(const EntryFacts& /*incoming*/) noexcept override {
    hand_ = at_hand();
    while (nodes_[hand_].visited()) {
      nodes_[hand_].clear();
      hand_ = nodes_[hand_].newer();
      hand_ = at_hand();
    }
    return hand_;
  }
  void erased(EntryId id) noexcept override {
    if (id == hand_) hand_ = nodes_[id].newer();
    list_.remove(nodes_, id);
  }
  void order(std::vector<EntryId>& entries) const override {
    append_walk(nodes_, list_, at_hand(), entries);
  }

 private:
  EntryId start() const noexcept override { return at_hand(); }
  EntryId at_hand() const noexcept { return hand_ == kNoEntry ? list_.oldest() : hand_; }

  EntryId hand_ = kNoEntry;  // kNoEntry: at the oldest
};

}  // namespace

std::unique_ptr<EvictionPolicy> make_clock(const PolicyOptions& /*options*/) {
  return std::make_unique<ClockPolicy>();
}
std::unique_ptr<EvictionPolicy> make_sieve(const PolicyOptions& /*options*/) {
  return std::make_unique<SievePolicy>();
}

}  // namespace forebay::detail
