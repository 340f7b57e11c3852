// Stacks whose number comes from a walk that was made before, against walks that are made.
#include "track/known_walks.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "track/recursion.hpp"
#include "track/stack.hpp"
#include "track/unwind_table.hpp"

namespace forebay::testing {
namespace {

using detail::Stack;

// The number of the stack of whoever calls make(), in both ways. capture() walks each time.
struct Numbers {
  StackId known = 0;
  StackId walked = 0;

  [[gnu::noinline]] static void make(void* numbers) {
    auto& the = *static_cast<Numbers*>(numbers);
    const void* const frame = __builtin_frame_address(0);
    the.known = detail::capture_and_intern(StackMethod::automatic, frame);
    Stack stack;
    detail::capture(stack, StackMethod::automatic, frame);
    the.walked = detail::intern(stack);
  }
};

// Goes through functions with a frame pointer and without, in an order. Ways with as many of each
// come to the same place of the code with the same stack pointer, by other return addresses.
struct Way {
  std::vector<bool> with_frames;
  Numbers numbers{};
  std::size_t next = 0;

  [[gnu::noinline]] static void go(void* way) {
    auto& the = *static_cast<Way*>(way);
    if (the.next == the.with_frames.size()) {
      Numbers::make(&the.numbers);
    } else if (the.with_frames[the.next++]) {
      recurse_with_frames(0, &go, way);
    } else {
      recurse_without_frames(0, &go, way);
    }
    asm volatile("");
  }
};

StackId number_of(Way& way) {
  way.next = 0;
  Way::go(&way);
  EXPECT_NE(way.numbers.known, 0U);
  EXPECT_EQ(way.numbers.known, way.numbers.walked);
  return way.numbers.known;
}

// All with three of each: 20.
std::vector<Way> ways_of_three() {
  std::vector<Way> ways;
  std::vector<bool> order{false, false, false, true, true, true};
  do {
    ways.push_back({order});
  } while (std::next_permutation(order.begin(), order.end()));
  return ways;
}

void take_ways(std::uint64_t start, int times) {
  detail::know_this_threads_stack();
  std::vector<Way> ways = ways_of_three();
  std::mt19937_64 random{start};
  std::vector<std::set<StackId>> ids(ways.size());
  std::size_t which = 0;
  for (int i = 0; i < times; ++i) {
    // Mostly the same again, so that it comes to be known.
    if (random() % 4 == 0) which = random() % ways.size();
    ids[which].insert(number_of(ways[which]));
  }
  std::set<StackId> all;
  for (const auto& of_way : ids) {
    EXPECT_EQ(of_way.size(), 1U);
    all.insert(of_way.begin(), of_way.end());
  }
  EXPECT_EQ(all.size(), ways.size());
}

class KnownWalks : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!detail::has_unwind_tables()) GTEST_SKIP() << "no unwind tables on this system";
  }
};

TEST_F(KnownWalks, AreToldApartByTheWordsOfTheStackAlone) { take_ways(1, 4000); }

TEST_F(KnownWalks, AreSharedByThreads) {
  std::vector<std::jthread> threads;
  for (std::uint64_t i = 0; i < 4; ++i) threads.emplace_back([i] { take_ways(i, 2000); });
}

TEST_F(KnownWalks, OfDeepRecursionsAreRightToo) {
  detail::know_this_threads_stack();
  for (int depth = 0; depth < 100; ++depth) {
    for (const auto recurse : {&recurse_with_frames, &recurse_without_frames}) {
      StackId id = 0;
      for (int i = 0; i < 4; ++i) {
        Numbers numbers;
        recurse(depth, &Numbers::make, &numbers);
        EXPECT_EQ(numbers.known, numbers.walked) << depth;
        EXPECT_TRUE(i == 0 || numbers.known == id) << depth;
        id = numbers.known;
      }
    }
  }
}

// Straight: what is kept is found, and not once a word of it is another.
TEST_F(KnownWalks, AreFoundWhileTheirWordsAreThere) {
  detail::know_this_threads_stack();
  struct Kept {
    detail::KnownWalk walk{};
    [[gnu::noinline]] static void make(void* kept) {
      auto& the = *static_cast<Kept*>(kept);
      auto* const frame = static_cast<std::uintptr_t*>(__builtin_frame_address(0));
      const auto place = reinterpret_cast<std::uintptr_t>(frame);
      const detail::Registers at{frame[1], place + 2 * sizeof(std::uintptr_t), frame[0]};
      const detail::StackBounds bounds{at.sp, detail::this_threads_stack().high};
      Stack stack;
      detail::capture(stack, StackMethod::automatic, frame);
      const std::span<const std::uintptr_t> frames{stack.frames.data(), stack.depth};
      EXPECT_EQ(the.walk.id_of(at, bounds), 0U);
      the.walk.become(at, bounds, frames, 77);
      EXPECT_EQ(the.walk.id_of(at, bounds), 77U);
      Stack again;
      detail::FrameList list{again};
      list.add(at.pc);
      EXPECT_TRUE(the.walk.add_frames(at, bounds, list));
      EXPECT_TRUE(std::ranges::equal(list.frames(), frames));
      EXPECT_EQ(the.walk.id_of({at.pc + 1, at.sp, at.fp}, bounds), 0U);
      EXPECT_EQ(the.walk.id_of({at.pc, at.sp + 16, at.fp}, bounds), 0U);
      EXPECT_EQ(the.walk.id_of(at, {bounds.low, bounds.high - 16}), 0U);
      // A walk of other frames than the tables say is not kept.
      std::vector<std::uintptr_t> wrong(frames.begin(), frames.end());
      wrong[2] += 1;
      detail::KnownWalk other;
      other.become(at, bounds, wrong, 78);
      EXPECT_EQ(other.id_of(at, bounds), 0U);
    }
  };
  Kept kept;
  recurse_without_frames(5, &Kept::make, &kept);
}

}  // namespace
}  // namespace forebay::testing
