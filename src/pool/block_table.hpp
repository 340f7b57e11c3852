// BlockTable: the pool's record of its blocks. Lives beside the blocks, never in them.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <set>
#include <tuple>

#include "forebay/clock.hpp"
#include "forebay/device.hpp"

namespace forebay::detail {

struct Block {
  void* address = nullptr;
  Bytes size;       // of its class; what upstream was asked for
  Bytes alignment;  // what upstream was asked for
  Stream stream;    // live: where it was allocated; idle: where it was last used
  Bytes requested;  // live: what the owner asked for
  Bytes asked_alignment;
  Clock::TimePoint idle_since{};
  std::uint64_t turn = 0;  // idle: rises with each block that becomes idle
};

// What an idle block must match to serve a request.
struct BlockKey {
  Bytes size;
  Bytes alignment;
  Stream stream;
};

// Every block is a node of a list and a node of an index. Both move between the live and
// the idle side whole, so that nothing after a block's birth allocates: giving back cannot
// fail. Costs about 150 bytes a block and a logarithmic search an operation.
//
// Thread safety: not thread-safe; the pool locks.
class BlockTable {
 public:
  using List = std::list<Block>;

  // A record that is in no table yet, or no more.
  class Record {
   public:
    Record() = default;
    // Throws std::bad_alloc.
    explicit Record(const Block& block);
    Block& block() noexcept { return list_.front(); }

   private:
    friend class BlockTable;
    struct Any {
      bool operator()(List::iterator a, List::iterator b) const noexcept {
        return std::less<>{}(&*a, &*b);
      }
    };
    List list_;
    std::set<List::iterator, Any> index_;
  };

  // Adds a live block. Aborts if its address is live already.
  void add_live(Record record) noexcept;
  // The live block at an address; null if there is none.
  const Block* find_live(const void* address) const noexcept;
  // Makes the live block at `address` idle. REQUIRES: find_live(address); `since` is the
  // time, and times before that of the block before it count as that.
  void make_idle(const void* address, Stream stream, Clock::TimePoint since) noexcept;
  // Makes the block idle last among those of the key live; null if none is.
  Block* reuse(const BlockKey& key) noexcept;

  bool has_idle() const noexcept { return !idle_.empty(); }
  // The block idle longest. REQUIRES: has_idle().
  const Block& oldest() const noexcept { return idle_.front(); }
  // Takes the oldest idle block out and appends it to `out`.
  void remove_oldest(List& out) noexcept;
  // Takes a live block out and appends it to `out`. REQUIRES: find_live(address).
  void remove_live(const void* address, List& out) noexcept;

  const List& live() const noexcept { return live_; }
  const List& idle() const noexcept { return idle_; }
  // Aborts unless lists and indexes agree and the idle ones are in order.
  void validate() const;

 private:
  struct ByAddress {
    using is_transparent = void;
    bool operator()(List::iterator a, List::iterator b) const noexcept {
      return std::less<>{}(a->address, b->address);
    }
    bool operator()(List::iterator a, const void* b) const noexcept {
      return std::less<>{}(static_cast<const void*>(a->address), b);
    }
    bool operator()(const void* a, List::iterator b) const noexcept {
      return std::less<>{}(a, static_cast<const void*>(b->address));
    }
  };
  // Keys apart, and within a key in the order of turns.
  struct ByKey {
    using is_transparent = void;
    static auto key(const BlockKey& k) noexcept {
      return std::tuple{k.size, k.alignment, k.stream.handle};
    }
    static auto key(List::iterator b) noexcept {
      return std::tuple{b->size, b->alignment, b->stream.handle};
    }
    bool operator()(List::iterator a, List::iterator b) const noexcept {
      return key(a) != key(b) ? key(a) < key(b) : a->turn < b->turn;
    }
    bool operator()(List::iterator a, const BlockKey& b) const noexcept { return key(a) < key(b); }
    bool operator()(const BlockKey& a, List::iterator b) const noexcept { return key(a) < key(b); }
  };
  using LiveIndex = std::set<List::iterator, ByAddress>;
  using IdleIndex = std::set<List::iterator, ByKey>;

  void insert_live(LiveIndex::node_type node) noexcept;

  List live_;
  List idle_;  // oldest first
  LiveIndex live_index_;
  IdleIndex idle_index_;
  std::uint64_t turns_ = 0;
};

}  // namespace forebay::detail
