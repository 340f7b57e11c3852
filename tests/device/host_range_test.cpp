// What ranges of the host do with the system's memory and mappings. That they behave as every
// range must is for tests/conformance.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "device/fail_point.hpp"
#include "device/mapping.hpp"
#include "device/memory_looks.hpp"
#include "forebay/device.hpp"
#include "support/failing_new.hpp"

namespace forebay {
namespace {

using namespace literals;

std::size_t count_mappings() {
  std::ifstream maps{"/proc/self/maps"};
  std::size_t lines = 0;
  for (std::string line; std::getline(maps, line);) ++lines;
  return lines;
}

Bytes resident(const AddressRange& range) {
  return detail::system_page() * resident_pages(range.data(), range.size());
}

// What this process has in huge pages.
Bytes in_huge_pages() {
  std::ifstream file{"/proc/self/smaps_rollup"};
  std::uint64_t kib = 0;
  for (std::string word; file >> word;) {
    if (word == "AnonHugePages:" && file >> kib) return 1_KiB * kib;
  }
  return {};
}

// A counter of the kernel's, e.g. of huge pages that were split. -1 if it has none.
long vmstat(const std::string& key) {
  std::ifstream file{"/proc/vmstat"};
  long value = -1;
  for (std::string name; file >> name >> value;) {
    if (name == key) return value;
  }
  return -1;
}

bool has_huge_pages() {
  std::ifstream file{"/sys/kernel/mm/transparent_hugepage/enabled"};
  std::string line;
  return std::getline(file, line) && line.find("[never]") == std::string::npos;
}

void fill(AddressRange& range, Bytes offset, Bytes bytes, unsigned char value) {
  std::memset(range.data() + offset.count(), value, bytes.count());
}

class HostRange : public ::testing::Test {
 protected:
  void TearDown() override { detail::host_mappings().never_fail(); }
  std::unique_ptr<AddressRange> reserve(Bytes bytes, HugePages huge_pages = HugePages::never,
                                        Bytes page = {}) {
    return Device::host()->reserve_address(bytes, {.page = page, .huge_pages = huge_pages}).value();
  }
};

TEST_F(HostRange, ReservesWholePagesAndTakesNoMemory) {
  const auto range = reserve(1_MiB + 1_B);
  EXPECT_EQ(range->page(), detail::system_page());
  EXPECT_EQ(range->size(), 1_MiB + range->page());
  EXPECT_EQ(resident_pages(range->data(), range->size()), 0U);
}

TEST_F(HostRange, RaisesAPageBelowTheSystems) {
  EXPECT_EQ(reserve(1_MiB, HugePages::never, 512_B)->page(), detail::system_page());
  EXPECT_EQ(reserve(1_MiB, HugePages::never, 64_KiB)->page(), 64_KiB);
  EXPECT_EQ(reserve(1_MiB, HugePages::advise, 64_KiB)->page(), 64_KiB);
  EXPECT_EQ(reserve(1_MiB, HugePages::always, 64_KiB)->page(), 2_MiB);
  EXPECT_EQ(reserve(1_MiB, HugePages::always)->size(), 2_MiB);
}

TEST_F(HostRange, ReservesMoreAddressesThanTheMachineHasMemory) {
  const auto range = reserve(Device::host()->capacity() * 2);
  EXPECT_TRUE(range->commit(range->size() - range->page(), range->page()).ok());
}

TEST_F(HostRange, MayBeReadAsZeroBeyondWhatIsCommitted) {
  const auto range = reserve(4_MiB);
  ASSERT_TRUE(range->commit(0_B, range->page()).ok());
  fill(*range, 0_B, range->page(), 7);
  EXPECT_TRUE(all_zero(range->data() + range->page().count(), range->size() - range->page()));
}

TEST_F(HostRange, TakesMemoryPageByPageAndGivesItBack) {
  const auto range = reserve(8_MiB);
  const Bytes page = range->page();
  ASSERT_TRUE(range->commit(0_B, page * 3).ok());
  fill(*range, 0_B, page * 3, 7);
  EXPECT_EQ(resident_pages(range->data(), range->size()), 3U);
  range->decommit(page, page * 2);
  EXPECT_EQ(resident_pages(range->data(), range->size()), 1U);
  ASSERT_TRUE(range->commit(page, page).ok());
  EXPECT_TRUE(all_zero(range->data() + page.count(), page));
  EXPECT_EQ(range->data()[0], std::byte{7});
}

TEST_F(HostRange, MovesMemoryWithoutCopyingIt) {
  const auto first = reserve(8_MiB);
  const auto second = reserve(8_MiB);
  ASSERT_TRUE(first->commit(0_B, 4_MiB).ok());
  fill(*first, 0_B, 2_MiB, 9);  // half of it was never written
  ASSERT_TRUE(second->adopt(1_MiB, *first, 0_B, 4_MiB).ok());
  EXPECT_EQ(resident_pages(first->data(), first->size()), 0U);
  EXPECT_EQ(resident_pages(second->data(), second->size()), 2_MiB / detail::system_page());
  EXPECT_TRUE(all_zero(first->data(), first->size()));
  EXPECT_EQ(second->data()[(3_MiB).count() - 1], std::byte{9});
  second->decommit(0_B, 8_MiB);
  EXPECT_EQ(resident_pages(second->data(), second->size()), 0U);
}

TEST_F(HostRange, RefusesToMoveBetweenRangesOfOtherOptions) {
  const auto fine = reserve(8_MiB);
  const auto coarse = reserve(8_MiB, HugePages::never, 64_KiB);
  const auto advised = reserve(8_MiB, HugePages::advise);
  ASSERT_TRUE(fine->commit(0_B, 64_KiB).ok());
  EXPECT_EQ(coarse->adopt(0_B, *fine, 0_B, 64_KiB).code(), Code::unsupported);
  EXPECT_EQ(advised->adopt(0_B, *fine, 0_B, 64_KiB).code(), Code::unsupported);
  EXPECT_EQ(fine->committed(), 64_KiB);
}

// Each page may become a mapping of its own, if it lies where no neighbour came from, but no
// more than that however often they move; and none of them is left when they are given back.
TEST_F(HostRange, NeedsNoMoreMappingsHoweverOftenPagesMove) {
  constexpr std::size_t kPages = 64;
  const auto first = reserve(64_KiB * kPages, HugePages::never, 64_KiB);
  const auto second = reserve(64_KiB * kPages, HugePages::never, 64_KiB);
  const std::size_t before = count_mappings();
  std::mt19937 random{3};
  std::vector<bool> in_second(kPages);
  std::vector<std::size_t> place(kPages);
  for (std::size_t i = 0; i < kPages; ++i) place[i] = i;
  ASSERT_TRUE(first->commit(0_B, first->size()).ok());
  fill(*first, 0_B, first->size(), 1);
  std::size_t most = 0;
  for (int round = 0; round < 40; ++round) {
    std::vector<std::size_t> targets(kPages);
    for (std::size_t i = 0; i < kPages; ++i) targets[i] = i;
    std::shuffle(targets.begin(), targets.end(), random);
    AddressRange& from = round % 2 == 0 ? *first : *second;
    AddressRange& to = round % 2 == 0 ? *second : *first;
    for (std::size_t i = 0; i < kPages; ++i) {
      ASSERT_TRUE(to.adopt(64_KiB * targets[i], from, 64_KiB * place[i], 64_KiB).ok());
      place[i] = targets[i];
    }
    most = std::max(most, count_mappings());
  }
  EXPECT_LE(most, before + 2 * kPages + 2);
  EXPECT_EQ(first->data()[0], std::byte{1});
  for (AddressRange* const range : {first.get(), second.get()}) {
    range->decommit(0_B, range->size());
    EXPECT_TRUE(all_zero(range->data(), range->size()));
  }
  EXPECT_LE(count_mappings(), before + 4);
}

TEST_F(HostRange, MovesEverythingBackWhenALaterPieceCannotMove) {
  const auto first = reserve(1_MiB);
  const auto second = reserve(1_MiB);
  const Bytes page = first->page();
  ASSERT_TRUE(first->commit(0_B, page * 10).ok());
  fill(*first, 0_B, page * 10, 1);
  // In pieces from here on: pages 3 and 4 come from elsewhere.
  ASSERT_TRUE(second->commit(0_B, page * 2).ok());
  fill(*second, 0_B, page * 2, 2);
  first->decommit(page * 3, page * 2);
  ASSERT_TRUE(first->adopt(page * 3, *second, 0_B, page * 2).ok());

  std::uint64_t pieces = 0;
  for (bool moved = false; !moved; ++pieces) {
    ASSERT_LT(pieces, 10U);
    detail::host_mappings().fail_after(pieces);
    const Status status = second->adopt(page * 20, *first, 0_B, page * 10);
    detail::host_mappings().never_fail();
    moved = status.ok();
    const AddressRange& holder = moved ? *second : *first;
    const std::byte* const data = holder.data() + (moved ? page * 20 : 0_B).count();
    for (std::uint64_t i = 0; i < 10; ++i) {
      EXPECT_EQ(data[(page * i).count() + 5], (i == 3 || i == 4 ? std::byte{2} : std::byte{1}))
          << i;
    }
    EXPECT_EQ(first->committed(), moved ? 0_B : page * 10);
    EXPECT_EQ(second->committed(), moved ? page * 10 : 0_B);
    const AddressRange& empty = moved ? *first : *second;
    EXPECT_TRUE(all_zero(empty.data(), empty.size()));
    EXPECT_EQ(status.code(), moved ? Code::ok : Code::unsupported);
  }
  EXPECT_GE(pieces, 4U) << "three pieces, and the call that got through";
}

// Uses up vm.max_map_count, so that the kernel itself refuses.
TEST_F(HostRange, ChangesNothingWhenTheSystemIsOutOfMappings) {
  std::size_t limit = 0;
  std::ifstream{"/proc/sys/vm/max_map_count"} >> limit;
  if (limit == 0 || limit > 200'000) GTEST_SKIP() << "vm.max_map_count is " << limit;
  const auto first = reserve(1_MiB);
  const auto second = reserve(1_MiB);
  const Bytes page = first->page();
  ASSERT_TRUE(first->commit(0_B, page * 8).ok());
  fill(*first, 0_B, page * 8, 5);

  const Bytes filler_size = page * (2 * limit);
  auto filler = detail::Mapping::map(filler_size, detail::Access::read_write, page);
  ASSERT_TRUE(filler);
  for (std::size_t i = 1; i < 2 * limit; i += 2) {
    if (::mprotect(filler->data() + i * page.count(), page.count(), PROT_NONE) != 0) break;
  }
  // Leaves 0, 2, 4, ... mappings: near the end a move fails at one step of the kernel's or another.
  int refused = 0;
  for (std::size_t free = 0; free < 8; ++free) {
    const Status status = second->adopt(page * 4, *first, page * 2, page * 2);
    if (status.ok()) break;
    ++refused;
    EXPECT_EQ(status.code(), Code::unsupported);
    EXPECT_TRUE(all_zero(second->data(), second->size()));
    EXPECT_FALSE(all_zero(first->data() + page.count() * 2, page * 2));
    EXPECT_EQ(first->committed(), page * 8);
    ASSERT_EQ(::mprotect(filler->data() + (2 * free + 1) * page.count(), page.count(),
                         PROT_READ | PROT_WRITE),
              0);
  }
  filler.reset();
  EXPECT_GT(refused, 0);
  EXPECT_EQ(second->committed(), page * 2);
  EXPECT_EQ(second->data()[(page * 4).count()], std::byte{5});
  EXPECT_TRUE(all_zero(first->data() + page.count() * 2, page * 2));
}

TEST_F(HostRange, HasNoHugePagesUnlessAsked) {
  const auto range = reserve(8_MiB);
  ASSERT_TRUE(range->commit(0_B, 8_MiB).ok());
  const Bytes before = in_huge_pages();
  fill(*range, 0_B, 8_MiB, 1);
  EXPECT_EQ(in_huge_pages(), before);
}

TEST_F(HostRange, BacksHugePagesThatACommitCoversWhole) {
  if (!has_huge_pages()) GTEST_SKIP() << "this system has no transparent huge pages";
  const auto range = reserve(16_MiB, HugePages::advise);
  ASSERT_TRUE(range->commit(1_MiB, 4_MiB).ok());  // one whole, and parts of two
  ASSERT_TRUE(range->commit(9_MiB, 512_KiB).ok());
  const Bytes before = in_huge_pages();
  fill(*range, 1_MiB, 4_MiB, 1);
  fill(*range, 9_MiB, 512_KiB, 1);
  EXPECT_LE(in_huge_pages(), before + 2_MiB);
  EXPECT_EQ(resident(*range), 4_MiB + 512_KiB);
  range->decommit(0_B, 16_MiB);
  ASSERT_TRUE(range->commit(2_MiB, 4_KiB).ok());
  fill(*range, 2_MiB, 4_KiB, 1);
  EXPECT_EQ(resident(*range), 4_KiB) << "a page committed alone takes no huge one";
}

TEST_F(HostRange, SplitsAHugePageThatLosesAPart) {
  if (!has_huge_pages()) GTEST_SKIP() << "this system has no transparent huge pages";
  const auto range = reserve(8_MiB, HugePages::advise);
  ASSERT_TRUE(range->commit(0_B, 8_MiB).ok());
  const Bytes before = in_huge_pages();
  fill(*range, 0_B, 8_MiB, 1);
  const Bytes huge = in_huge_pages() - before;
  if (huge != 8_MiB) GTEST_SKIP() << "the system had " << to_string(huge) << " in huge pages";
  const long split = vmstat("thp_split_page");
  range->decommit(1_MiB, 4_MiB);  // parts of two, one whole
  EXPECT_EQ(resident(*range), 4_MiB);
  EXPECT_EQ(in_huge_pages(), before + 2_MiB);
  // A kernel that does not count says -1.
  EXPECT_GE(vmstat("thp_split_page"), split < 0 ? split : split + 2);
  EXPECT_EQ(range->data()[0], std::byte{1});
  EXPECT_TRUE(all_zero(range->data() + (1_MiB).count(), 4_MiB));
}

TEST_F(HostRange, MovesHugePagesWhole) {
  if (!has_huge_pages()) GTEST_SKIP() << "this system has no transparent huge pages";
  for (const HugePages huge_pages : {HugePages::advise, HugePages::always}) {
    const auto first = reserve(8_MiB, huge_pages);
    const auto second = reserve(8_MiB, huge_pages);
    ASSERT_TRUE(first->commit(0_B, 8_MiB).ok());
    fill(*first, 0_B, 8_MiB, 1);
    const Bytes huge = in_huge_pages();
    ASSERT_TRUE(second->adopt(2_MiB, *first, 4_MiB, 4_MiB).ok());
    EXPECT_EQ(in_huge_pages(), huge);
    EXPECT_EQ(resident(*first), 4_MiB);
    EXPECT_EQ(resident(*second), 4_MiB);
    EXPECT_EQ(second->data()[(6_MiB).count() - 1], std::byte{1});
  }
}

// Pieces of a huge page, and huge pages that come to lie across two.
TEST_F(HostRange, MovesPartsOfHugePages) {
  const auto first = reserve(16_MiB, HugePages::advise);
  const auto second = reserve(16_MiB, HugePages::advise);
  ASSERT_TRUE(first->commit(0_B, 16_MiB).ok());
  fill(*first, 0_B, 16_MiB, 1);
  ASSERT_TRUE(second->adopt(0_B, *first, 1_MiB, 9_MiB).ok());
  EXPECT_EQ(resident(*first), 7_MiB);
  EXPECT_EQ(resident(*second), 9_MiB);
  EXPECT_TRUE(all_zero(first->data() + (1_MiB).count(), 9_MiB));
  second->decommit(1_MiB, 6_MiB);
  EXPECT_EQ(resident(*second), 3_MiB);
  EXPECT_EQ(second->data()[(9_MiB).count() - 1], std::byte{1});
}

TEST_F(HostRange, RefusedCommitChangesNothing) {
  const auto range = reserve(1_MiB);
  ASSERT_TRUE(range->commit(0_B, range->page()).ok());
  detail::host_mappings().fail_after(0);
  const Status refused = range->commit(0_B, range->page() * 2);
  EXPECT_EQ(refused.code(), Code::memory_refused);
  EXPECT_NE(refused.message().find(to_string(range->page())), std::string::npos);
  EXPECT_EQ(range->committed(), range->page());
}

TEST_F(HostRange, IsRefusedWhenItsBitsCannotBeMapped) {
  for (std::uint64_t n = 0; n < 3; ++n) {
    detail::host_mappings().fail_after(n);
    EXPECT_EQ(Device::host()->reserve_address(1_GiB).status().code(), Code::memory_refused) << n;
  }
  detail::host_mappings().fail_after(3);
  EXPECT_TRUE(Device::host()->reserve_address(1_GiB).ok());
}

TEST_F(HostRange, SurvivesEveryAllocationFailing) {
  const auto host = Device::host();
  const auto failures = testing::walk_allocation_failures(
      [&] {
        auto range = host->reserve_address(1_MiB);
        auto other = host->reserve_address(1_MiB);
        if (!range || !other) {
          EXPECT_EQ((range ? other.status() : range.status()).code(), Code::memory_refused);
          return;
        }
        AddressRange& pages = **range;
        EXPECT_FALSE(pages.commit(1_B, 1_B).ok());
        EXPECT_TRUE(pages.commit(0_B, pages.page() * 2).ok());
        EXPECT_FALSE(pages.adopt(pages.page(), **other, 0_B, pages.page()).ok());
        EXPECT_TRUE((*other)->adopt(0_B, pages, pages.page(), pages.page()).ok());
        EXPECT_EQ(pages.committed(), pages.page());
      },
      [] {}, testing::FailingNew::Failing::from_there_on);
  EXPECT_GE(failures, 7U) << "three for each range, one for each message";
}

using HostRangeDeathTest = HostRange;

TEST_F(HostRangeDeathTest, AbortsOnDecommitOutsideTheRange) {
  const auto range = reserve(1_MiB);
  EXPECT_DEATH(range->decommit(range->size(), range->page()), "not pages of the range");
}

}  // namespace
}  // namespace forebay
