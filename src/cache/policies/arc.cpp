// ARC: entries seen once against entries seen more often, balanced by what their ghosts would have
// hit. Megiddo and Modha, "ARC: A Self-Tuning, Low Overhead Replacement Cache", FAST 2003. Pages
// are bytes here: a ghost's hit moves the balance by its own bytes.
#include <algorithm>
#include <limits>

#include "cache/ghosts.hpp"
#include "cache/known_facts.hpp"
#include "cache/policies/makers.hpp"
#include "cache/policies/weighed_list.hpp"

namespace forebay::detail {
namespace {

// The paper's names: T1 once_, T2 often_, B1 and B2 their ghosts, p target_.
// Invariants: |T1| + |B1| <= c and |T1| + |T2| + |B1| + |B2| <= 2c, after every insertion.
class ArcPolicy final : public EvictionPolicy {
 public:
  explicit ArcPolicy(const PolicyOptions& options) noexcept : capacity_(options.capacity) {
    once_ghosts_.set_limits(std::numeric_limits<std::size_t>::max(), capacity_);
    often_ghosts_.set_limits(std::numeric_limits<std::size_t>::max(), 2 * capacity_);
  }

  PolicyKind kind() const noexcept override { return PolicyKind::arc; }

  void use_facts(const EntryFactsSource& source) noexcept override { facts_.use(source); }

  void hit(EntryId id) noexcept override {
    if (is_often(id)) {
      often_.renew(nodes_, id);
    } else {
      const std::uint64_t bytes = facts_.bytes(id);
      once_.remove(nodes_, id, bytes);
      add(id, kOften, bytes);
    }
  }

  void missed(const EntryFacts& incoming) override {
    const std::uint64_t once = once_ghosts_.bytes();
    const std::uint64_t often = often_ghosts_.bytes();
    from_ = From::nowhere;
    incoming_hash_ = incoming.hash;
    if (once_ghosts_.forget(incoming.hash)) {
      from_ = From::once;
      target_ = std::min(capacity_, target_ + step(incoming.bytes, often, once));
    } else if (often_ghosts_.forget(incoming.hash)) {
      from_ = From::often;
      target_ -= std::min(target_, step(incoming.bytes, once, often));
    }
  }

  EntryId victim(const EntryFacts& incoming) noexcept override {
    const bool back_to_often = from_ == From::often && incoming_hash_ == incoming.hash;
    const bool over = back_to_often ? once_.bytes() >= target_ : once_.bytes() > target_;
    const bool from_once = often_.empty() || (!once_.empty() && over);
    return (from_once ? once_ : often_).oldest();
  }

  std::uint32_t likely_victims(std::span<EntryId> entries) const noexcept override {
    const std::uint32_t count = once_.some_oldest(nodes_, entries.first(entries.size() / 2));
    return count + often_.some_oldest(nodes_, entries.subspan(count));
  }

  void evicted(EntryId id) noexcept override {
    const KnownFacts::Facts facts = facts_[id];
    list_of(id).remove(nodes_, id, facts.bytes);
    (is_often(id) ? often_ghosts_ : once_ghosts_).add(facts.hash, facts.bytes);
  }

  void inserted(EntryId id, const EntryFacts& facts) override {
    nodes_.make_room(id);
    facts_.make_room(id);
    const KnownFacts::Told told{facts_, id, facts};
    const bool returns = from_ != From::nowhere && incoming_hash_ == facts.hash;
    add(id, returns ? kOften : kOnce, facts.bytes);
    from_ = From::nowhere;
    bound_ghosts();
  }

  void erased(EntryId id) noexcept override { list_of(id).remove(nodes_, id, facts_.bytes(id)); }

  void updated(EntryId id, const EntryFacts& facts) noexcept override {
    list_of(id).weigh(facts_.bytes(id), facts.bytes);
    const KnownFacts::Told told{facts_, id, facts};
    hit(id);
    bound_ghosts();
  }

  void resized(std::uint64_t capacity) override {
    capacity_ = capacity;
    target_ = std::min(target_, capacity);
    once_ghosts_.set_limits(std::numeric_limits<std::size_t>::max(), capacity);
    often_ghosts_.set_limits(std::numeric_limits<std::size_t>::max(), 2 * capacity);
    bound_ghosts();
  }

  void order(std::vector<EntryId>& entries) const override {
    once_.append_to(nodes_, entries);
    often_.append_to(nodes_, entries);
  }

  std::size_t metadata_bytes() const noexcept override {
    return nodes_.metadata_bytes() + facts_.metadata_bytes() + once_ghosts_.metadata_bytes() +
           often_ghosts_.metadata_bytes();
  }

 private:
  enum class From : std::uint8_t { nowhere, once, often };
  // Marks of nodes.
  static constexpr unsigned kOnce = 0;
  static constexpr unsigned kOften = 1;

  bool is_often(EntryId id) const noexcept { return nodes_[id].mark() == kOften; }
  WeighedList<>& list_of(EntryId id) noexcept { return is_often(id) ? often_ : once_; }
  void add(EntryId id, unsigned to, std::uint64_t bytes) noexcept {
    nodes_[id].set_mark(to);
    list_of(id).add_newest(nodes_, id, bytes);
  }

  // The paper's max(1, other / own) pages, in bytes. REQUIRES: own > 0.
  static std::uint64_t step(std::uint64_t bytes, std::uint64_t other, std::uint64_t own) noexcept {
    const double ratio = static_cast<double>(other) / static_cast<double>(own);
    return static_cast<std::uint64_t>(static_cast<double>(bytes) * std::max(1.0, ratio));
  }

  void bound_ghosts() noexcept {
    while (once_ghosts_.count() > 0 && once_.bytes() + once_ghosts_.bytes() > capacity_)
      once_ghosts_.forget_oldest();
    const std::uint64_t rest = once_.bytes() + often_.bytes() + once_ghosts_.bytes();
    while (often_ghosts_.count() > 0 && rest + often_ghosts_.bytes() > 2 * capacity_)
      often_ghosts_.forget_oldest();
    // With entries of one size this says nothing new. Else there could be more names than what
    // entries are charged for them.
    while (once_ghosts_.count() + often_ghosts_.count() > nodes_.size())
      (often_ghosts_.count() > 0 ? often_ghosts_ : once_ghosts_).forget_oldest();
  }

  EntryTable<EntryLinks> nodes_;
  KnownFacts facts_;
  WeighedList<> once_;
  WeighedList<> often_;
  Ghosts once_ghosts_;
  Ghosts often_ghosts_;
  std::uint64_t capacity_;
  std::uint64_t target_ = 0;
  std::uint64_t incoming_hash_ = 0;
  From from_ = From::nowhere;
};

}  // namespace

std::unique_ptr<EvictionPolicy> make_arc(const PolicyOptions& options) {
  return std::make_unique<ArcPolicy>(options);
}

}  // namespace forebay::detail
