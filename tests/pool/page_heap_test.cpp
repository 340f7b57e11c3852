// PageHeap against an array of pages, each of which knows what it is.
#include "pool/page_heap.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace forebay::detail {
namespace {

constexpr std::uint32_t kRegionPages = 4096;
constexpr std::uint32_t kMoveUnit = 512;

struct Page {
  enum class Is { cold, warm, held } is = Is::cold;
  StreamId stream = 0;
  unsigned tenants = 0;  // who wrote it since it was zeroes, a bit each
};

// One heap over regions of made-up addresses, which are never touched.
class Checked {
 public:
  explicit Checked(std::uint32_t grain) {
    EXPECT_TRUE(prepare_directory());
    heap.set_grain(grain);
  }
  ~Checked() {
    for (auto& region : regions_) region.reset();
  }

  ExtentTable extents{1U << 20};
  std::uint64_t releases = 0;
  PageHeap heap{extents, releases};
  std::vector<ExtentId> held;

  void add_region(ExtentState state, Soil soil) {
    regions_.push_back(std::make_unique<Region>(nullptr, &heap, kRegionPages * kPage));
    // Apart from each other, so that regions are never neighbours.
    ASSERT_TRUE(regions_.back()->place((1 + regions_.size() * 64) * kRegionGrain));
    ASSERT_TRUE(heap.add_region(regions_.back().get(), state, 0, soil));
    const Page fresh{state == ExtentState::cold ? Page::Is::cold : Page::Is::warm, 0, 0};
    pages_.emplace_back(kRegionPages, fresh);
  }

  Page& page(const Extent& extent, std::uint32_t i) {
    const auto of = std::find_if(regions_.begin(), regions_.end(),
                                 [&](const auto& region) { return region.get() == extent.region; });
    const auto index = static_cast<std::size_t>(of - regions_.begin());
    return pages_[index][extent.region->page_of(extent.start) + i];
  }
  template <typename Visit>
  void each_page(ExtentId id, Visit visit) {
    const Extent& extent = extents[id];
    for (std::uint32_t i = 0; i != extent.pages; ++i) visit(page(extent, i));
  }
  void become(ExtentId id, Page::Is is) {
    const StreamId stream = extents[id].stream;
    each_page(id, [&](Page& p) {
      p.is = is;
      p.stream = is == Page::Is::cold ? StreamId{0} : stream;
      if (is == Page::Is::cold) p.tenants = 0;
    });
  }
  // Everything in the caller's hands comes through here: it must have been `was`.
  void expect_taken(ExtentId id, Page::Is was) {
    EXPECT_EQ(extents[id].is(), ExtentState::moving);
    const Soil soil = extents[id].soil;
    unsigned tenants = 0;
    each_page(id, [&](const Page& p) {
      EXPECT_EQ(p.is, was);
      if (was == Page::Is::warm) {
        EXPECT_EQ(p.stream, extents[id].stream);
      }
      tenants |= p.tenants;
    });
    EXPECT_TRUE(tenants == 0 || soil == kMixed || tenants == 1U << soil) << "soil " << +soil;
  }

  // Regions start at a multiple of every alignment.
  bool has_warm_run(std::uint32_t pages, std::uint32_t alignment, StreamId stream) const {
    for (const auto& region : pages_) {
      std::uint32_t run = 0;
      for (std::uint32_t i = 0; i != kRegionPages; ++i) {
        const Page& p = region[i];
        run = p.is == Page::Is::warm && p.stream == stream ? run + 1 : 0;
        const std::uint32_t first = (i + alignment - run) / alignment * alignment;
        if (run >= pages && first + pages <= i + 1) return true;
      }
    }
    return false;
  }
  bool has_idle_unit(std::uint32_t grain) const {
    for (const auto& region : pages_) {
      for (std::uint32_t unit = 0; unit != kRegionPages; unit += grain) {
        const auto* const first = region.data() + unit;
        if (std::all_of(first, first + grain, [&](const Page& p) {
              return p.is == Page::Is::warm && p.stream == first->stream;
            })) {
          return true;
        }
      }
    }
    return false;
  }

  void validate() {
    std::uint64_t warm = 0;
    for (std::size_t r = 0; r != regions_.size(); ++r) {
      heap.validate(*regions_[r], warm);
      for (ExtentId id = regions_[r]->extent_at(regions_[r]->base); id != 0;
           id = extents[id].right) {
        const ExtentState is = extents[id].is();
        const Page::Is expected = is == ExtentState::cold   ? Page::Is::cold
                                  : is == ExtentState::warm ? Page::Is::warm
                                                            : Page::Is::held;
        each_page(id, [&](const Page& p) {
          ASSERT_EQ(p.is, expected);
          if (expected == Page::Is::warm) {
            ASSERT_EQ(p.stream, extents[id].stream);
          }
        });
      }
    }
    ASSERT_EQ(warm, heap.warm_pages());
    ASSERT_EQ(heap.oldest_release() == ~0ULL, !has_idle_unit(heap.grain()));
  }

