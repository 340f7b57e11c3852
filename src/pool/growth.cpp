// Where memory comes from when no idle extent fits: plan under the mutex, ask upstream without
// it, enter what came under it again.

#include <algorithm>
#include <bit>
#include <new>

#include "device/request.hpp"
#include "forebay/check.hpp"
#include "pool/core.hpp"

namespace forebay::detail {
namespace {

// Idle memory that is not worth giving back when the pool grows: a 32nd of what is held; of a
// small pool, an eighth, up to 40 MiB. Each page given back is a fault when it is used again,
// and what random sizes leave between blocks is about as much.
constexpr std::uint64_t kLeastSlack = (1ULL << 20) >> kPageShift;
constexpr std::uint64_t kSmallSlack = (40ULL << 20) >> kPageShift;
constexpr std::uint64_t kSmallSlackShare = 8;
constexpr std::uint64_t kSlackShare = 32;

// Segments grow with the pool, so that there are few, and each is a small part of it.
constexpr std::uint64_t kLeastSegment = 1ULL << 20;
constexpr std::uint64_t kMostSegment = 64ULL << 20;
constexpr std::uint64_t kSegmentShare = 16;

// No growth begins with fewer records left: more than all the splits that its plan, and those of
// other threads meanwhile, can come to.
constexpr std::uint32_t kRecordsInReserve = 1U << 20;

// A region's pages are numbered by 32 bits.
constexpr std::uint64_t kMostRegion = 1ULL << 43;

template <typename Regions>
bool make_room(Regions& regions) noexcept {
  try {
    regions.reserve(regions.size() + 1);
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

Bytes offset_in(const Extent& extent) noexcept { return Bytes{extent.start - extent.region->base}; }

}  // namespace

std::uint64_t PoolCore::slack() const noexcept {
  const std::uint64_t of_small = std::min(kSmallSlack, committed_pages_ / kSmallSlackShare);
  return std::max({kLeastSlack, of_small, committed_pages_ / kSlackShare});
}

// Whether upstream manages addresses at all is found out by asking for some.
bool PoolCore::take_first_range(Part& part) {
  Lock lock{mutex_};
  const Status added = add_range(lock, part, part.next_region);
  if (added.ok()) return true;
  if (added.code() == Code::unsupported) return false;
  added.throw_if_error();
  return false;
}

Status PoolCore::add_range(Lock& lock, Part& part, std::uint64_t bytes) {
  lock.unlock();
  const AddressRangeOptions range_options{{}, options_.huge_pages};
  auto range = upstream_->reserve_address(Bytes{bytes}, range_options);
  std::unique_ptr<Region> region;
  if (range) region = std::make_unique<Region>(this, &part.heap, bytes);
  lock.lock();
  if (!range) return range.status();
  const auto base = reinterpret_cast<std::uintptr_t>((*range)->data());
  if (base % std::max(kRegionGrain, (*range)->page().count()) != 0) {
    lock.unlock();
    range = Status{Code::unsupported, "addresses that start in mid-page"};
    lock.lock();
    return range.status();
  }
  part.heap.set_grain(static_cast<std::uint32_t>(
      std::max<std::uint64_t>((*range)->page().count() >> kPageShift, 1)));
  if (!make_room(part.regions) || !region->place(base) ||
      !part.heap.add_region(region.get(), ExtentState::cold, 0, kPristine)) {
    lock.unlock();
    region.reset();
    range = out_of_host_memory();
    lock.lock();
    return range.status();
  }
  region->range = std::move(*range);
  record_event_of(EventKind::map, bytes);
  part.regions.push_back(std::move(region));
  part.next_region = std::min(2 * bytes, kMostRegion);
  return {};
}

Result<ExtentId> PoolCore::grow(Lock& lock, Part& part, std::uint32_t pages,
                                std::uint32_t alignment, StreamId stream) {
  // What lies idle here goes before anybody is refused: as much as is asked, then all of it.
  for (const std::uint64_t going :
       {std::uint64_t{pages} + alignment, ~std::uint64_t{0}, std::uint64_t{0}}) {
    auto grown = ranges_ ? grow_range(lock, part, pages, alignment, stream)
                         : grow_segment(lock, part, pages, alignment, stream);
    if (grown || going == 0 || grown.status().code() != Code::memory_refused) return grown;
    empty_caches(true);
    empty_slabs();
    adopt_streams(lock, part.heap, stream);
    const ExtentId id = part.heap.take_warm(pages, alignment, stream, true);
    if (id != 0) return id;
    give_back(lock, going);
  }
  return out_of_host_memory();
}

Result<ExtentId> PoolCore::grow_range(Lock& lock, Part& part, std::uint32_t pages,
                                      std::uint32_t alignment, StreamId stream) {
  PageHeap& heap = part.heap;
  if (!extents_.has_room(kRecordsInReserve)) return out_of_host_memory();
  Growth growth = heap.plan_growth(pages, alignment, stream, slack());
  if (growth.target == 0) {
    const std::uint64_t needed = (std::uint64_t{pages} + alignment) << kPageShift;
    const std::uint64_t least = std::bit_ceil(needed);
    Status added = add_range(lock, part, std::max(part.next_region, least * 2));
    // Addresses may be limited (ulimit -v): then as few as will do.
    if (!added.ok()) added = add_range(lock, part, least);
    if (!added.ok()) return added;
    growth = heap.plan_growth(pages, alignment, stream, slack());
    if (growth.target == 0) return out_of_host_memory();
  }
  PageHeap& other = &part == &large_ ? small_.heap : large_.heap;
  std::uint64_t fresh = extents_[growth.target].pages - growth.warm - growth.moved;
  for (ExtentId id = growth.purges; id != 0; id = extents_[id].next) {
    fresh -= std::min<std::uint64_t>(fresh, extents_[id].pages);
  }
  const std::uint64_t surplus = idle_pages() - std::min(idle_pages(), slack());
  const std::uint64_t others = std::min(fresh, surplus);
  const ExtentId others_idle =
      others == 0 ? 0 : other.take_idle(static_cast<std::uint32_t>(others));
  if (others_idle != 0) extents_[others_idle].next = 0;

  const std::int64_t coming = std::int64_t{extents_[growth.target].pages} - growth.warm;
  on_the_way_ += coming;
  lock.unlock();
  decommit_list(growth.purges);
  decommit_list(others_idle);
  const Filled filled = fill(growth);
  lock.lock();
  on_the_way_ -= coming;

  finish_purges(heap, growth.purges);
  finish_purges(other, others_idle);
  finish_moves(heap, growth.moves, filled.unmoved);
  if (filled.unmoved != 0) heap.stop_moving();
  committed_pages_ += filled.fresh;
  peak_committed_ = std::max(peak_committed_, committed_pages_);
  Extent& target = extents_[growth.target];
  if (filled.status.ok()) {
    ++misses_;
    if (target.pages != pages) heap.give_warm(heap.split(growth.target, pages));
    return growth.target;
  }
  if (filled.pages == 0) {
    heap.give_cold(growth.target);
  } else {
    if (filled.pages != target.pages) heap.give_cold(heap.split(growth.target, filled.pages));
    heap.give_warm(growth.target);
  }
  return filled.status;
}

// Where memory was moved from is empty now; what was not moved is idle as before.
void PoolCore::finish_moves(PageHeap& heap, ExtentId moves, ExtentId unmoved) noexcept {
  bool moved = true;
  for (ExtentId id = moves; id != 0;) {
    const ExtentId next = extents_[id].next;
    moved = moved && id != unmoved;
    moved ? heap.give_cold(id) : heap.give_warm(id);
    id = next;
  }
}

// Without the mutex.
PoolCore::Filled PoolCore::fill(const Growth& growth) noexcept {
  Extent& target = extents_[growth.target];
  AddressRange& range = *target.region->range;
  Filled filled{.pages = growth.warm, .unmoved = growth.moves};
  const auto at = [&] {
    return offset_in(target) + Bytes{std::uint64_t{filled.pages} << kPageShift};
  };
  for (ExtentId& id = filled.unmoved; id != 0; id = extents_[id].next) {
    const Extent& source = extents_[id];
    AddressRange& from = *source.region->range;
    if (!range.adopt(at(), from, offset_in(source), Bytes{source.bytes()}).ok()) break;
    target.soil = mix(target.soil, source.soil);
    filled.pages += source.pages;
  }
  const std::uint32_t rest = target.pages - filled.pages;
  if (rest == 0) return filled;
  filled.status = range.commit(at(), Bytes{std::uint64_t{rest} << kPageShift});
  if (!filled.status.ok()) return filled;
  record_event_of(EventKind::map, std::uint64_t{rest} << kPageShift);
  filled.fresh = rest;
  filled.pages += rest;
  return filled;
}

// A pool below finds its blocks by the same directory, where this one's region hides what is in the
// same grain: then it must be all this one's.
Status PoolCore::add_segment(Lock& lock, Part& part, std::uint64_t bytes, StreamId stream) {
  const Stream on = streams_[stream];
  if (over_a_pool_) bytes = (bytes + kRegionGrain - 1) & ~(kRegionGrain - 1);
  lock.unlock();
  auto region = std::make_unique<Region>(this, &part.heap, bytes);
  auto block = [&] {
    const Untracked untracked;
    return upstream_->allocate(Bytes{bytes}, Bytes{kRegionGrain}, on);
  }();
  lock.lock();
  if (!block) return block.status();
  const auto base = reinterpret_cast<std::uintptr_t>(*block);
  const bool shared = bytes % kRegionGrain != 0 && region_of(base) != nullptr;
  if (shared || !make_room(part.regions) || !region->place(base) ||
      !part.heap.add_region(region.get(), ExtentState::warm, stream, fresh_segment_)) {
    over_a_pool_ = over_a_pool_ || shared;
    lock.unlock();
    region.reset();  // no longer in the directory when upstream has the block
    upstream_->deallocate(*block, Bytes{bytes}, Bytes{kRegionGrain}, on);
    lock.lock();
    return shared ? add_segment(lock, part, bytes, stream) : out_of_host_memory();
  }
  part.regions.push_back(std::move(region));
  committed_pages_ += pages_of(bytes);
  peak_committed_ = std::max(peak_committed_, committed_pages_);
  return {};
}

// A segment, or if upstream has no room for that, just what is needed.
Result<ExtentId> PoolCore::grow_segment(Lock& lock, Part& part, std::uint32_t pages,
                                        std::uint32_t alignment, StreamId stream) {
  const std::uint64_t needed = std::uint64_t{pages} << kPageShift;  // regions are well aligned
  const std::uint64_t share = (committed_pages_ << kPageShift) / kSegmentShare;
  const std::uint64_t segment =
      std::max(needed, std::bit_floor(std::clamp(share, kLeastSegment, kMostSegment)));
  Status added = add_segment(lock, part, segment, stream);
  if (added.code() == Code::memory_refused && segment != needed) {
    added = add_segment(lock, part, needed, stream);
  }
  if (!added.ok()) return added;
  const ExtentId id = part.heap.take_warm(pages, alignment, stream, true);
  if (id == 0) return out_of_host_memory();
  ++misses_;
  return id;
}

}  // namespace forebay::detail
