// KeyTable: numbers by key, for tables of many millions: open addressing, 16 bytes a slot.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace forebay::trace {

// All 64 bits of a key depend on all of it, and no two keys become one (the finaliser of
// SplitMix64: Steele, Lea, Flood, OOPSLA 2014).
constexpr std::uint64_t mixed(std::uint64_t key) noexcept {
  key = (key ^ (key >> 30)) * 0xBF58476D1CE4E5B9;
  key = (key ^ (key >> 27)) * 0x94D049BB133111EB;
  return key ^ (key >> 31);
}

// Keys are mixed by the caller. Values are whatever is not kNone. Thread safety: none.
// Exceptions: std::bad_alloc from at(), which then has done nothing.
class KeyTable {
 public:
  static constexpr std::uint64_t kNone = ~0ULL;

  KeyTable() : slots_(kLeast, Slot{0, kNone}) {}

  // The key's value; kNone, to be set at once, if it is new. Valid until the next call.
  std::uint64_t& at(std::uint64_t key) {
    std::size_t i = find(key);
    if (slots_[i].value != kNone) return slots_[i].value;
    if ((size_ + 1) * 4 > slots_.size() * 3) {
      grow();
      i = find(key);
    }
    ++size_;
    slots_[i].key = key;
    return slots_[i].value;
  }
  // The key's value; null if it is not there.
  std::uint64_t* get(std::uint64_t key) noexcept {
    Slot& slot = slots_[find(key)];
    return slot.value == kNone ? nullptr : &slot.value;
  }
  void prefetch(std::uint64_t key) const noexcept { __builtin_prefetch(&slots_[home(key)]); }
  std::size_t size() const noexcept { return size_; }

  // REQUIRES: it is there.
  void erase(std::uint64_t key) noexcept {
    std::size_t hole = find(key);
    // Whoever stands behind and might have stood here moves up, so that no search ends early.
    for (std::size_t i = next(hole); slots_[i].value != kNone; i = next(i)) {
      const std::size_t from = home(slots_[i].key);
      if (((i - from) & mask()) < ((i - hole) & mask())) continue;
      slots_[hole] = slots_[i];
      hole = i;
    }
    slots_[hole].value = kNone;
    --size_;
  }

 private:
  struct Slot {
    std::uint64_t key;
    std::uint64_t value;
  };
  static constexpr std::size_t kLeast = 1024;

  std::size_t mask() const noexcept { return slots_.size() - 1; }
  std::size_t home(std::uint64_t key) const noexcept { return key & mask(); }
  std::size_t next(std::size_t i) const noexcept { return (i + 1) & mask(); }
  std::size_t find(std::uint64_t key) const noexcept {
    std::size_t i = home(key);
    while (slots_[i].value != kNone && slots_[i].key != key) i = next(i);
    return i;
  }
  void grow() {
    std::vector<Slot> larger(2 * slots_.size(), Slot{0, kNone});
    larger.swap(slots_);
    for (const Slot& slot : larger) {
      if (slot.value != kNone) slots_[find(slot.key)] = slot;
    }
  }

  std::vector<Slot> slots_;
  std::size_t size_ = 0;
};

}  // namespace forebay::trace
