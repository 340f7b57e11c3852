// CheckedBlocks: what a checked pool knows of each of its blocks, so that it sees what was done
// to them: a table of live blocks, guard bytes around them, and a quarantine behind them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string_view>

#include "forebay/pool.hpp"
#include "pool/core.hpp"

namespace forebay::detail {

// Stands between a pool and its core. A user's block lies inside one of the core's, with a
// pattern before it (16 B, or its alignment if that is up to 256 B; none beyond) and behind it (at
// least 32 B, up to the end of what the core gave). A block that comes back is filled with another
// pattern and waits in quarantine, first in, first out; each is looked at when it leaves.
// Memory that the CPU does not reach, or that work on streams may still write, has neither
// pattern, but is kept and known like the rest.
//
// Quarantined blocks are live to the core and idle to the pool. They leave when they are older
// than the pool's ttl, above a limit, and all of them before anybody is refused.
//
// Thread safety: thread-safe. Its mutex is not held while the core is called.
class CheckedBlocks {
 public:
  explicit CheckedBlocks(PoolCore& core) noexcept;
  // REQUIRES: the table is empty.
  ~CheckedBlocks() = default;
  CheckedBlocks(const CheckedBlocks&) = delete;
  CheckedBlocks& operator=(const CheckedBlocks&) = delete;

  Result<Taken> acquire(const Need& need);
  // The same past the threads' caches and without an attempt to make room, for blocks that move.
  Result<Taken> acquire_for_move(const Need& need);
  void release(void* block, const Return& back) noexcept;

  // The core's block that a live one lies in.
  const void* outer_of(const void* block) const noexcept;
  Bytes good_size(Bytes bytes, std::uint64_t alignment) const noexcept;
  Bytes usable_size(const void* block) const noexcept;
  Bytes quarantined() const noexcept;

  // Lets blocks out of quarantine: all, or those that came back by `time`.
  void release_all() noexcept;
  void release_older(Clock::TimePoint time) noexcept;

  PoolStats stats() const;
  // Aborts unless all patterns are whole.
  void validate() const noexcept;
  // Prints the first few live blocks, a line each. REQUIRES: the quarantine is empty.
  void print_live() const noexcept;

  // Over a fork.
  void lock() noexcept { mutex_.lock(); }
  void unlock() noexcept { mutex_.unlock(); }

 private:
  enum class State : std::uint8_t {
    live,
    going,  // in one thread's hands on its way to or from quarantine
    quarantined,
  };
  struct Block {
    std::byte* outer = nullptr;  // the core's block
    std::uint64_t outer_bytes = 0;
    std::uint64_t front = 0;  // bytes before the user's
    std::uint64_t bytes = 0;  // the user's
    std::uint64_t alignment = 0;
    std::uint64_t number = 0;  // of the acquire
    Stream stream{};           // of the last use
    State state = State::live;
    Clock::TimePoint since{};  // in quarantine
    Block* next = nullptr;     // in quarantine

    std::byte* user() const noexcept { return outer + front; }
    std::uint64_t rear() const noexcept { return outer_bytes - front - bytes; }
  };
  using Table = std::map<std::uintptr_t, Block>;  // by the user's address

  std::uint64_t front_of(std::uint64_t alignment) const noexcept;
  Need outer_need(const Need& need) const noexcept;
  Taken enter(Table::node_type node, const Taken& outer, const Need& need);
  Block& find_live(void* block) noexcept;
  void check_return(const Block& block, const Return& back) const noexcept;
  void set_patterns(const Block& block) const noexcept;
  // Abort if a pattern is not whole: around the block, or in what was given back.
  void check(const Block& block, std::string_view when) const noexcept;
  void check_gone(const Block& block, std::string_view when) const noexcept;
  Block* pop() noexcept;  // expects the mutex; null if the quarantine is empty
  std::uint64_t limit() const noexcept;
  template <typename While>
  void release_while(While more) noexcept;

  [[noreturn]] void misuse(const Block& block, std::string_view what) const noexcept;
  [[noreturn]] void unknown(const void* block) const noexcept;

  PoolCore& core_;
  const bool patterns_;

  mutable std::mutex mutex_;  // guards all below
  Table table_;
  Block* oldest_ = nullptr;  // in quarantine
  Block* newest_ = nullptr;
  std::uint64_t quarantined_ = 0;  // the core's bytes
  std::uint64_t live_ = 0;
  std::uint64_t peak_live_ = 0;
  std::uint64_t live_blocks_ = 0;
  std::uint64_t requested_ = 0;
  std::uint64_t acquires_ = 0;
  std::uint64_t forgiven_ = 0;  // refusals of the core's that the quarantine made good
};

}  // namespace forebay::detail
