#include "track/stack_depot.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "track/captured.hpp"

namespace forebay::testing {
namespace {

using detail::StackDepot;
using Frames = std::vector<std::uintptr_t>;

class OwnDepot {
 public:
  explicit OwnDepot(StackDepot::Size size)
      : memory_(StackDepot::bytes(size) / 8 + 1), depot_(memory_.data(), size) {}
  StackDepot* operator->() { return &depot_; }

 private:
  std::vector<std::uint64_t> memory_;
  StackDepot depot_;
};

constexpr StackDepot::Size kRoomy{.slots = 1U << 13, .stacks = 1U << 12, .words = 1U << 16};

Frames kept(OwnDepot& depot, StackId id) {
  const auto frames = depot->frames_of(id);
  return {frames.begin(), frames.end()};
}

// The i-th of many stacks, some the beginning of others.
Frames some_stack(std::uint64_t i) {
  Frames frames;
  for (std::uint64_t j = 0; j <= i % 48; ++j) frames.push_back(0x1000 * (i / 48 + 1) + j * 16);
  return frames;
}

TEST(StackDepot, GivesTheSameNumberToTheSameFramesAndNoOther) {
  OwnDepot depot{kRoomy};
  const std::vector<Frames> stacks{{1, 2, 3}, {3, 2, 1}, {1, 2}, {1, 2, 3, 0}, {2, 1, 3}, {1}, {0}};
  std::vector<StackId> ids;
  for (const Frames& frames : stacks) ids.push_back(depot->intern(frames));
  EXPECT_THAT(ids, ::testing::ElementsAre(1, 2, 3, 4, 5, 6, 7));
  for (std::size_t i = 0; i < stacks.size(); ++i) {
    EXPECT_EQ(depot->intern(stacks[i]), ids[i]);
    EXPECT_EQ(kept(depot, ids[i]), stacks[i]);
  }
  EXPECT_EQ(depot->used(), stacks.size());
  EXPECT_EQ(depot->refused(), 0U);
}

TEST(StackDepot, HasNoFramesForNumbersThatItDidNotGive) {
  OwnDepot depot{kRoomy};
  EXPECT_EQ(depot->intern({}), 0U);
  EXPECT_TRUE(depot->frames_of(0).empty());
  EXPECT_TRUE(depot->frames_of(1).empty());
  EXPECT_TRUE(depot->frames_of(~0U).empty());
  EXPECT_EQ(depot->bytes_used(), 0U);
}

TEST(StackDepot, KeepsAsManyAsItHasNumbersForAndCountsTheRest) {
  OwnDepot depot{{.slots = 64, .stacks = 20, .words = 4096}};
  for (std::uint64_t i = 0; i < 20; ++i) EXPECT_EQ(depot->intern(some_stack(i)), i + 1);
  for (std::uint64_t i = 20; i < 50; ++i) EXPECT_EQ(depot->intern(some_stack(i)), 0U);
  EXPECT_EQ(depot->refused(), 30U);
  for (std::uint64_t i = 0; i < 20; ++i) EXPECT_EQ(depot->intern(some_stack(i)), i + 1);
  EXPECT_EQ(depot->refused(), 30U);
  EXPECT_EQ(depot->used(), 20U);
}

TEST(StackDepot, KeepsWhatItsWordsSufficeForAndCountsTheRest) {
  OwnDepot depot{{.slots = 64, .stacks = 32, .words = 12}};
  EXPECT_EQ(depot->intern(Frames{1, 2, 3, 4}), 1U);
  EXPECT_EQ(depot->intern(Frames{5, 6, 7, 8}), 2U);
  EXPECT_EQ(depot->intern(Frames{9}), 0U);
  EXPECT_EQ(depot->intern(Frames{1, 2, 3, 4}), 1U);
  EXPECT_EQ(depot->refused(), 1U);
}

TEST(StackDepot, RefusesWhenItsSlotsAreTaken) {
  OwnDepot depot{{.slots = 8, .stacks = 100, .words = 4096}};
  for (std::uint64_t i = 0; i < 20; ++i) depot->intern(some_stack(i));
  EXPECT_EQ(depot->used(), 8U);
  EXPECT_EQ(depot->refused(), 12U);
}

TEST(StackDepot, AgreesAmongThreadsThatInternTheSameStacks) {
  constexpr std::uint64_t kStacks = 1500;
  constexpr int kThreads = 4;
  // Whoever loses a race for a new stack leaves its words unused: room for all to lose always.
  StackDepot::Size size = kRoomy;
  size.words *= kThreads;
  OwnDepot depot{size};
  std::vector<std::vector<StackId>> ids(kThreads, std::vector<StackId>(kStacks));
  std::vector<std::thread> threads;
  for (auto& mine : ids) {
    threads.emplace_back([&, start = threads.size() * 2] {
      for (std::uint64_t i = 0; i < kStacks; ++i) {
        const std::uint64_t which = (i + start) % kStacks;
        mine[which] = depot->intern(some_stack(which));
        const auto frames = depot->frames_of(mine[which]);
        EXPECT_EQ(Frames(frames.begin(), frames.end()), some_stack(which));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& other : ids) EXPECT_EQ(other, ids[0]);
  EXPECT_EQ(std::set<StackId>(ids[0].begin(), ids[0].end()).size(), kStacks);
  EXPECT_EQ(depot->used(), kStacks);  // no number without a stack
  EXPECT_EQ(depot->refused(), 0U);
}

// ---- Within a handler of signals

std::atomic<StackDepot*> g_depot{nullptr};
std::atomic<std::uint64_t> g_interned{0};

void intern_in_handler(int) {
  const std::uint64_t turn = g_interned.fetch_add(1);
  for (std::uint64_t i = 0; i < 8; ++i) {
    Frames::value_type frames[3]{0x5000 + (turn * 8 + i) % 600, 1, 2};
    g_depot.load()->intern(frames);
  }
}

TEST(StackDepot, IsWholeThoughHandlersOfSignalsInternInTheMiddle) {
  OwnDepot depot{kRoomy};
  g_depot = depot.operator->();
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = &intern_in_handler;
  ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
  std::atomic<bool> done{false};
  const pthread_t self = pthread_self();
  std::thread storm{[&] {
    do {
      pthread_kill(self, SIGUSR1);
    } while (!done);
  }};
  std::map<Frames, StackId> ids;
  for (std::uint64_t round = 0; round < 40; ++round) {
    for (std::uint64_t i = 0; i < 600; ++i) {
      const Frames frames{0x5000 + i, 1, 2};
      const auto [known, is_new] = ids.emplace(frames, depot->intern(frames));
      if (!is_new) {
        ASSERT_EQ(depot->intern(frames), known->second);
      }
    }
  }
  done = true;
  storm.join();
  sigaction(SIGUSR1, &before, nullptr);
  EXPECT_EQ(depot->used(), 600U);
  for (const auto& [frames, id] : ids) EXPECT_EQ(kept(depot, id), frames);
}

TEST(TheDepot, CountsWhatItHolds) {
  const StackId before = detail::stacks_used();
  detail::Stack stack;
  for (std::uint32_t i = 0; i < 30; ++i) {
    stack.frames[0] = 0x77770000 + i;
    stack.depth = 1;
    const StackId id = detail::intern(stack);
    EXPECT_EQ(id, before + i + 1);
    EXPECT_THAT(detail::frames_of(id), ::testing::ElementsAre(0x77770000 + i));
  }
  EXPECT_EQ(detail::stacks_used(), before + 30);
  EXPECT_GT(detail::stack_bytes(), 30U * 16U);
  EXPECT_EQ(detail::stacks_refused(), 0U);
}

}  // namespace
}  // namespace forebay::testing
