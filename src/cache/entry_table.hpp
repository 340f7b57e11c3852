// EntryTable: what a policy keeps of each entry, by its number.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

#include "cache/policy.hpp"

namespace forebay::detail {

// The bits that two links of 32 leave to numbers: see EntryLinks.
inline constexpr EntryId kMostEntries = EntryId{1} << 29U;

// How large an array is made that needs room for `least`. By an eighth: doubling would leave a
// third of it unused on average, and the entries' overhead is told to the user.
constexpr std::size_t grown(std::size_t least) noexcept {
  constexpr std::size_t kLeastGrowth = 16;
  return least + least / 8 + kLeastGrowth;
}

// Thread safety: none.
template <typename Node>
class EntryTable {
 public:
  // Makes place for `id`, as Node{}, if it is above all before it. Exceptions: std::bad_alloc,
  // then nothing has changed.
  void make_room(EntryId id) {
    if (id < nodes_.size()) return;
    if (id >= kMostEntries) throw std::bad_alloc{};
    if (id >= nodes_.capacity()) nodes_.reserve(grown(id));
    nodes_.resize(std::size_t{id} + 1);
  }

  // REQUIRES: make_room(id) was called.
  Node& operator[](EntryId id) noexcept { return nodes_[id]; }
  const Node& operator[](EntryId id) const noexcept { return nodes_[id]; }

  // Numbers that have a place.
  std::size_t size() const noexcept { return nodes_.size(); }
  std::size_t metadata_bytes() const noexcept { return nodes_.capacity() * sizeof(Node); }

 private:
  std::vector<Node> nodes_;
};

}  // namespace forebay::detail