 private:
  std::vector<std::unique_ptr<Region>> regions_;
  std::vector<std::vector<Page>> pages_;
};

// Random operations, each as the pool does them.
class Walk {
 public:
  Walk(std::uint32_t grain, unsigned seed) : checked_(grain), random_(seed) {
    checked_.heap.add_stream();
    checked_.add_region(ExtentState::cold, kPristine);
    checked_.add_region(ExtentState::cold, kPristine);
  }

  void run(int steps) {
    for (int step = 0; step < steps && !::testing::Test::HasFailure(); ++step) {
      switch (random_() % 8) {
        case 0:
        case 1:
          take();
          break;
        case 2:
          grow();
          break;
        case 3:
        case 4:
          give_one();
          break;
        case 5:
          purge();
          break;
        case 6:
          split();
          break;
        default:
          adopt();
      }
      checked_.validate();
    }
    give_all();
  }

 private:
  std::uint32_t below(std::uint32_t bound) { return static_cast<std::uint32_t>(random_() % bound); }
  std::uint32_t random_pages() { return 1 + below(1U << (1 + below(11))); }
  std::uint32_t random_alignment() { return below(3) == 0 ? 1U << below(10) : 1; }
  StreamId random_stream() { return static_cast<StreamId>(below(2)); }

  void hold(ExtentId id) {
    checked_.become(id, Page::Is::held);
    const Soil tenant = static_cast<Soil>(1 + below(3));
    checked_.extents[id].soil = tenant;
    checked_.each_page(id, [&](Page& p) { p.tenants = 1U << tenant; });
    checked_.held.push_back(id);
  }
  ExtentId drop_held() {
    auto& held = checked_.held;
    std::swap(held[below(static_cast<std::uint32_t>(held.size()))], held.back());
    const ExtentId id = held.back();
    held.pop_back();
    return id;
  }

  void take() {
    const std::uint32_t pages = random_pages();
    const std::uint32_t alignment = random_alignment();
    const StreamId stream = random_stream();
    const bool thorough = below(2) == 0;
    const ExtentId id = checked_.heap.take_warm(pages, alignment, stream, thorough);
    if (id == 0) {
      if (thorough) {
        ASSERT_FALSE(checked_.has_warm_run(pages, alignment, stream));
      }
      return;
    }
    ASSERT_EQ(checked_.extents[id].pages, pages);
    ASSERT_EQ(checked_.extents[id].start % (alignment * kPage), 0U);
    checked_.expect_taken(id, Page::Is::warm);
    hold(id);
  }

  void give_one() {
    if (checked_.held.empty()) return;
    const ExtentId id = drop_held();
    if (below(4) == 0) checked_.extents[id].stream = random_stream();
    checked_.become(id, Page::Is::warm);
    checked_.heap.give_warm(id);
  }

  void purge() {
    const std::uint32_t pages = random_pages();
    const std::uint32_t grain = checked_.heap.grain();
    const ExtentId id = checked_.heap.take_idle(pages);
    ASSERT_EQ(id == 0, !checked_.has_idle_unit(grain));
    if (id == 0) return;
    expect_units(id, grain);
    ASSERT_LE(checked_.extents[id].pages, (pages + grain - 1) / grain * grain);
    checked_.expect_taken(id, Page::Is::warm);
    make_cold(id);
  }

  // Only whole pages of the device were ever committed, so only those that are held whole may be
  // cut here.
  void split() {
    if (checked_.held.empty()) return;
    const ExtentId id = drop_held();
    const std::uint32_t pages = checked_.extents[id].pages;
    if (pages > 1) {
      checked_.held.push_back(checked_.heap.split(id, 1 + below(pages - 1)));
    }
    checked_.held.push_back(id);
  }

  void adopt() {
    const StreamId to = random_stream();
    const StreamId from = to == 0 ? 1 : 0;
    for (int i = 0; i < 3; ++i) {
      const ExtentId id = checked_.heap.take_any(from);
      if (id == 0) return;
      checked_.expect_taken(id, Page::Is::warm);
      checked_.extents[id].stream = to;
      checked_.become(id, Page::Is::warm);
      checked_.heap.give_warm(id);
    }
  }

