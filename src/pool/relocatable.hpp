// Relocatables: the blocks of a pool that it may move by itself.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "forebay/pool.hpp"
#include "pool/core.hpp"

namespace forebay::detail {

class Relocatables;

struct Relocatable {
  // How often it is pinned; or one of these.
  static constexpr std::uint32_t kMoving = 1U << 31;
  static constexpr std::uint32_t kEnded = kMoving | 1U;

  void pin() noexcept;
  void unpin() noexcept { pins.fetch_sub(1, std::memory_order_release); }
  // Whether nobody had it pinned; nobody does until release().
  bool claim(std::uint32_t as) noexcept;
  void release() noexcept;

  std::atomic<std::uint32_t> pins{0};
  void* data = nullptr;  // changed only by who has claimed it
  Bytes size;
  AcquireOptions options{};
  Pool* pool = nullptr;
  Relocatables* all = nullptr;
  Relocatable* next = nullptr;
  Relocatable* previous = nullptr;
};

// Thread safety: thread-safe. Its mutex is not held while pool, core or upstream are called.
class Relocatables final : public MovableBlocks {
 public:
  void add(Relocatable* block) noexcept;
  // The owner's end: waits while the block is being moved, and gives it back.
  void end(Relocatable* block) noexcept;
  // See Pool::consolidate; one at a time.
  Bytes consolidate(PoolCore& core, CheckedBlocks* checked);

  void list(std::vector<Block>& blocks) override;
  bool claim(const Block& block) noexcept override;
  bool move(const Block& block, void* to) noexcept override;
  void release(const Block& block) noexcept override;
  AcquireOptions options(const Block& block) const noexcept override;
  void surveyed() noexcept override;

  std::mutex& mutex() noexcept { return mutex_; }

 private:
  std::mutex consolidating_;
  std::mutex mutex_;  // guards all below
  Relocatable* first_ = nullptr;
  std::size_t count_ = 0;
  bool surveyed_ = false;         // what ends now is still looked at
  Relocatable* ended_ = nullptr;  // since then
};

}  // namespace forebay::detail
