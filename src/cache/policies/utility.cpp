// utility: the lowest user's score goes first; of equal scores, who was not asked for the longest.
#include <cmath>
#include <limits>

#include "cache/entry_heap.hpp"
#include "cache/policies/makers.hpp"

namespace forebay::detail {
namespace {

struct UtilitySlot {
  std::uint64_t stamp;
  float utility;
  EntryId id;

  bool operator<(const UtilitySlot& other) const noexcept {
    return utility != other.utility ? utility < other.utility : stamp < other.stamp;
  }
};

// A score that is no number is below all numbers: it must not disturb the order of the others.
float score_of(const EntryFacts& facts) noexcept {
  return std::isnan(facts.utility) ? -std::numeric_limits<float>::infinity() : facts.utility;
}

class UtilityPolicy final : public EvictionPolicy {
 public:
  PolicyKind kind() const noexcept override { return PolicyKind::utility; }
  void hit(EntryId id) noexcept override { heap_.change({stamp_++, heap_.slot(id).utility, id}); }
  void missed(const EntryFacts& /*incoming*/) override {}
  // A newcomer below all others would be the first to go, and is not let in.
  EntryId victim(const EntryFacts& incoming) noexcept override {
    const UtilitySlot& lowest = heap_.top();
    if (incoming.bytes != 0 && score_of(incoming) < lowest.utility) return kNoEntry;
    return lowest.id;
  }
  void evicted(EntryId id) noexcept override { heap_.remove(id); }
  void inserted(EntryId id, const EntryFacts& facts) override {
    heap_.make_room(id);
    heap_.add({stamp_++, score_of(facts), id});
  }
  void erased(EntryId id) noexcept override { heap_.remove(id); }
  void updated(EntryId id, const EntryFacts& facts) noexcept override {
    heap_.change({stamp_++, score_of(facts), id});
  }
  void resized(std::uint64_t /*capacity*/) override {}
  void order(std::vector<EntryId>& entries) const override { heap_.append_to(entries); }
  std::size_t metadata_bytes() const noexcept override { return heap_.metadata_bytes(); }

 private:
  std::uint64_t stamp_ = 0;
  EntryHeap<UtilitySlot> heap_;
};

}  // namespace

std::unique_ptr<EvictionPolicy> make_utility(const PolicyOptions& /*options*/) {
  return std::make_unique<UtilityPolicy>();
}

}  // namespace forebay::detail
