// PageHeap: the free pages of a pool, or of its part for small blocks: warm (committed, ready on
// a stream) and cold (addresses only). Splits, joins neighbours, and plans where memory for
// more comes from.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "pool/extent.hpp"
#include "pool/region.hpp"
#include "pool/size_bins.hpp"

namespace forebay::detail {

// Memory for a request that no warm extent fits, as planned: `target` has `warm` committed pages
// at its front; behind them the memory of `moves` is to be mapped, in this order; what is still
// missing is to be committed. `purges` are to be given back first: idle memory that is of no use
// here, so that what is reserved grows no more than what is used. Lists run by Extent::next.
struct Growth {
  ExtentId target = 0;  // 0: no addresses left, add a region
  std::uint32_t warm = 0;
  ExtentId moves = 0;
  std::uint32_t moved = 0;  // pages in moves
  ExtentId purges = 0;
};

// Extents that it hands out are `moving`; the caller makes them what they become.
// Free neighbours in the same state (and, if warm, ready on the same stream) are always joined.
// Thread safety: not thread-safe; the pool locks.
class PageHeap {
 public:
  // `releases` counts those of all heaps of the pool: the age of idle memory.
  PageHeap(ExtentTable& extents, std::uint64_t& releases)
      : extents_(extents), cold_(extents), releases_(releases) {
    add_stream();
  }

  // Streams are numbered from 0 by the pool; each has its own warm extents. May throw bad_alloc.
  void add_stream() { warm_.push_back(std::make_unique<SizeBins>(extents_)); }
  StreamId streams() const noexcept { return static_cast<StreamId>(warm_.size()); }
  bool has_warm(StreamId stream) const noexcept { return !warm_[stream]->empty(); }

  // Pages that are committed and given back together, a power of two. kNever: none are; memory
  // comes and goes in whole regions.
  static constexpr std::uint32_t kNever = std::numeric_limits<std::uint32_t>::max();
  void set_grain(std::uint32_t pages) noexcept { grain_ = pages; }
  std::uint32_t grain() const noexcept { return grain_; }
  // Upstream could not move memory once: from now on it is given back and asked for again.
  void stop_moving() noexcept { moves_ = false; }

  // False, and nothing is changed, if there are no records left.
  bool add_region(Region* region, ExtentState state, StreamId stream, Soil soil) noexcept;

  // `pages` of warm memory at a multiple of `alignment` (in pages); 0 if there are none.
  // `thorough` looks at everything that might fit.
  ExtentId take_warm(std::uint32_t pages, std::uint32_t alignment, StreamId stream,
                     bool thorough = false) noexcept;
  // Any warm extent of `stream`, to be given back as another stream's; 0 if it has none.
  ExtentId take_any(StreamId stream) noexcept;
  // Plans for `pages`, rounded up to the grain, keeping about `slack` idle pages.
  Growth plan_growth(std::uint32_t pages, std::uint32_t alignment, StreamId stream,
                     std::uint64_t slack) noexcept;

  // The longest idle memory that can go upstream, about `pages` at most; 0 if there is none.
  ExtentId take_idle(std::uint32_t pages) noexcept;
  // Pages that take_idle() could give by and by. Looks at all idle extents.
  std::uint64_t pages_to_go() const noexcept;
  // Number of the release after which it lay idle; the most if there is none.
  std::uint64_t oldest_release() const noexcept;

  void give_warm(ExtentId id) noexcept;
  // What has just been given back, or was never committed.
  void give_cold(ExtentId id) noexcept;
  // Cuts `id`, which is in the caller's hands, behind `pages`; the rest is a new extent. REQUIRES:
  // there is a rest, and a record for it.
  ExtentId split(ExtentId id, std::uint32_t pages) noexcept;
  // What is free in a closed region is not taken; whole, it may still go upstream.
  void set_closed(Region& region, bool closed) noexcept;
  // Takes one that is free, all of it, into the caller's hands.
  void take(ExtentId id) noexcept { carve(id, 0, extents_[id].pages); }
  // Takes a region that is one free extent out.
  void remove_region(ExtentId whole) noexcept;

  std::uint64_t warm_pages() const noexcept { return warm_pages_; }
  // The most that one extent could be made of without asking upstream.
  std::uint64_t largest_warm() const noexcept;

  // Aborts unless lists, bins, map and sums agree over this region. Adds up warm pages.
  void validate(const Region& region, std::uint64_t& warm) const noexcept;

 private:
  SizeBins& bins_of(const Extent& extent) noexcept {
    return extent.is() == ExtentState::cold ? cold_ : *warm_[extent.stream];
  }
  // Whether (part of) it could go upstream as it is: those are in the list of idle extents.
  bool can_go(const Extent& extent) const noexcept;
  void enter(ExtentId id) noexcept;  // into the map
  void link(ExtentId id) noexcept;   // into bin and list
  void unlink(ExtentId id) noexcept;
  void link_newest(ExtentId id) noexcept;
  void unlink_age(ExtentId id) noexcept;
  ExtentId join_neighbours(ExtentId id) noexcept;
  void absorb_right(ExtentId id) noexcept;
  bool alike(const Extent& a, const Extent& b) const noexcept;
  ExtentId carve(ExtentId id, std::uint32_t offset, std::uint32_t pages) noexcept;
  ExtentId carve_aligned(ExtentId id, std::uint32_t pages, std::uint32_t alignment) noexcept;

  bool extend(std::uint32_t pages, StreamId stream, Growth& growth) noexcept;
  void gather_moves(std::uint32_t missing, StreamId stream, Growth& growth) noexcept;
  void gather_purges(std::uint64_t pages, Growth& growth) noexcept;

  ExtentTable& extents_;
  std::vector<std::unique_ptr<SizeBins>> warm_;  // by stream
  SizeBins cold_;
  ExtentId oldest_ = 0;  // idle extents by time of release
  ExtentId newest_ = 0;
  std::uint64_t& releases_;
  std::uint64_t warm_pages_ = 0;
  std::uint64_t movable_pages_ = 0;  // of those, what could be moved together
  std::uint32_t grain_ = 1;
  bool moves_ = true;
};

}  // namespace forebay::detail
