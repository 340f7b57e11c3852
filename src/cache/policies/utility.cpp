// utility: the lowest user's score goes first; of equal scores, who was not asked for the longest.
#include <cmath>
#include <cstdint>

#include "cache/entry_heap.hpp"
#include "cache/policies/makers.hpp"
#include "cache/short_float.hpp"

namespace forebay::detail {
namespace {

// A score takes the sixteen bits that it has everywhere, and a stamp forty-eight: they are one
// number, of which the score is the upper part. In two halves, as the slot has twelve bytes then.
class UtilitySlot {
 public:
  UtilitySlot(std::uint16_t score, std::uint64_t stamp, EntryId entry) noexcept
      : id(entry),
        upper_(std::uint32_t{score} << 16U | static_cast<std::uint32_t>(stamp >> 32U & 0xffffU)),
        lower_(static_cast<std::uint32_t>(stamp)) {}

  EntryId id;

  std::uint16_t score() const noexcept { return static_cast<std::uint16_t>(upper_ >> 16U); }
  bool operator<(const UtilitySlot& other) const noexcept {
    return upper_ != other.upper_ ? upper_ < other.upper_ : lower_ < other.lower_;
  }

 private:
  std::uint32_t upper_;
  std::uint32_t lower_;
};

// In the order of the scores. A score that is no number is below all numbers: it must not disturb
// the order of the others.
std::uint16_t score_of(const EntryFacts& facts) noexcept {
  constexpr std::uint16_t kSign = 0x8000;
  if (std::isnan(facts.utility)) return 0;
  // Zero has two signs.
  const std::uint16_t bits = shortened(facts.utility == 0 ? 0 : facts.utility);
  return static_cast<std::uint16_t>((bits & kSign) != 0 ? ~bits : bits | kSign);
}

class UtilityPolicy final : public EvictionPolicy {
 public:
  PolicyKind kind() const noexcept override { return PolicyKind::utility; }
  void hit(EntryId id) noexcept override { heap_.change({heap_.slot(id).score(), stamp_++, id}); }
  std::uint32_t likely_victims(std::span<EntryId> entries) const noexcept override {
    return heap_.some_near_top(entries);
  }
  void missed(const EntryFacts& /*incoming*/) override {}
  // A newcomer below all others would be the first to go, and is not let in.
  EntryId victim(const EntryFacts& incoming) noexcept override {
    const UtilitySlot& lowest = heap_.top();
    if (incoming.bytes != 0 && score_of(incoming) < lowest.score()) return kNoEntry;
    return lowest.id;
  }
  void evicted(EntryId id) noexcept override { heap_.remove(id); }
  void inserted(EntryId id, const EntryFacts& facts) override {
    heap_.make_room(id);
    heap_.add({score_of(facts), stamp_++, id});
  }
  void erased(EntryId id) noexcept override { heap_.remove(id); }
  void updated(EntryId id, const EntryFacts& facts) noexcept override {
    heap_.change({score_of(facts), stamp_++, id});
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
