#include "device/page_set.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <random>
#include <thread>
#include <vector>

#include "device/fail_point.hpp"
#include "support/failing_new.hpp"

namespace forebay::detail {
namespace {

using namespace literals;

// Memory that the process has resident.
Bytes resident() {
  std::uint64_t total = 0;
  std::uint64_t pages = 0;
  std::ifstream{"/proc/self/statm"} >> total >> pages;
  return system_page() * pages;
}

TEST(PageSet, CountsPagesAcrossWords) {
  PageSet pages{4_KiB * 1000, 4_KiB};
  pages.insert(4_KiB * 60, 4_KiB * 140);
  EXPECT_EQ(pages.bytes(), 4_KiB * 140);
  EXPECT_EQ(pages.missing(0_B, 4_KiB * 1000), 4_KiB * 860);
  EXPECT_EQ(pages.missing(4_KiB * 59, 4_KiB * 2), 4_KiB);
  EXPECT_EQ(pages.missing(4_KiB * 199, 4_KiB * 2), 4_KiB);
  EXPECT_EQ(pages.erase(4_KiB * 64, 4_KiB * 64), 4_KiB * 64);
  EXPECT_EQ(pages.erase(0_B, 4_KiB * 64), 4_KiB * 4);
  EXPECT_EQ(pages.bytes(), 4_KiB * 72);
}

TEST(PageSet, FindsItsFirstPage) {
  PageSet pages{4_KiB * 300, 4_KiB};
  EXPECT_EQ(pages.first_in(4_KiB, 4_KiB * 299), 4_KiB * 300);
  pages.insert(4_KiB * 130, 4_KiB);
  EXPECT_EQ(pages.first_in(0_B, 4_KiB * 300), 4_KiB * 130);
  EXPECT_EQ(pages.first_in(4_KiB * 130, 4_KiB * 170), 4_KiB * 130);
  EXPECT_EQ(pages.first_in(4_KiB * 131, 4_KiB * 100), 4_KiB * 231);
  EXPECT_EQ(pages.first_in(4_KiB * 3, 4_KiB * 127), 4_KiB * 130);
  EXPECT_EQ(pages.first_in(4_KiB * 3, 0_B), 4_KiB * 3);
}

TEST(PageSet, IsAsAListOfBitsUnderRandomUse) {
  for (const std::size_t size : {1U, 63U, 64U, 65U, 400U}) {
    std::mt19937 random{static_cast<unsigned>(size)};
    PageSet pages{4_KiB * size, 4_KiB};
    std::vector<bool> model(size);
    for (int step = 0; step < 500; ++step) {
      const std::size_t first = random() % size;
      const std::size_t count = random() % (size - first + 1);
      const Bytes offset = 4_KiB * first;
      const Bytes bytes = 4_KiB * count;
      const auto begin = model.begin() + static_cast<std::ptrdiff_t>(first);
      const auto end = begin + static_cast<std::ptrdiff_t>(count);
      const auto present = static_cast<std::uint64_t>(std::count(begin, end, true));
      ASSERT_EQ(pages.missing(offset, bytes), bytes - 4_KiB * present);
      ASSERT_EQ(pages.first_in(offset, bytes),
                offset + 4_KiB * static_cast<std::uint64_t>(std::find(begin, end, true) - begin));
      if (random() % 2 == 0) {
        pages.insert(offset, bytes);
        std::fill(begin, end, true);
      } else {
        ASSERT_EQ(pages.erase(offset, bytes), 4_KiB * present);
        std::fill(begin, end, false);
      }
    }
  }
}

// 2^28 pages: their bits are 32 MiB, of which a few words are used.
TEST(PageSet, TakesMemoryOnlyForWhatWasEverSet) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the thread sanitizer keeps memory for every word that is read";
#endif
  const Bytes before = resident();
  PageSet pages{1_TiB, 4_KiB};
  pages.insert(512_GiB, 1_MiB);
  EXPECT_EQ(pages.erase(0_B, 1_TiB), 1_MiB);
  EXPECT_LT(resident(), before + 8_MiB);
}

TEST(PageSet, CountsExactlyUnderThreads) {
  PageSet pages{4_KiB * 256, 4_KiB};
  const auto work = [&](std::size_t thread) {
    for (std::size_t round = 0; round < 2000; ++round) {
      for (std::size_t page = thread; page < 256; page += 64) pages.insert(4_KiB * page, 4_KiB);
      for (std::size_t page = thread; page < 256; page += 64) {
        ASSERT_EQ(pages.erase(4_KiB * page, 4_KiB), 4_KiB);
      }
    }
    pages.insert(4_KiB * thread, 4_KiB);
  };
  std::vector<std::thread> threads;
  for (std::size_t thread = 0; thread < 4; ++thread) threads.emplace_back(work, thread);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(pages.bytes(), 4_KiB * 4);
  EXPECT_EQ(pages.missing(0_B, 4_KiB * 4), 0_B);
}

TEST(PageSet, ThrowsWhenItsBitsCannotBeHad) {
  const testing::FailingNew failure{0};
  EXPECT_THROW((PageSet{4_KiB, 4_KiB}), std::bad_alloc);
}

TEST(PageSet, ThrowsWhenTheBitsOfALargeRangeCannotBeMapped) {
  host_mappings().fail_after(0);
  EXPECT_THROW((PageSet{1_GiB, 4_KiB}), std::bad_alloc);
  EXPECT_NO_THROW((PageSet{1_MiB, 4_KiB}));
  host_mappings().never_fail();
  EXPECT_NO_THROW((PageSet{1_GiB, 4_KiB}));
  EXPECT_THROW((PageSet{Bytes{1ULL << 63}, 1_B}), std::bad_alloc) << "2^60 bytes of bits";
}

}  // namespace
}  // namespace forebay::detail
