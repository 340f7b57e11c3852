// EntryTable: what a policy keeps of each entry, by its number.
#pragma once

#include <vector>

#include "cache/policy.hpp"

namespace forebay::detail {

// Thread safety: none.
template <typename Node>
class EntryTable {
 public:
  // Makes place for `id`, as Node{}, if it is above all before it. Exceptions: std::bad_alloc,
  // then nothing has changed.
  void make_room(EntryId id) {
    if (id < nodes_.size()) return;
    if (id >= nodes_.capacity()) {
      // By a quarter: doubling would leave a third of the array unused on average, and the
      // entries' overhead is told to the user.
      nodes_.reserve(std::size_t{id} + std::size_t{id} / 4 + kLeastGrowth);
    }
    nodes_.resize(std::size_t{id} + 1);
  }

  // REQUIRES: make_room(id) was called.
  Node& operator[](EntryId id) noexcept { return nodes_[id]; }
  const Node& operator[](EntryId id) const noexcept { return nodes_[id]; }

  // Numbers that have a place.
  std::size_t size() const noexcept { return nodes_.size(); }
  std::size_t metadata_bytes() const noexcept { return nodes_.capacity() * sizeof(Node); }

 private:
  static constexpr std::size_t kLeastGrowth = 16;

  std::vector<Node> nodes_;
};

}  // namespace forebay::detail
