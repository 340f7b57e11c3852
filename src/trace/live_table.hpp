// The blocks that are live at a point of a trace: id -> slot, size, stream.
//
// Open addressing with linear probing and no tombstones (Knuth, TAOCP 3, 6.4, algorithm R), in
// one allocation: between two looks at the process's resident bytes nothing of the bookkeeping
// may come or go. The hash is seeded from the system, so that no trace can be made to collide.
//
// Thread safety: none.
#pragma once

#include <cstdint>
#include <vector>

#include "forebay/bytes.hpp"

namespace forebay::trace {

struct LiveBlock {
  std::uint64_t id = 0;
  Bytes bytes;
  std::uint64_t stream = 0;
  std::uint32_t slot = 0;  // a number below the most blocks that were live at once
  bool used = false;
};

class LiveTable {
 public:
  LiveTable();
  // Makes room for so many blocks, so that adding them allocates nothing.
  void reserve(std::size_t blocks);
  std::size_t size() const noexcept { return size_; }
  // Null if it is not live.
  const LiveBlock* find(std::uint64_t id) const noexcept;
  // Adds a block and gives it a free slot, the one freed last if there is one.
  // REQUIRES: it is not live.
  const LiveBlock& add(std::uint64_t id, Bytes bytes, std::uint64_t stream);
  // REQUIRES: it is live.
  void remove(std::uint64_t id) noexcept;

 private:
  std::size_t home(std::uint64_t id) const noexcept;
  std::size_t place(std::uint64_t id) const noexcept;  // where it is, or would be put
  void grow();

  std::uint64_t seed_;
  std::vector<LiveBlock> cells_;  // a power of two of them, at most half used
  std::vector<std::uint32_t> free_slots_;
  std::uint32_t next_slot_ = 0;
  std::size_t size_ = 0;
};

}  // namespace forebay::trace
