// History: the part of a snapshot's timeline that fits its blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "forebay/telemetry.hpp"

namespace forebay::detail {

// Threads' rings lose their oldest events each by itself, so that an event may stand without the
// ones that belong to it. Readers of a history of blocks (a viewer that plays it backwards, an
// allocator that replays it) need one in which every address is taken and given in turns, and
// which ends with the blocks that are live. This keeps the events that make one. Memory: about
// 60 bytes an event. Not thread-safe; the snapshot must outlive it.
class History {
 public:
  enum class Fate : std::uint8_t {
    none,     // not of a block, or does not fit the rest
    live,     // taken, and one of the snapshot's blocks
    open,     // taken; given back by no event, and whether it is live is not known
    ended,    // taken, and given back by a later event
    release,  // given back
  };
  // Taken before the first event.
  struct Held {
    std::uint32_t source;  // as source_of()
    std::uint64_t address;
    std::uint64_t bytes;
    std::uint32_t tag;  // index in Snapshot::tags
  };

  explicit History(const Snapshot& snapshot);

  Fate fate(std::size_t event) const { return entries_[event].fate; }
  // Of a live event: the index in Snapshot::blocks.
  std::uint32_t block_of(std::size_t event) const { return entries_[event].block; }
  // Index in Snapshot::sources; events' subjects that are not there come after these.
  std::uint32_t source_of(std::size_t event) const { return entries_[event].source; }
  std::vector<Held> held_before() const;

 private:
  struct Entry {
    Fate fate = Fate::none;
    std::uint32_t source = 0;
    std::uint32_t block = 0;
  };
  struct Key {
    std::uint32_t source;
    std::uint64_t address;
    bool operator==(const Key&) const = default;
  };
  struct Hash {
    std::size_t operator()(const Key& key) const noexcept;
  };
  // What is at an address, looking back from the end.
  struct State {
    enum class Of : std::uint8_t { unknown, free, block, event } of = Of::unknown;
    std::uint32_t index = 0;  // of the block, or of the event that gives it back
  };

  void name_sources();
  void place_blocks();
  void walk_back();
  void take(std::size_t event, State& state);
  void give(std::size_t event, State& state);
  bool is_known(std::uint32_t source) const;

  const Snapshot& snapshot_;
  std::vector<Entry> entries_;
  std::unordered_map<Key, State, Hash> states_;  // of addresses that events name
};

}  // namespace forebay::detail
