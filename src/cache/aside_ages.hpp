// AsideAges: since when entries are set aside, of the few that have been for longest.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "cache/policy.hpp"

namespace forebay::detail {

// The oldest is exact unless, when it came, kMost that have gone since were older.
// Thread safety: none.
class AsideAges {
 public:
  static constexpr std::uint64_t kNone = ~std::uint64_t{0};

  void add(EntryId id, std::uint64_t tick) noexcept {
    if (count_ != kMost) ages_[count_++] = {id, tick};
  }
  void remove(EntryId id) noexcept {
    const auto end = ages_.begin() + count_;
    if (std::remove_if(ages_.begin(), end, [id](const Age& age) { return age.id == id; }) != end) {
      --count_;
    }
  }
  // The tick; kNone if there are none.
  std::uint64_t oldest() const noexcept { return count_ == 0 ? kNone : ages_[0].tick; }

 private:
  static constexpr std::uint32_t kMost = 16;
  struct Age {
    EntryId id;
    std::uint64_t tick;
  };
  std::array<Age, kMost> ages_{};  // the oldest first
  std::uint32_t count_ = 0;
};

}  // namespace forebay::detail
