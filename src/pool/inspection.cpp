// Walks over everything a pool has: for checks, and to name what is live.

#include <fmt/format.h>

#include "forebay/check.hpp"
#include "pool/tag_sums.hpp"

namespace forebay::detail {
namespace {

template <typename Visit>
void visit_extents(const Region& region, const ExtentTable& extents, Visit visit) {
  for (ExtentId id = region.extent_at(region.base); id != 0; id = extents[id].right) {
    visit(extents[id]);
  }
}

}  // namespace

void PoolCore::validate() const {
  auto& self = const_cast<PoolCore&>(*this);
  const std::lock_guard lock{mutex_};
  self.shut_caches();
  std::uint64_t committed = 0;
  std::uint64_t live_blocks = 0;
  std::uint64_t live_bytes_seen = 0;
  std::uint64_t small_in_hand = 0;
  TagSum tagged;  // what is of some context, as the blocks say
  const auto count_tag = [&](const std::atomic<BlockTag>& tag, std::uint64_t bytes) {
    if ((tag.load(std::memory_order_relaxed) & kContextOf) == 0) return;
    ++tagged.taken;
    tagged.bytes_taken += bytes;
  };
  std::uint64_t large_in_hand = 0;
  for (const Part* part : {&small_, &large_}) {
    std::uint64_t warm_here = 0;
    for (const auto& region : part->regions) {
      part->heap.validate(*region, warm_here);
      visit_extents(*region, extents_, [&](const Extent& extent) {
        const ExtentState is = extent.is();
        if (is != ExtentState::cold) committed += extent.pages;
        if (is == ExtentState::cached) large_in_hand += extent.bytes();
        if (is == ExtentState::live || is == ExtentState::guarded) {
          ++live_blocks;
          live_bytes_seen += extent.bytes();
          count_tag(extent.tag, extent.bytes());
        }
        if (is == ExtentState::slab) {
          std::uint64_t live = 0;
          Slabs::validate(extent, live, small_in_hand);
          live_blocks += live;
          const ClassLayout& layout = kClasses[extent.size_class];
          live_bytes_seen += live * layout.bytes;
          for (std::uint32_t i = 0; i != layout.slab_blocks; ++i) {
            const auto& tag = slabs_.tag_of(extent.states + i);
            const bool is_live = (extent.states[i].load(std::memory_order_relaxed) & kLive) != 0;
            FOREBAY_CHECK(is_live || tag.load(std::memory_order_relaxed) == 0,
                          "a block is free and has a tag");
            count_tag(tag, layout.bytes);
          }
        }
      });
    }
    FOREBAY_CHECK(warm_here == part->heap.warm_pages(), "warm pages do not add up");
  }
  FOREBAY_CHECK(committed == committed_pages_ + static_cast<std::uint64_t>(on_the_way_),
                "committed pages do not add up");
  FOREBAY_CHECK(peak_committed_ >= committed_pages_, "a peak is below the present");
  std::uint64_t acquires = retired_.acquires.read();
  std::uint64_t releases = retired_.releases.read();
  std::uint64_t in_bins = 0;
  std::uint64_t in_slots = 0;
  for (const ThreadCache* c = caches_; c != nullptr; c = c->next) {
    acquires += c->counters.acquires.read();
    releases += c->counters.releases.read();
    for (const auto& bin : c->bins) in_bins += bin.count;
    in_slots += c->large_bytes.read();
  }
  const std::uint64_t live = live_bytes();
  TagSum counted;
  visit_tags([&](ContextId context, const TagSum& sum) {
    if (context != 0) counted += sum;
  });
  self.open_caches();
  FOREBAY_CHECK(counted.taken - counted.given == tagged.taken &&
                    counted.bytes_taken - counted.bytes_given == tagged.bytes_taken,
                "live blocks of tags do not add up");
  FOREBAY_CHECK(in_bins == small_in_hand, "small blocks are in nobody's hands");
  FOREBAY_CHECK(in_slots == large_in_hand, "large blocks are in nobody's hands");
  FOREBAY_CHECK(acquires - releases == live_blocks, "live blocks do not add up");
  FOREBAY_CHECK(live == live_bytes_seen, "live bytes do not add up");
  FOREBAY_CHECK(misses_ <= acquires + refused_, "more misses than acquires");
}

void PoolCore::print_live() const noexcept {
  constexpr int kMost = 8;
  int printed = 0;
  const auto print = [&](std::uintptr_t at, std::uint64_t bytes) {
    if (printed++ < kMost)
      fmt::print(stderr, "forebay:   block 0x{:x} of {}\n", at, to_string(Bytes{bytes}));
  };
  for (const Part* part : {&small_, &large_}) {
    for (const auto& region : part->regions) {
      visit_extents(*region, extents_, [&](const Extent& extent) {
        if (extent.is() == ExtentState::live) print(extent.start, extent.requested);
        if (extent.is() == ExtentState::guarded)
          print(extent.start + extent.next, extent.requested);
        if (extent.is() != ExtentState::slab) return;
        const ClassLayout& layout = kClasses[extent.size_class];
        for (std::uint32_t i = 0; i != layout.slab_blocks; ++i) {
          const auto state = extent.states[i].load(std::memory_order_relaxed);
          if ((state & kLive) != 0)
            print(extent.start + std::uint64_t{i} * layout.bytes, layout.bytes);
        }
      });
    }
  }
}

}  // namespace forebay::detail
