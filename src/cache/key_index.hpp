// KeyIndex: from a key's hash to its entry's number; the entry itself knows whether it is the key.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cache/policy.hpp"

namespace forebay::detail {

// Open addressing with linear probing, 8 bytes a slot, at most three quarters full; removal shifts
// what follows back, so that there are no tombstones and churn costs nothing. The upper half of a
// hash tells the home and is kept: neither shifting nor growing looks at entries.
// Thread safety: none.
class KeyIndex {
 public:
  // Exceptions: std::bad_alloc, then nothing has changed.
  void make_room(std::size_t entries) {
    if (entries * 4 > slots_.size() * 3) grow(entries);
  }

  void prefetch(std::uint64_t hash) const noexcept {
    if (!slots_.empty()) __builtin_prefetch(&slots_[tag_of(hash) & mask()]);
  }

  // The first entry with this tag for which is_it(entry) holds; kNoEntry if there is none.
  template <typename IsIt>
  EntryId find(std::uint64_t hash, IsIt is_it) const noexcept {
    if (slots_.empty()) return kNoEntry;
    const std::uint32_t tag = tag_of(hash);
    for (std::size_t at = tag & mask();; at = (at + 1) & mask()) {
      const Slot slot = slots_[at];
      if (slot.entry == kNoEntry || (slot.tag == tag && is_it(slot.entry))) return slot.entry;
    }
  }

  // REQUIRES: make_room() for one more; the key is not in.
  void add(std::uint64_t hash, EntryId entry) noexcept {
    const std::uint32_t tag = tag_of(hash);
    std::size_t at = tag & mask();
    while (slots_[at].entry != kNoEntry) at = (at + 1) & mask();
    slots_[at] = {tag, entry};
  }

  // REQUIRES: the entry is in under this hash.
  void remove(std::uint64_t hash, EntryId entry) noexcept {
    std::size_t hole = tag_of(hash) & mask();
    while (slots_[hole].entry != entry) hole = (hole + 1) & mask();
    for (std::size_t at = (hole + 1) & mask(); slots_[at].entry != kNoEntry;
         at = (at + 1) & mask()) {
      // A slot may move back to the hole if its home is not after the hole.
      if (((at - slots_[at].tag) & mask()) < ((at - hole) & mask())) continue;
      slots_[hole] = slots_[at];
      hole = at;
    }
    slots_[hole].entry = kNoEntry;
  }

  std::size_t metadata_bytes() const noexcept { return slots_.capacity() * sizeof(Slot); }

 private:
  struct Slot {
    std::uint32_t tag = 0;
    EntryId entry = kNoEntry;
  };

  static std::uint32_t tag_of(std::uint64_t hash) noexcept {
    return static_cast<std::uint32_t>(hash >> 32U);
  }
  std::size_t mask() const noexcept { return slots_.size() - 1; }

  void grow(std::size_t entries) {
    constexpr std::size_t kLeast = 16;
    std::vector<Slot> old(std::bit_ceil(entries * 4 / 3 + kLeast));
    old.swap(slots_);
    for (const Slot slot : old) {
      if (slot.entry != kNoEntry) add(std::uint64_t{slot.tag} << 32U, slot.entry);
    }
  }

  std::vector<Slot> slots_;  // a power of two
};

}  // namespace forebay::detail
