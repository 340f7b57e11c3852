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

Stack captured(Recursion recurse, int depth, StackMethod method) {
  detail::know_this_threads_stack();
  Capture capture{method};
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
    detail::capture(the.ours, the.method, nullptr);
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
  EXPECT_EQ(detail::capture_and_intern(StackMethod::none, nullptr), 0U);
}

struct FromAFrame {
  Stack stack{};
  std::uintptr_t caller = 0;
};

// The stack as a function sees it that was called from outside and called others before it asked.
[[gnu::noinline]] FromAFrame from_this_frame(StackMethod method) {
  FromAFrame found;
  found.caller = reinterpret_cast<std::uintptr_t>(__builtin_return_address(0));
  Capture capture{method, __builtin_frame_address(0)};
  recurse_with_frames(5, &Capture::make, &capture);
  found.stack = capture.stack;
  return found;
}

TEST(Stack, BeginsWithTheCallerOfTheFrameThatItIsTold) {
  detail::know_this_threads_stack();
  for (const auto method :
       {StackMethod::frame_pointers, StackMethod::unwind_tables, StackMethod::automatic}) {
    if (method == StackMethod::unwind_tables && !detail::has_unwind_tables()) continue;
    const FromAFrame found = from_this_frame(method);
    ASSERT_GE(found.stack.depth, 2U);
    EXPECT_EQ(found.stack.frames[0], found.caller);
    EXPECT_EQ(most_repeated(found.stack), 1U);
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

[[gnu::noinline]] StackId here(const void* frame) {
  const StackId id = detail::capture_and_intern(StackMethod::automatic, frame);
  asm volatile("");
  return id;
}

TEST(Stack, IsTheSameNumberForTheSameWayToTheSamePlace) {
  detail::know_this_threads_stack();
  std::array<StackId, 3> ids{};
  for (StackId& id : ids) id = here(nullptr);
  EXPECT_NE(ids[0], 0U);
  EXPECT_THAT(ids, ::testing::Each(ids[0]));
  const StackId elsewhere = here(nullptr);
  EXPECT_NE(elsewhere, ids[0]);
  // Within here() the place is the same; where it was called from is not.
  EXPECT_EQ(detail::frames_of(elsewhere)[0], detail::frames_of(ids[0])[0]);
  EXPECT_NE(detail::frames_of(elsewhere)[1], detail::frames_of(ids[0])[1]);
  // The test's own frame: its caller is where the stack begins.
  EXPECT_EQ(detail::frames_of(here(__builtin_frame_address(0))).size() + 2,
            detail::frames_of(ids[0]).size());
  EXPECT_EQ(detail::symbolize(detail::frames_of(elsewhere)[0] - 1).function,
            "forebay::testing::(anonymous namespace)::here(void const*)");
}

}  // namespace
}  // namespace forebay::testing
