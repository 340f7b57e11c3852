#include "pool/page_heap.hpp"

#include <algorithm>

#include "forebay/check.hpp"

namespace forebay::detail {
namespace {

constexpr std::uint64_t align_up_to(std::uint64_t value, std::uint64_t alignment) noexcept {
  return (value + alignment - 1) & ~(alignment - 1);
}

// Pages from the extent's start to the first that lies at a multiple of `alignment` pages.
std::uint32_t offset_to(const Extent& extent, std::uint32_t alignment) noexcept {
  const std::uint64_t page = extent.start >> kPageShift;
  return static_cast<std::uint32_t>(align_up_to(page, alignment) - page);
}

// Whole multiples of `unit` pages inside the extent, in pages.
std::uint32_t whole_units(const Extent& extent, std::uint32_t unit) noexcept {
  const std::uint32_t offset = offset_to(extent, unit);
  return offset >= extent.pages ? 0 : (extent.pages - offset) / unit * unit;
}

// What is moved from one place to another: page tables of a huge page move in one piece, and
// a device maps memory by as much.
constexpr std::uint32_t kMoveUnit = static_cast<std::uint32_t>(kRegionGrain >> kPageShift);

// How many idle extents a plan looks at: enough to find what helps, and bounded.
constexpr int kLookAtMost = 64;

}  // namespace

// ---- Lists and map

bool PageHeap::can_go(const Extent& extent) const noexcept {
  if (grain_ == kNever) return extent.pages == extent.region->pages;
  return whole_units(extent, grain_) != 0;
}

void PageHeap::enter(ExtentId id) noexcept {
  const Extent& extent = extents_[id];
  extent.region->extent_at(extent.start) = id;
}

void PageHeap::link(ExtentId id) noexcept {
  Extent& extent = extents_[id];
  if (!extent.region->closed) bins_of(extent).insert(id);
  if (extent.is() == ExtentState::cold) return;
  warm_pages_ += extent.pages;
  movable_pages_ += whole_units(extent, kMoveUnit);
  if (can_go(extent)) link_newest(id);
}

void PageHeap::unlink(ExtentId id) noexcept {
  Extent& extent = extents_[id];
  if (!extent.region->closed) bins_of(extent).erase(id);
  if (extent.is() == ExtentState::cold) return;
  warm_pages_ -= extent.pages;
  movable_pages_ -= whole_units(extent, kMoveUnit);
  if (can_go(extent)) unlink_age(id);
}

void PageHeap::link_newest(ExtentId id) noexcept {
  Extent& extent = extents_[id];
  extent.newer = 0;
  extent.older = newest_;
  (newest_ == 0 ? oldest_ : extents_[newest_].newer) = id;
  newest_ = id;
}

void PageHeap::unlink_age(ExtentId id) noexcept {
  const Extent& extent = extents_[id];
  (extent.older == 0 ? oldest_ : extents_[extent.older].newer) = extent.newer;
  (extent.newer == 0 ? newest_ : extents_[extent.newer].older) = extent.older;
}

std::uint64_t PageHeap::pages_to_go() const noexcept {
  std::uint64_t pages = 0;
  for (ExtentId id = oldest_; id != 0; id = extents_[id].newer) {
    pages += grain_ == kNever ? extents_[id].pages : whole_units(extents_[id], grain_);
  }
  return pages;
}

std::uint64_t PageHeap::oldest_release() const noexcept {
  return oldest_ == 0 ? std::numeric_limits<std::uint64_t>::max() : extents_[oldest_].release;
}

// ---- Splitting and joining

ExtentId PageHeap::split(ExtentId id, std::uint32_t pages) noexcept {
  const ExtentId rest_id = extents_.make();
  FOREBAY_DCHECK(rest_id != 0, "no record left for the rest of an extent");
  Extent& extent = extents_[id];
  Extent& rest = extents_[rest_id];
  rest.start = extent.start + (std::uint64_t{pages} << kPageShift);
  rest.pages = extent.pages - pages;
  rest.region = extent.region;
  rest.stream = extent.stream;
  rest.soil = extent.soil;
  rest.release = extent.release;
  rest.become(extent.is());
  rest.left = id;
  rest.right = extent.right;
  if (rest.right != 0) extents_[rest.right].left = rest_id;
  extent.right = rest_id;
  extent.pages = pages;
  enter(rest_id);
  return rest_id;
}

// `id` and its right neighbour become one extent, of the same number.
void PageHeap::absorb_right(ExtentId id) noexcept {
  Extent& extent = extents_[id];
  const ExtentId right_id = extent.right;
  const Extent& right = extents_[right_id];
  extent.pages += right.pages;
  extent.right = right.right;
  if (extent.right != 0) extents_[extent.right].left = id;
  extents_.drop(right_id);
}

// Takes [offset, offset + pages) out of a free extent; what is left stays free. Two records at
// most. The rest keeps its place among the idle only roughly: a tail counts as newest.
ExtentId PageHeap::carve(ExtentId id, std::uint32_t offset, std::uint32_t pages) noexcept {
  unlink(id);
  if (extents_[id].pages > offset + pages) link(split(id, offset + pages));
  ExtentId carved = id;
  if (offset != 0) {
    carved = split(id, offset);
    link(id);
  }
  extents_[carved].become(ExtentState::moving);
  return carved;
}

ExtentId PageHeap::carve_aligned(ExtentId id, std::uint32_t pages,
                                 std::uint32_t alignment) noexcept {
  const std::uint32_t offset = offset_to(extents_[id], alignment);
  if (offset + pages > extents_[id].pages || !extents_.has_room(2)) return 0;
  return carve(id, offset, pages);
}

bool PageHeap::alike(const Extent& a, const Extent& b) const noexcept {
  if (a.is() != b.is()) return false;
  return a.is() == ExtentState::cold || (a.is() == ExtentState::warm && a.stream == b.stream);
}

// `id` is free but not linked; the result covers it and its free neighbours, not linked either.
ExtentId PageHeap::join_neighbours(ExtentId id) noexcept {
  const auto join = [this](ExtentId left_id) {
    Extent& left = extents_[left_id];
    const Extent& right = extents_[left.right];
    left.soil = mix(left.soil, right.soil);
    left.release = std::max(left.release, right.release);
    absorb_right(left_id);
  };
  const Extent& extent = extents_[id];
  const ExtentId right = extent.right;
  const ExtentId left = extent.left;
  if (right != 0 && alike(extent, extents_[right])) {
    unlink(right);
    join(id);
  }
  if (left == 0 || !alike(extents_[left], extent)) return id;
  unlink(left);
  join(left);
  return left;
}

void PageHeap::give_warm(ExtentId id) noexcept {
  Extent& extent = extents_[id];
  extent.become(ExtentState::warm);
  extent.release = ++releases_;
  link(join_neighbours(id));
}

void PageHeap::give_cold(ExtentId id) noexcept {
  Extent& extent = extents_[id];
  extent.become(ExtentState::cold);
  extent.soil = kPristine;
  extent.stream = 0;
  link(join_neighbours(id));
}

// ---- Regions

bool PageHeap::add_region(Region* region, ExtentState state, StreamId stream, Soil soil) noexcept {
  const ExtentId id = extents_.make();
  if (id == 0) return false;
  Extent& extent = extents_[id];
  extent.start = region->base;
  extent.pages = region->pages;
  extent.region = region;
  extent.stream = stream;
  extent.soil = soil;
  enter(id);
  state == ExtentState::cold ? give_cold(id) : give_warm(id);
  return true;
}

void PageHeap::remove_region(ExtentId whole) noexcept {
  FOREBAY_CHECK(extents_[whole].pages == extents_[whole].region->pages,
                "a region went that was not free");
  extents_.drop(whole);
}

void PageHeap::set_closed(Region& region, bool closed) noexcept {
  const auto visit_warm = [&](auto visit) {
    for (ExtentId id = region.extent_at(region.base); id != 0; id = extents_[id].right) {
      if (extents_[id].is() == ExtentState::warm) visit(id);
    }
  };
  visit_warm([this](ExtentId id) { unlink(id); });
  region.closed = closed;
  visit_warm([this](ExtentId id) { link(id); });
}

// ---- Taking

ExtentId PageHeap::take_warm(std::uint32_t pages, std::uint32_t alignment, StreamId stream,
                             bool thorough) noexcept {
  const SizeBins& bins = *warm_[stream];
  if (!extents_.has_room(2)) return 0;
  if (thorough) {
    const ExtentId id = bins.find_if(pages, [&](ExtentId candidate) {
      const Extent& extent = extents_[candidate];
      return std::uint64_t{offset_to(extent, alignment)} + pages <= extent.pages;
    });
    return id == 0 ? 0 : carve_aligned(id, pages, alignment);
  }
  // The first that is long enough may lie well already; one longer by the alignment always does.
  for (const std::uint32_t wanted : {pages, pages + alignment - 1}) {
    const ExtentId id = bins.find(wanted);
    if (id == 0) return 0;
    if (const ExtentId found = carve_aligned(id, pages, alignment); found != 0) return found;
  }
  return 0;
}

ExtentId PageHeap::take_any(StreamId stream) noexcept {
  const ExtentId id = warm_[stream]->largest();
  return id == 0 ? 0 : carve(id, 0, extents_[id].pages);
}

ExtentId PageHeap::take_idle(std::uint32_t pages) noexcept {
  const ExtentId id = oldest_;
  if (id == 0 || !extents_.has_room(2)) return 0;
  if (grain_ == kNever) return carve(id, 0, extents_[id].pages);
  const auto wanted = static_cast<std::uint32_t>(align_up_to(std::max(pages, 1U), grain_));
  const std::uint32_t offset = offset_to(extents_[id], grain_);
  return carve(id, offset, std::min(wanted, whole_units(extents_[id], grain_)));
}

// ---- Growing

Growth PageHeap::plan_growth(std::uint32_t pages, std::uint32_t alignment, StreamId stream,
                             std::uint64_t slack) noexcept {
  Growth growth;
  pages = static_cast<std::uint32_t>(align_up_to(pages, grain_));
  const bool movable = pages >= kMoveUnit;
  if (alignment > 1 || !extend(pages, stream, growth)) {
    const std::uint32_t step = std::max({alignment, grain_, movable ? kMoveUnit : 1U});
    const ExtentId hole = cold_.find(pages + step - grain_);
    if (hole == 0) return growth;
    growth.target = carve_aligned(hole, pages, step);
    if (growth.target == 0) return growth;
    extents_[growth.target].stream = stream;
    if (movable && moves_) gather_moves(pages, stream, growth);
  }
  const std::uint32_t fresh = pages - growth.warm - growth.moved;
  if (warm_pages_ > slack)
    gather_purges(std::min<std::uint64_t>(fresh, warm_pages_ - slack), growth);
  return growth;
}

// A warm extent with cold addresses behind it: only what it lacks has to be committed. Worth it for
// one that covers half; less would strand what moving could use.
bool PageHeap::extend(std::uint32_t pages, StreamId stream, Growth& growth) noexcept {
  if (!extents_.has_room(4)) return false;
  ExtentId id = warm_[stream]->largest();
  for (int i = 0; id != 0 && i < 4; ++i, id = extents_[id].next) {
    const Extent& extent = extents_[id];
    const ExtentId right = extent.right;
    if (extent.pages < pages / 2 || extent.pages >= pages || right == 0) continue;
    const std::uint32_t lacking = pages - extent.pages;
    const auto whole = static_cast<std::uint32_t>(align_up_to(lacking, grain_));
    if (extents_[right].is() != ExtentState::cold || extents_[right].pages < whole) continue;
    growth.warm = extent.pages;
    growth.target = carve(id, 0, growth.warm);
    carve(right, 0, whole);
    absorb_right(growth.target);
    return true;
  }
  return false;
}

void PageHeap::gather_moves(std::uint32_t missing, StreamId stream, Growth& growth) noexcept {
  ExtentId* tail = &growth.moves;
  ExtentId id = oldest_;
  for (int i = 0; id != 0 && i < kLookAtMost && missing - growth.moved >= kMoveUnit; ++i) {
    const ExtentId newer = extents_[id].newer;
    const std::uint32_t units = whole_units(extents_[id], kMoveUnit);
    if (units != 0 && extents_[id].stream == stream && extents_.has_room(2)) {
      const std::uint32_t wanted = (missing - growth.moved) / kMoveUnit * kMoveUnit;
      const std::uint32_t taken = std::min(units, wanted);
      *tail = carve(id, offset_to(extents_[id], kMoveUnit), taken);
      growth.moved += taken;
      tail = &extents_[*tail].next;
    }
    id = newer;
  }
  *tail = 0;
}

void PageHeap::gather_purges(std::uint64_t pages, Growth& growth) noexcept {
  // Each costs a system call; what is gained is pages' worth of faults, several times as dear.
  std::uint64_t tries = kLookAtMost + pages / 8;
  for (; pages != 0 && tries != 0; --tries) {
    const ExtentId id = take_idle(static_cast<std::uint32_t>(pages));
    if (id == 0) return;
    pages -= std::min<std::uint64_t>(pages, extents_[id].pages);
    extents_[id].next = growth.purges;
    growth.purges = id;
  }
}

// ---- Looking

std::uint64_t PageHeap::largest_warm() const noexcept {
  std::uint64_t most = grain_ != kNever && moves_ ? movable_pages_ : 0;
  for (const auto& bins : warm_) {
    for (ExtentId id = bins->largest(); id != 0; id = extents_[id].next) {
      most = std::max<std::uint64_t>(most, extents_[id].pages);
    }
  }
  return most;
}

void PageHeap::validate(const Region& region, std::uint64_t& warm) const noexcept {
  ExtentId left = 0;
  ExtentId id = region.extent_at(region.base);
  for (std::uintptr_t at = region.base; at != region.end(); id = extents_[id].right) {
    FOREBAY_CHECK(id != 0, "a page of no extent");
    const Extent& extent = extents_[id];
    FOREBAY_CHECK(extent.start == at && extent.pages != 0 && extent.end() <= region.end() &&
                      extent.region == &region && extent.left == left,
                  "extents do not tile their region");
    FOREBAY_CHECK(region.extent_at(extent.start) == id, "an extent is not in the map");
    FOREBAY_CHECK(left == 0 || !alike(extents_[left], extent), "free neighbours are apart");
    if (extent.is() == ExtentState::warm) warm += extent.pages;
    left = id;
    at = extent.end();
  }
  FOREBAY_CHECK(id == 0, "an extent beyond its region");
}

}  // namespace forebay::detail
