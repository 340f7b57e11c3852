#include "track/stack.hpp"

#include <execinfo.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <thread>
#include <vector>

#include "track/captured.hpp"
#include "track/recursion.hpp"
#include "track/unwind_table.hpp"

namespace forebay::testing {
namespace {

using detail::Stack;
using Recursion = int (*)(int, Innermost, void*);

Stack captured(Recursion recurse, int depth, StackMethod method, std::uint32_t skip = 0) {
  detail::know_this_threads_stack();
  Capture capture{method, skip};
  recurse(depth, &Capture::make, &capture);
  return capture.stack;
}

// The same stack by the C library's unwinder, which is the judge.
struct Both {
  StackMethod method;
  Stack ours{};
  std::vector<std::uintptr_t> theirs{};

  [[gnu::noinline]] static void make(void* both) {
    auto& the = *static_cast<Both*>(both);
    std::array<void*, 64> frames{};
    const int count = backtrace(frames.data(), static_cast<int>(frames.size()));
    detail::capture(the.ours, the.method, 0);
    for (int i = 0; i < count; ++i) {
      the.theirs.push_back(reinterpret_cast<std::uintptr_t>(frames[static_cast<std::size_t>(i)]));
    }
  }
};

// Under the sanitizers, backtrace() is a function of its own, and so one frame more.
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr std::ptrdiff_t kOfTheJudge = 2;
#else
constexpr std::ptrdiff_t kOfTheJudge = 1;
#endif

// All but the innermost frame, which is the place of the call in make().
void expect_the_judges_frames(const Both& both) {
  ASSERT_GT(both.ours.depth, 1U);
  const std::vector ours(both.ours.frames.begin() + 1, both.ours.frames.begin() + both.ours.depth);
  EXPECT_EQ(ours, std::vector(both.theirs.begin() + kOfTheJudge, both.theirs.end()));
}

void compare_with_the_judge(Recursion recurse, StackMethod method) {
  detail::know_this_threads_stack();
  Both both{method};
  recurse(15, &Both::make, &both);
  expect_the_judges_frames(both);
  std::thread thread{[&] {
    detail::know_this_threads_stack();
    Both there{method};
    recurse(15, &Both::make, &there);
    expect_the_judges_frames(there);
  }};
  thread.join();
}

class WithTables : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!detail::has_unwind_tables()) GTEST_SKIP() << "no unwind tables on this system";
  }
};

TEST(StackByFramePointers, HasEachFrameOfCodeThatKeepsThem) {
  const Stack stack = captured(&recurse_with_frames, 20, StackMethod::frame_pointers);
  EXPECT_EQ(most_repeated(stack), 20U);
}

TEST(StackByFramePointers, EndsAtCodeThatDoesNot) {
  const Stack stack = captured(&recurse_without_frames, 20, StackMethod::frame_pointers);
  EXPECT_GE(stack.depth, 1U);
  EXPECT_LT(most_repeated(stack), 20U);
}

TEST_F(WithTables, StackOfCodeWithFramePointersIsTheCLibrarys) {
  compare_with_the_judge(&recurse_with_frames, StackMethod::unwind_tables);
}

TEST_F(WithTables, StackOfCodeWithoutFramePointersIsTheCLibrarys) {
  compare_with_the_judge(&recurse_without_frames, StackMethod::unwind_tables);
}

TEST_F(WithTables, AutomaticIsTheCLibrarysStackWhereFramePointersBreak) {
  compare_with_the_judge(&recurse_without_frames, StackMethod::automatic);
}

TEST_F(WithTables, AutomaticGoesOnToTheOutermostFrame) {
  Both both{StackMethod::automatic};
  detail::know_this_threads_stack();
  recurse_with_frames(15, &Both::make, &both);
  EXPECT_EQ(most_repeated(both.ours), 15U);
  ASSERT_GT(both.ours.depth, 0U);
  EXPECT_EQ(both.ours.frames[both.ours.depth - 1], both.theirs.back());
}

TEST(Stack, OfNoMethodIsEmpty) {
  EXPECT_EQ(captured(&recurse_with_frames, 5, StackMethod::none).depth, 0U);
  EXPECT_EQ(detail::capture_and_intern(StackMethod::none, 0), 0U);
}

TEST(Stack, LeavesOutTheInnermostFramesThatItIsTold) {
  for (const auto method :
       {StackMethod::frame_pointers, StackMethod::unwind_tables, StackMethod::automatic}) {
    const Stack all = captured(&recurse_with_frames, 10, method);
    const Stack rest = captured(&recurse_with_frames, 10, method, 3);
    if (all.depth <= 3) continue;
    ASSERT_EQ(rest.depth, all.depth - 3);
    for (std::uint32_t i = 2; i + 3 < all.depth && i < 8; ++i) {
      EXPECT_EQ(rest.frames[i], all.frames[i + 3]);
    }
    EXPECT_EQ(captured(&recurse_with_frames, 10, method, 1000).depth, 0U);
  }
}

TEST(Stack, HasTheInnermostFramesOfADeepRecursion) {
  for (const auto method : {StackMethod::frame_pointers, StackMethod::automatic}) {
    const Stack stack = captured(&recurse_with_frames, 500, method);
    EXPECT_EQ(stack.depth, detail::kMostFrames);
    EXPECT_GE(most_repeated(stack), detail::kMostFrames - 3);
  }
  if (!detail::has_unwind_tables()) return;
  const Stack stack = captured(&recurse_without_frames, 500, StackMethod::unwind_tables);
  EXPECT_EQ(stack.depth, detail::kMostFrames);
}

TEST(Stack, OfAThreadThatDidNotSayWhereItsStackEndsIsShortAtMost) {
  std::thread thread{[] {
    for (const auto method :
         {StackMethod::frame_pointers, StackMethod::unwind_tables, StackMethod::automatic}) {
      Capture capture{method};
      recurse_with_frames(40, &Capture::make, &capture);
      EXPECT_GE(capture.stack.depth, 1U);
    }
  }};
  thread.join();
}

[[gnu::noinline]] StackId here(std::uint32_t skip) {
  const StackId id = detail::capture_and_intern(StackMethod::automatic, skip);
  asm volatile("");
  return id;
}

TEST(Stack, IsTheSameNumberForTheSameWayToTheSamePlace) {
  detail::know_this_threads_stack();
  std::array<StackId, 3> ids{};
  for (StackId& id : ids) id = here(0);
  EXPECT_NE(ids[0], 0U);
  EXPECT_THAT(ids, ::testing::Each(ids[0]));
  const StackId elsewhere = here(0);
  EXPECT_NE(elsewhere, ids[0]);
  // Within here() the place is the same; where it was called from is not.
  EXPECT_EQ(detail::frames_of(elsewhere)[0], detail::frames_of(ids[0])[0]);
  EXPECT_NE(detail::frames_of(elsewhere)[1], detail::frames_of(ids[0])[1]);
  EXPECT_EQ(detail::frames_of(here(1)).size() + 1, detail::frames_of(ids[0]).size());
  EXPECT_EQ(detail::symbolize(detail::frames_of(elsewhere)[0] - 1).function,
            "forebay::testing::(anonymous namespace)::here(unsigned int)");
}

}  // namespace
}  // namespace forebay::testing