  void grow() {
    const std::uint32_t pages = random_pages();
    const std::uint32_t alignment = random_alignment();
    const StreamId stream = random_stream();
    const std::uint64_t slack = below(1000);
    const std::uint32_t grain = checked_.heap.grain();
    const Growth growth = checked_.heap.plan_growth(pages, alignment, stream, slack);
    if (growth.target == 0) {
      ASSERT_TRUE(growth.moves == 0 && growth.purges == 0 && growth.warm == 0);
      return;
    }
    const Extent& target = checked_.extents[growth.target];
    ASSERT_GE(target.pages, pages);
    ASSERT_LT(target.pages, pages + 2 * grain);
    ASSERT_EQ(target.start % (alignment * kPage), 0U);
    ASSERT_EQ(target.stream, stream);
    std::uint32_t at = 0;
    checked_.each_page(growth.target, [&](const Page& p) {
      ASSERT_EQ(p.is, at++ < growth.warm ? Page::Is::warm : Page::Is::cold);
    });
    ASSERT_LE(growth.warm + growth.moved, target.pages);
    take_moves(growth);
    take_purges(growth, grain);
    Soil soil = target.soil;
    for (ExtentId id = growth.moves; id != 0;) {
      const ExtentId next = checked_.extents[id].next;
      soil = mix(soil, checked_.extents[id].soil);
      make_cold(id);
      id = next;
    }
    checked_.extents[growth.target].soil = soil;
    hold(growth.target);
  }
  void take_moves(const Growth& growth) {
    std::uint32_t moved = 0;
    for (ExtentId id = growth.moves; id != 0; id = checked_.extents[id].next) {
      expect_units(id, kMoveUnit);
      ASSERT_EQ(checked_.extents[id].stream, checked_.extents[growth.target].stream);
      checked_.expect_taken(id, Page::Is::warm);
      moved += checked_.extents[id].pages;
    }
    ASSERT_EQ(moved, growth.moved);
  }
  void take_purges(const Growth& growth, std::uint32_t grain) {
    for (ExtentId id = growth.purges; id != 0;) {
      const ExtentId next = checked_.extents[id].next;
      expect_units(id, grain);
      checked_.expect_taken(id, Page::Is::warm);
      make_cold(id);
      id = next;
    }
  }
  void expect_units(ExtentId id, std::uint32_t unit) {
    EXPECT_EQ(checked_.extents[id].start % (unit * kPage), 0U);
    EXPECT_EQ(checked_.extents[id].pages % unit, 0U);
    EXPECT_NE(checked_.extents[id].pages, 0U);
  }
  void make_cold(ExtentId id) {
    checked_.become(id, Page::Is::cold);
    checked_.heap.give_cold(id);
  }

  // With all of it idle on one stream there is one run a region, and all of it can go.
  void give_all() {
    while (!checked_.held.empty()) give_one();
    for (ExtentId id = checked_.heap.take_any(1); id != 0; id = checked_.heap.take_any(1)) {
      checked_.extents[id].stream = 0;
      checked_.become(id, Page::Is::warm);
      checked_.heap.give_warm(id);
    }
    while (checked_.heap.oldest_release() != ~0ULL) purge();
    checked_.validate();
    ASSERT_EQ(checked_.heap.warm_pages(), 0U);
    ASSERT_EQ(checked_.heap.largest_warm(), 0U);
  }

  Checked checked_;
  std::mt19937 random_;
};

TEST(PageHeap, AgreesWithAnArrayOfPages) {
  for (unsigned seed = 0; seed < 6; ++seed) Walk{1, seed}.run(700);
}

TEST(PageHeap, AgreesWithAnArrayOfPagesThatComeAndGoByHugePages) {
  for (unsigned seed = 0; seed < 6; ++seed) Walk{512, seed}.run(700);
}

TEST(PageHeap, JoinsWhatComesBackInAnyOrder) {
  Checked checked{1};
  checked.add_region(ExtentState::warm, kPristine);
  std::vector<ExtentId> blocks;
  for (int i = 0; i < 64; ++i) blocks.push_back(checked.heap.take_warm(64, 1, 0));
  EXPECT_EQ(checked.heap.take_warm(1, 1, 0, true), 0U);
  std::shuffle(blocks.begin(), blocks.end(), std::mt19937{9});
  for (const ExtentId id : blocks) checked.heap.give_warm(id);
  EXPECT_EQ(checked.heap.largest_warm(), kRegionPages);
  const ExtentId whole = checked.heap.take_warm(kRegionPages, 1, 0);
  EXPECT_NE(whole, 0U);
  checked.heap.give_warm(whole);
}

TEST(PageHeap, GivesTheLongestIdleFirst) {
  Checked checked{1};
  checked.add_region(ExtentState::warm, kPristine);
  std::vector<ExtentId> blocks;
  for (int i = 0; i < 64; ++i) blocks.push_back(checked.heap.take_warm(64, 1, 0));
  for (const std::size_t i : {9U, 3U, 60U, 31U}) checked.heap.give_warm(blocks[i]);
  for (const std::size_t i : {9U, 3U, 60U, 31U}) {
    const ExtentId id = checked.heap.take_idle(64);
    EXPECT_EQ(checked.extents[id].start, checked.extents[blocks[i]].start);
    checked.heap.give_cold(id);
  }
}

TEST(PageHeap, WithoutAGrainOnlyWholeRegionsGo) {
  Checked checked{PageHeap::kNever};
  checked.add_region(ExtentState::warm, kMixed);
  const ExtentId block = checked.heap.take_warm(1, 1, 0);
  EXPECT_EQ(checked.heap.take_idle(1), 0U);
  checked.heap.give_warm(block);
  const ExtentId whole = checked.heap.take_idle(1);
  ASSERT_NE(whole, 0U);
  EXPECT_EQ(checked.extents[whole].pages, kRegionPages);
  checked.heap.remove_region(whole);
}

}  // namespace
}  // namespace forebay::detail
