// NumberTable: from numbers to small values, in one array.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace forebay::events {

// Open addressing with linear probing; taking out moves what follows up (Knuth, 6.4, R), so that
// there are no graves, and memory follows what is in it. REQUIRES: keys are not 0.
template <typename Value>
class NumberTable {
 public:
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  std::uint64_t memory() const noexcept { return slots_.size() * sizeof(Slot); }
  // Bytes that another entry may need at most, while the table grows.
  std::uint64_t growth() const noexcept {
    return 2 * (size_ + 1) > slots_.size() ? 2 * memory() + kFirst * sizeof(Slot) : 0;
  }

  // The value of a key, made if it was not there (second: true). Valid until the next change.
  std::pair<Value*, bool> insert(std::uint64_t key) {
    if (2 * (size_ + 1) > slots_.size()) grow();
    Slot& slot = slots_[place_of(key)];
    if (slot.key == key) return {&slot.value, false};
    slot.key = key;
    slot.value = Value{};
    ++size_;
    return {&slot.value, true};
  }

  // Takes a key out; whether it was there.
  bool take(std::uint64_t key, Value& value) noexcept {
    if (size_ == 0) return false;
    std::size_t hole = place_of(key);
    if (slots_[hole].key != key) return false;
    value = slots_[hole].value;
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t at = (hole + 1) & mask; slots_[at].key != 0; at = (at + 1) & mask) {
      // What may not lie before its own first place stays.
      if (((at - first_place(slots_[at].key)) & mask) < ((at - hole) & mask)) continue;
      slots_[hole] = slots_[at];
      hole = at;
    }
    slots_[hole].key = 0;
    --size_;
    return true;
  }

 private:
  struct Slot {
    std::uint64_t key = 0;
    Value value{};
  };
  static constexpr std::size_t kFirst = 1024;

  std::size_t first_place(std::uint64_t key) const noexcept {
    constexpr std::uint64_t kGolden = 0x9E3779B97F4A7C15;  // 2^64 / phi
    return static_cast<std::size_t>(key * kGolden >> shift_);
  }
  // Where the key is, or is to be put.
  std::size_t place_of(std::uint64_t key) const noexcept {
    const std::size_t mask = slots_.size() - 1;
    std::size_t at = first_place(key);
    while (slots_[at].key != 0 && slots_[at].key != key) at = (at + 1) & mask;
    return at;
  }
  void grow() {
    std::vector<Slot> before(slots_.empty() ? kFirst : 2 * slots_.size());
    before.swap(slots_);
    shift_ = 64 - std::countr_zero(slots_.size());
    for (const Slot& slot : before) {
      if (slot.key != 0) slots_[place_of(slot.key)] = slot;
    }
  }

  std::vector<Slot> slots_;
  std::size_t size_ = 0;
  int shift_ = 0;
};

}  // namespace forebay::events
