#include "llama/paged_region.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace forebay::llama {
namespace {

using namespace literals;

constexpr std::uint64_t kPage = 4096;

// An address range that remembers which pages are committed, and fails when told to.
class ScriptedRange final : public AddressRange {
 public:
  struct State {
    std::vector<bool> pages;
    int commits_left = 1 << 30;
    std::uint64_t committed() const {
      return static_cast<std::uint64_t>(std::count(pages.begin(), pages.end(), true));
    }
  };
  ScriptedRange(std::uint64_t pages, State& state) : memory_(pages * kPage), state_(state) {
    state_.pages.assign(pages, false);
  }
  ~ScriptedRange() override { state_.pages.clear(); }

  std::byte* data() const noexcept override { return memory_.data(); }
  Bytes size() const noexcept override { return Bytes{memory_.size()}; }
  Bytes committed() const noexcept override { return Bytes{state_.committed() * kPage}; }
  Bytes page() const noexcept override { return Bytes{kPage}; }
  Bytes missing(Bytes offset, Bytes bytes) const noexcept override {
    const auto first = state_.pages.begin() + static_cast<std::ptrdiff_t>(offset.count() / kPage);
    const auto last = first + static_cast<std::ptrdiff_t>(bytes.count() / kPage);
    return Bytes{static_cast<std::uint64_t>(std::count(first, last, false)) * kPage};
  }
  Status adopt(Bytes, AddressRange&, Bytes, Bytes) override {
    return Status(Code::unsupported, "scripted");
  }
  Status commit(Bytes offset, Bytes bytes) override {
    if (state_.commits_left-- <= 0) return Status(Code::memory_refused, "scripted");
    set(offset, bytes, true);
    return {};
  }
  void decommit(Bytes offset, Bytes bytes) noexcept override { set(offset, bytes, false); }

 private:
  void set(Bytes offset, Bytes bytes, bool value) {
    EXPECT_EQ(offset.count() % kPage, 0U);
    EXPECT_EQ(bytes.count() % kPage, 0U);
    for (std::uint64_t i = 0; i < bytes.count() / kPage; ++i) {
      const std::uint64_t page = offset.count() / kPage + i;
      EXPECT_NE(state_.pages.at(page), value) << "page " << page << " twice";
      state_.pages.at(page) = value;
    }
  }
  mutable std::vector<std::byte> memory_;
  State& state_;
};

struct PagedRegionTest : ::testing::Test {
  static constexpr std::uint64_t kPages = 64;
  ScriptedRange::State state;
  Budget budget{"kv"};
  PagedRegion region{std::make_unique<ScriptedRange>(kPages, state)};

  void SetUp() override { ASSERT_TRUE(region.charge_to(budget).ok()); }
  // The ledger, the device and the budget agree.
  void expect_pages(std::uint64_t pages) {
    EXPECT_EQ(state.committed(), pages);
    EXPECT_EQ(region.committed(), Bytes{pages * kPage});
    EXPECT_EQ(budget.stats().used, Bytes{pages * kPage});
  }
};

TEST_F(PagedRegionTest, HoldsNothingBeforeItHasRows) {
  ASSERT_TRUE(region.add_growing({.offset = 0, .row_bytes = 100, .rows = 1000}).ok());
  expect_pages(0);
}

TEST_F(PagedRegionTest, AFixedTensorIsCommittedWhole) {
  ASSERT_TRUE(region.add_fixed(kPage - 1, 2).ok());  // the last byte of a page, the next's first
  expect_pages(2);
}

TEST_F(PagedRegionTest, RowsAreCommittedByPagesAndASharedPageOnce) {
  ASSERT_TRUE(region.add_growing({.offset = 0, .row_bytes = 100, .rows = 100}).ok());
  ASSERT_TRUE(region.add_growing({.offset = 10000, .row_bytes = 100, .rows = 100}).ok());
  ASSERT_TRUE(region.set_rows(1).ok());
  expect_pages(2);  // pages 0 and 2
  ASSERT_TRUE(region.set_rows(41).ok());
  expect_pages(4);  // bytes 0..4100 and 10000..14100: pages 0, 1, 2, 3
  ASSERT_TRUE(region.set_rows(100).ok());
  expect_pages(5);                          // 20000 bytes in a row
  ASSERT_TRUE(region.set_rows(1000).ok());  // no more rows than there are
  expect_pages(5);
}

TEST_F(PagedRegionTest, ShrinkingGivesPagesBack) {
  ASSERT_TRUE(region.add_growing({.offset = 0, .row_bytes = kPage, .rows = 30}).ok());
  ASSERT_TRUE(region.add_fixed(40 * kPage, kPage).ok());
  ASSERT_TRUE(region.set_rows(30).ok());
  expect_pages(31);
  ASSERT_TRUE(region.set_rows(3).ok());
  expect_pages(4);
  ASSERT_TRUE(region.set_rows(0).ok());
  expect_pages(1);
}

TEST_F(PagedRegionTest, ARefusedGrowthChangesNothing) {
  ASSERT_TRUE(region.add_growing({.offset = 0, .row_bytes = kPage, .rows = 30}).ok());
  ASSERT_TRUE(region.set_rows(4).ok());
  ASSERT_TRUE(budget.set_limit(Bytes{7 * kPage}).ok());
  EXPECT_EQ(region.set_rows(8).code(), Code::memory_refused);
  expect_pages(4);
  EXPECT_EQ(region.add_fixed(40 * kPage, 4 * kPage).code(), Code::memory_refused);
  expect_pages(4);
  EXPECT_TRUE(region.set_rows(7).ok());
  expect_pages(7);
}

// Fails each commit in turn; the ledger must agree after every one of them.
TEST_F(PagedRegionTest, AFailedCommitIsUndone) {
  for (std::uint64_t i = 0; i < 5; ++i)
    ASSERT_TRUE(region.add_growing({.offset = i * 10 * kPage, .row_bytes = kPage, .rows = 9}).ok());
  ASSERT_TRUE(region.set_rows(2).ok());
  for (int commits = 0; commits < 5; ++commits) {
    state.commits_left = commits;
    EXPECT_EQ(region.set_rows(6).code(), Code::memory_refused);
    expect_pages(10);
  }
  state.commits_left = 5;
  EXPECT_TRUE(region.set_rows(6).ok());
  expect_pages(30);
}

TEST_F(PagedRegionTest, FillWritesOnlyWhatIsCommitted) {
  ASSERT_TRUE(region.add_growing({.offset = 0, .row_bytes = kPage, .rows = 30}).ok());
  ASSERT_TRUE(region.set_rows(2).ok());
  region.fill(7);
  EXPECT_EQ(region.data()[0], std::byte{7});
  EXPECT_EQ(region.data()[2 * kPage - 1], std::byte{7});
  EXPECT_EQ(region.data()[2 * kPage], std::byte{0});
}

TEST(PagedRegionEnd, GivesEverythingBack) {
  ScriptedRange::State state;
  Budget budget{"kv"};
  {
    PagedRegion region{std::make_unique<ScriptedRange>(8, state)};
    ASSERT_TRUE(region.charge_to(budget).ok());
    ASSERT_TRUE(region.add_fixed(0, 8 * kPage).ok());
  }
  EXPECT_TRUE(state.pages.empty());
  EXPECT_TRUE(budget.stats().used.is_zero());
}

}  // namespace
}  // namespace forebay::llama
