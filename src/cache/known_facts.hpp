// KnownFacts: a policy's view of hashes and bytes, which the owner of the entries keeps already.
#pragma once

#include <cstdint>

#include "cache/entry_table.hpp"
#include "cache/policy.hpp"

namespace forebay::detail {

// Asks the owner; only if the policy was given none it keeps them itself, at 16 bytes an entry.
// Costs and scores are not looked up: few policies want them, and those keep what they make of
// them.
//
// Thread safety: none.
class KnownFacts {
 public:
  struct Facts {
    std::uint64_t hash = 0;
    std::uint64_t bytes = 0;
  };

  void use(const EntryFactsSource& source) noexcept { source_ = &source; }
  // Exceptions: std::bad_alloc, then nothing has changed.
  void make_room(EntryId id) {
    if (source_ == nullptr) own_.make_room(id);
  }
  // REQUIRES: the entry is in the policy.
  Facts operator[](EntryId id) const noexcept {
    if (id == told_) return told_facts_;
    if (source_ == nullptr) return own_[id];
    const EntryFacts facts = source_->facts_of(id);
    return {facts.hash, facts.bytes};
  }
  std::uint64_t bytes(EntryId id) const noexcept { return (*this)[id].bytes; }
  std::uint64_t hash(EntryId id) const noexcept { return (*this)[id].hash; }
  std::size_t metadata_bytes() const noexcept { return own_.metadata_bytes(); }

  // For as long as it lives, what the policy was just told is true of the entry: the owner says so
  // only after the call. REQUIRES: make_room(id).
  class Told {
   public:
    Told(KnownFacts& facts, EntryId id, const EntryFacts& told) noexcept : facts_(facts) {
      facts.told_ = id;
      facts.told_facts_ = {told.hash, told.bytes};
      if (facts.source_ == nullptr) facts.own_[id] = facts.told_facts_;
    }
    ~Told() { facts_.told_ = kNoEntry; }
    Told(const Told&) = delete;
    Told& operator=(const Told&) = delete;

   private:
    KnownFacts& facts_;
  };

 private:
  const EntryFactsSource* source_ = nullptr;
  EntryId told_ = kNoEntry;
  Facts told_facts_;
  EntryTable<Facts> own_;
};

}  // namespace forebay::detail
