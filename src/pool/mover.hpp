// BlockMover: empties sparse memory of a pool by moving blocks out of it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "forebay/pool.hpp"
#include "pool/checked_blocks.hpp"
#include "pool/core.hpp"

namespace forebay::detail {

// For one call. Thread safety: none of its own; the pool may be in use, and others may move
// other blocks of it.
class BlockMover {
 public:
  // `checked`: the pool's, if it is one.
  BlockMover(PoolCore& core, CheckedBlocks* checked, MovableBlocks& blocks) noexcept
      : core_(core), checked_(checked), blocks_(blocks) {}

  // See Pool::consolidate. Throws std::bad_alloc.
  Bytes run();

 private:
  struct Resident {
    std::uintptr_t home;
    std::uint64_t home_bytes;  // of all movable blocks in it
    MovableBlocks::Block block;
  };
  // Residents of one home, side by side.
  using Family = std::span<const Resident>;

  // Of one round.
  struct Round {
    std::uint64_t homes = 0;  // looked at
    std::uint64_t emptied = 0;
    std::uint64_t given = 0;  // pages
    bool is_worth_another() const noexcept;
  };

  std::vector<Resident> survey();
  Round empty_homes();
  bool close_and_empty(Family family);
  void open_closed(Round& round);
  bool move(const MovableBlocks::Block& block);

  PoolCore& core_;
  CheckedBlocks* const checked_;
  MovableBlocks& blocks_;
  std::vector<std::uintptr_t> closed_;
};

}  // namespace forebay::detail
