// Slabs: extents cut into blocks of one size class, and which of their blocks are free.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "device/mapping.hpp"
#include "pool/extent.hpp"

namespace forebay::detail {

// A block in hand: where it is and where its state is kept.
struct SmallBlock {
  std::byte* address;
  BlockState* state;

  bool is_live() const noexcept { return (state->load(std::memory_order_relaxed) & kLive) != 0; }
  // Keeps its soil.
  void set_free() const noexcept {
    const std::uint8_t now = state->load(std::memory_order_relaxed);
    state->store(static_cast<std::uint8_t>(now & ~kLive), std::memory_order_relaxed);
  }
};

// What a slab knows of its blocks, before their states in memory. The words have a bit for each
// block that is in the slab, neither live nor in a thread's hands.
struct SlabSide {
  static constexpr std::uint32_t words_of(SizeClass size_class) noexcept {
    return (kClasses[size_class].slab_blocks + 63) / 64;
  }
  static SlabSide& of(const Extent& slab) noexcept {
    auto* const words = reinterpret_cast<std::uint64_t*>(slab.states) - words_of(slab.size_class);
    return reinterpret_cast<SlabSide*>(words)[-1];
  }
  std::uint64_t* free() noexcept { return reinterpret_cast<std::uint64_t*>(this + 1); }
  BlockState* states(SizeClass size_class) noexcept {
    return reinterpret_cast<BlockState*>(free() + words_of(size_class));
  }

  std::uint64_t free_blocks = 0;
};

// Thread safety: not thread-safe; the pool locks.
class Slabs {
 public:
  // Throws std::bad_alloc if the process has no addresses left.
  explicit Slabs(ExtentTable& extents);

  void add_stream() { partial_.push_back(std::make_unique<Lists>()); }  // may throw bad_alloc

  // Takes up to `count` free blocks of a class. Returns how many.
  std::uint32_t take(StreamId stream, SizeClass size_class, SmallBlock* out,
                     std::uint32_t count) noexcept;
  // Makes a slab of an extent of the right size, in the caller's hands. False if there is no more
  // room for bookkeeping.
  bool add(ExtentId id, SizeClass size_class) noexcept;
  // Puts a block back. The result is the slab as a plain extent again, in the caller's hands, if
  // all of it is free and the class has another with free blocks; else 0.
  ExtentId give(ExtentId id, std::byte* address) noexcept;
  // What give() touches.
  static void prefetch(const Extent& slab, const std::byte* address) noexcept {
    SlabSide& side = SlabSide::of(slab);
    const std::uint64_t offset = reinterpret_cast<std::uintptr_t>(address) - slab.start;
    __builtin_prefetch(&side, 1);
    __builtin_prefetch(side.free() + block_at(kClasses[slab.size_class], offset) / 64, 1);
  }
  // No block leaves a closed slab; it comes apart as soon as it is empty. Closing keeps what is
  // free in it, opening makes it available again.
  void set_closed(ExtentId id, bool closed) noexcept;
  // Free blocks of a class in slabs that are open, counted up to `enough`.
  std::uint64_t free_blocks(StreamId stream, SizeClass size_class,
                            std::uint64_t enough) const noexcept;
  // A slab that is all free, as a plain extent in the caller's hands; 0 if there is none.
  ExtentId take_empty() noexcept;

  // The tracker's tag of a block: 0 unless it is live.
  std::atomic<BlockTag>& tag_of(const BlockState* state) const noexcept {
    return tags_[reinterpret_cast<const std::byte*>(state) - sides_->data()];
  }
  bool has_records() const noexcept { return records_.data() != nullptr; }
  // Null if no block has one yet.
  const BlockRecord* known_record_of(const BlockState* state) const noexcept {
    const BlockRecord* const records = records_.data();
    if (records == nullptr) return nullptr;
    return records + (reinterpret_cast<const std::byte*>(state) - sides_->data());
  }
  // Where its record is or may be put; null if there are no addresses for records.
  BlockRecord* record_of(const BlockState* state) noexcept {
    BlockRecord* const records = records_.map();
    if (records == nullptr) return nullptr;
    return records + (reinterpret_cast<const std::byte*>(state) - sides_->data());
  }

  // Bytes of bookkeeping taken so far.
  Bytes used() const noexcept { return Bytes{side_used_}; }
  static std::uint64_t live_in(const Extent& slab) noexcept;
  // Aborts unless this slab's counts agree. Adds up blocks by what they are.
  static void validate(const Extent& slab, std::uint64_t& live, std::uint64_t& in_hand) noexcept;

 private:
  using Lists = std::array<ExtentId, kSmallClasses>;

  BlockState* make_states(SizeClass size_class, Soil soil) noexcept;
  void link(ExtentId id) noexcept;
  void unlink(ExtentId id) noexcept;
  void dissolve(ExtentId id) noexcept;
  bool is_empty(const Extent& slab) const noexcept {
    return SlabSide::of(slab).free_blocks == kClasses[slab.size_class].slab_blocks;
  }

  ExtentTable& extents_;
  std::vector<std::unique_ptr<Lists>> partial_;  // by stream and class: slabs with free blocks
  std::optional<Mapping> sides_;
  // Beside each byte of `sides_`, for those that are states.
  std::optional<Mapping> tag_memory_;
  std::atomic<BlockTag>* tags_ = nullptr;
  LazyArray<BlockRecord> records_;
  std::uint64_t side_used_ = 0;
  std::uint64_t empty_ = 0;                            // slabs that are all free
  std::array<SlabSide*, kSmallClasses> free_sides_{};  // the next is kept in the first word
};

}  // namespace forebay::detail
