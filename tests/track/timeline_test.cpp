#include "track/timeline.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): sigaction is POSIX
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <map>
#include <thread>

#include "conformance/fork.hpp"
#include "track/event_chunks.hpp"

namespace forebay {
namespace {

using namespace literals;
using detail::record;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Events carry their number as their bytes.
void record_numbered(std::uint64_t from, std::uint64_t to) {
  for (std::uint64_t i = from; i < to; ++i) record(EventKind::allocate, 0, Bytes{i}, i);
}

std::vector<std::uint64_t> numbers_of(const std::vector<TimelineEvent>& events) {
  std::vector<std::uint64_t> numbers;
  for (const TimelineEvent& event : events) numbers.push_back(event.bytes.count());
  return numbers;
}

class TimelineTest : public testing::Test {
 protected:
  void start(const TimelineOptions& options = {}) { Timeline::start(options).throw_if_error(); }
  void TearDown() override { Timeline::stop(); }

  static void expect_nothing_lost_unseen(std::uint64_t recorded) {
    EXPECT_EQ(Timeline::recorded(), recorded);
    EXPECT_EQ(Timeline::read().size() + Timeline::dropped(), recorded);
  }
};

TEST_F(TimelineTest, GivesBackWhatWasRecorded) {
  start();
  const detail::SubjectId pool = detail::subject("pool");
  const Duration before = Clock::steady().now().time_since_epoch();
  record(EventKind::map, pool, 2_MiB, 0xABCD'0000, 7);
  const Duration after = Clock::steady().now().time_since_epoch();
  const auto events = Timeline::read();
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].kind, EventKind::map);
  EXPECT_EQ(events[0].tag, 7);
  EXPECT_EQ(events[0].thread, static_cast<std::uint32_t>(::gettid()));
  EXPECT_EQ(events[0].address, 0xABCD'0000U);
  EXPECT_EQ(events[0].bytes, 2_MiB);
  EXPECT_EQ(events[0].subject, "pool");
  // Two anchors of about 50 ns each; the margin is for a machine that stops in between.
  constexpr Duration kMargin = std::chrono::milliseconds{1};
  EXPECT_GE(events[0].at, before - kMargin);
  EXPECT_LE(events[0].at, after + kMargin);
}

TEST_F(TimelineTest, KeepsExtremeValuesWhole) {
  start();
  record(EventKind::mark, 0, Bytes::unlimited(), ~std::uintptr_t{0}, 0xFFFF);
  const auto events = Timeline::read();
  ASSERT_EQ(events.size(), 1U);
  EXPECT_TRUE(events[0].bytes.is_unlimited());
  EXPECT_EQ(events[0].address, ~std::uintptr_t{0});
  EXPECT_EQ(events[0].tag, 0xFFFF);
  EXPECT_EQ(events[0].subject, "");
}

TEST_F(TimelineTest, RecordsOnlyTheKindsThatWereAskedFor) {
  start({.capacity = 64_KiB, .kinds = {EventKind::deny, EventKind::mark}});
  EXPECT_TRUE(Timeline::running());
  record(EventKind::allocate, 0, 1_B);
  record(EventKind::deny, 0, 2_B);
  Timeline::mark("here");
  EXPECT_EQ(Timeline::recorded(), 2U);
  EXPECT_THAT(numbers_of(Timeline::read()), ElementsAre(2, 0));
  EXPECT_EQ(Timeline::read()[1].subject, "here");
}

TEST_F(TimelineTest, StopsAndKeepsWhatItHasUntilTheNextStart) {
  start();
  record_numbered(0, 3);
  Timeline::stop();
  EXPECT_FALSE(Timeline::running());
  record_numbered(3, 6);
  Timeline::mark("not heard");
  EXPECT_THAT(numbers_of(Timeline::read()), ElementsAre(0, 1, 2));
  start();
  EXPECT_THAT(Timeline::read(), IsEmpty());
  EXPECT_EQ(Timeline::recorded(), 0U);
  EXPECT_EQ(Timeline::dropped(), 0U);
}

TEST_F(TimelineTest, RefusesACapacityBelowItsLeast) {
  start();
  record_numbered(0, 2);
  const Status refused = Timeline::start({.capacity = Bytes{65535}, .kinds = {}});
  EXPECT_EQ(refused.code(), Code::invalid_argument);
  EXPECT_THAT(refused.message(), HasSubstr("allowed: 64 KiB or more"));
  EXPECT_TRUE(Timeline::running());
  EXPECT_EQ(Timeline::recorded(), 2U);
}

TEST_F(TimelineTest, ARefusedStartChangesNothing) {
  start();
  record_numbered(0, 2);
  const Status refused = Timeline::start({.capacity = Bytes{1ULL << 60}, .kinds = {}});
  EXPECT_EQ(refused.code(), Code::memory_refused);
  EXPECT_TRUE(Timeline::running());
  record_numbered(2, 3);
  EXPECT_THAT(numbers_of(Timeline::read()), ElementsAre(0, 1, 2));
}

TEST_F(TimelineTest, KeepsTheLatestEventsAndCountsTheOthers) {
  start({.capacity = 64_KiB, .kinds = {}});
  constexpr std::uint64_t kRecorded = 100'000;
  record_numbered(0, kRecorded);
  const auto numbers = numbers_of(Timeline::read());
  // 32 bytes an event: nearly all of the capacity is used.
  EXPECT_GE(numbers.size(), 64_KiB / 32_B * 3 / 4);
  EXPECT_LE(numbers.size(), 64_KiB / 32_B);
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    ASSERT_EQ(numbers[i], kRecorded - numbers.size() + i);
  }
  expect_nothing_lost_unseen(kRecorded);
}

TEST_F(TimelineTest, ChangesItsCapacityFromStartToStart) {
  for (const Bytes capacity : {64_KiB, 1_MiB, 64_KiB, 200_KiB, 1_MiB}) {
    start({.capacity = capacity, .kinds = {}});
    record_numbered(0, 50'000);
    const std::size_t kept = Timeline::read().size();
    EXPECT_LE(kept, capacity / 32_B);
    EXPECT_GE(kept, std::min<std::uint64_t>(50'000, capacity / 32_B * 3 / 4));
    expect_nothing_lost_unseen(50'000);
  }
}

TEST_F(TimelineTest, GoesOnWithTheChunksOfThreadsThatEnded) {
  start({.capacity = 64_KiB, .kinds = {}});
  // Far more threads than chunks, one event each: none is lost.
  constexpr std::uint64_t kThreads = 300;
  for (std::uint64_t i = 0; i < kThreads; ++i)
    std::thread{[i] { record_numbered(i, i + 1); }}.join();
  const auto events = Timeline::read();
  EXPECT_EQ(events.size(), kThreads);
  EXPECT_EQ(Timeline::dropped(), 0U);
  std::map<std::uint32_t, int> threads;
  for (const TimelineEvent& event : events) ++threads[event.thread];
  EXPECT_GT(threads.size(), 1U);
}

// More threads than chunks, all of them alive.
TEST_F(TimelineTest, CountsEventsOfThreadsWithoutAPlaceAsDropped) {
  start({.capacity = 64_KiB, .kinds = {}});
  constexpr std::uint64_t kThreads = 40;
  std::atomic<std::uint64_t> done{0};
  std::vector<std::thread> threads;
  for (std::uint64_t i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      record_numbered(0, 10);
      done.fetch_add(1);
      while (done.load() < kThreads) std::this_thread::yield();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(Timeline::dropped(), 0U);
  EXPECT_GT(Timeline::read().size(), 0U);
  expect_nothing_lost_unseen(kThreads * 10);
  record_numbered(0, 10);
  expect_nothing_lost_unseen(kThreads * 10 + 10);
}

// Each thread's events that are kept are its own latest, whole and in order, read while they are
// written.
TEST_F(TimelineTest, IsReadWholeWhileThreadsWrite) {
  start({.capacity = 128_KiB, .kinds = {}});
  constexpr std::uint64_t kEach = 60'000;
  constexpr std::uint64_t kWriters = 3;
  std::atomic<std::uint64_t> writing{kWriters};
  std::vector<std::thread> writers;
  for (std::uint64_t writer = 0; writer < kWriters; ++writer) {
    writers.emplace_back([&, writer] {
      for (std::uint64_t i = 0; i < kEach; ++i) {
        record(EventKind::free, 0, Bytes{i * kWriters + writer}, ~(i * kWriters + writer),
               static_cast<std::uint16_t>(i));
      }
      writing.fetch_sub(1);
    });
  }
  bool last = false;
  while (!last) {
    last = writing.load() == 0;
    std::map<std::uint32_t, std::uint64_t> latest;
    for (const TimelineEvent& event : Timeline::read()) {
      const std::uint64_t number = event.bytes.count();
      ASSERT_EQ(event.address, ~number);
      ASSERT_EQ(event.tag, static_cast<std::uint16_t>(number / kWriters));
      ASSERT_EQ(event.kind, EventKind::free);
      const auto known = latest.find(event.thread);
      if (known != latest.end()) {
        ASSERT_GT(number, known->second);
      }
      latest[event.thread] = number;
    }
    static_cast<void>(detail::latest_events(10));
  }
  for (std::thread& writer : writers) writer.join();
  expect_nothing_lost_unseen(kEach * kWriters);
}

TEST_F(TimelineTest, IsStartedAnewWhileThreadsWrite) {
  std::atomic<bool> done{false};
  start({.capacity = 64_KiB, .kinds = {}});
  std::thread writer{[&] {
    for (std::uint64_t i = 0; !done.load(); ++i) record(EventKind::map, 0, Bytes{i}, ~i);
  }};
  for (int round = 0; round < 200; ++round) {
    start({.capacity = round % 2 == 0 ? 64_KiB : 96_KiB, .kinds = {}});
    for (const TimelineEvent& event : Timeline::read()) {
      ASSERT_EQ(event.address, ~event.bytes.count());
    }
  }
  done = true;
  writer.join();
  start({.capacity = 64_KiB, .kinds = {}});
  record_numbered(0, 5000);
  expect_nothing_lost_unseen(5000);
}

TEST_F(TimelineTest, FindsTheLatestEventsOfAllThreads) {
  start({.capacity = 256_KiB, .kinds = {}});
  record_numbered(0, 500);
  std::thread{[] { record_numbered(500, 900); }}.join();
  record_numbered(900, 1003);
  const auto all = numbers_of(Timeline::read());
  for (const std::size_t most : {0U, 1U, 7U, 200U, 1003U, 5000U}) {
    const auto latest = numbers_of(detail::latest_events(most));
    const std::size_t expected = std::min(most, all.size());
    ASSERT_EQ(latest.size(), expected);
    EXPECT_TRUE(std::equal(latest.begin(), latest.end(), all.end() - static_cast<long>(expected)));
  }
}

TEST_F(TimelineTest, NamesSubjectsOnceAndForGood) {
  const detail::SubjectId a = detail::subject("subject a");
  const detail::SubjectId b = detail::subject("subject b");
  EXPECT_NE(a, 0);
  EXPECT_NE(a, b);
  EXPECT_EQ(detail::subject(std::string{"subject "} + "a"), a);
  EXPECT_EQ(detail::subject_name(a), "subject a");
  EXPECT_EQ(detail::subject_name(b), "subject b");
  EXPECT_EQ(detail::subject(""), 0);
  EXPECT_EQ(detail::subject_name(0), "");
  EXPECT_EQ(detail::subject_name(0xFFFF), "");
}

TEST_F(TimelineTest, MarksLeaveNumbersForTheNamesOfPools) {
  start({.capacity = 64_KiB, .kinds = {}});
  for (int i = 0; i < 40'000; ++i) Timeline::mark("step " + std::to_string(i));
  EXPECT_EQ(Timeline::read().back().subject, "");  // no number left for a mark of its own
  Timeline::mark("step 0");
  EXPECT_EQ(Timeline::read().back().subject, "step 0");
  EXPECT_NE(detail::subject("a pool made after many marks"), 0);
}

TEST_F(TimelineTest, IsReadWithoutAllocationsForACrashHandler) {
  start();
  record_numbered(0, 300);
  std::uint64_t next = 0;
  detail::visit_events_unlocked(
      [](const TimelineEvent& event, void* context) {
        auto& expected = *static_cast<std::uint64_t*>(context);
        EXPECT_EQ(event.bytes.count(), expected++);
      },
      &next);
  EXPECT_EQ(next, 300U);
}

std::atomic<std::uint64_t> g_signals{0};

// A handler that interrupts a write of its own thread.
TEST_F(TimelineTest, SurvivesEventsFromHandlersOfSignals) {
  start({.capacity = 256_KiB, .kinds = {}});
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = [](int) {
    g_signals.fetch_add(1);
    record(EventKind::deny, 0, Bytes{1}, ~std::uintptr_t{1});
  };
  ASSERT_EQ(::sigaction(SIGUSR1, &action, &before), 0);
  std::atomic<bool> done{false};
  std::atomic<bool> begun{false};  // a thread's first event is not for a handler
  std::uint64_t written = 0;
  std::thread writer{[&] {
    record(EventKind::free, 0, Bytes{written}, ~written);
    ++written;
    begun = true;
    while (!done.load(std::memory_order_relaxed)) {
      record(EventKind::free, 0, Bytes{written}, ~written);
      ++written;
    }
  }};
  while (!begun.load()) std::this_thread::yield();
  for (int i = 0; i < 2000; ++i) ::pthread_kill(writer.native_handle(), SIGUSR1);
  done = true;
  writer.join();
  ASSERT_EQ(::sigaction(SIGUSR1, &before, nullptr), 0);
  EXPECT_GT(g_signals.load(), 0U);
  for (const TimelineEvent& event : Timeline::read()) {
    ASSERT_EQ(event.address, ~event.bytes.count());
  }
  expect_nothing_lost_unseen(written + g_signals.load());
}

TEST_F(TimelineTest, GoesOnInTheChildOfAFork) {
  start({.capacity = 64_KiB, .kinds = {}});
  record_numbered(0, 5);
  conformance::in_child([] {
    EXPECT_THAT(numbers_of(Timeline::read()), ElementsAre(0, 1, 2, 3, 4));
    record_numbered(5, 7);
    const auto events = Timeline::read();
    ASSERT_EQ(events.size(), 7U);
    EXPECT_NE(events[4].thread, events[5].thread);
    EXPECT_EQ(events[5].thread, static_cast<std::uint32_t>(::gettid()));
    Timeline::mark("child");
    Timeline::start({.capacity = 64_KiB, .kinds = {}}).throw_if_error();
    record_numbered(0, 10'000);
    EXPECT_EQ(Timeline::read().size() + Timeline::dropped(), 10'000U);
  });
  EXPECT_EQ(Timeline::recorded(), 5U);
}

#if !defined(__SANITIZE_THREAD__)  // forks of several threads are beyond it
TEST_F(TimelineTest, TheChildTakesOverTheChunksOfThreadsItDoesNotHave) {
  start({.capacity = 64_KiB, .kinds = {}});
  std::atomic<int> ready{0};
  std::atomic<bool> done{false};
  std::vector<std::thread> threads;
  constexpr int kThreads = 12;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      record_numbered(0, 3);
      ready.fetch_add(1);
      while (!done.load()) std::this_thread::yield();
    });
  }
  while (ready.load() < kThreads) std::this_thread::yield();
  const pid_t child = ::fork();
  if (child == 0) {
    // All chunks but one were those threads'.
    record_numbered(100, 1000);
    const auto kept = Timeline::read().size();
    const bool whole = kept + Timeline::dropped() == 3U * kThreads + 900U && kept > 900U;
    ::_exit(whole ? 0 : 1);
  }
  int status = 1;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  done = true;
  for (std::thread& thread : threads) thread.join();
}
#endif

// Against a plain list of all events ever recorded.
RC_GTEST_PROP(TimelineModel, KeepsWhatAListWouldKeep, ()) {
  Timeline::start({.capacity = 64_KiB, .kinds = {}}).throw_if_error();
  std::uint64_t recorded = 0;
  const bool with_threads = *rc::gen::arbitrary<bool>();
  const auto steps = *rc::gen::container<std::vector<int>>(rc::gen::inRange(0, 600));
  for (const int step : steps) {
    const std::uint64_t to = recorded + static_cast<std::uint64_t>(step);
    if (with_threads && step % 3 == 0) {
      std::thread{[=] { record_numbered(recorded, to); }}.join();
    } else {
      record_numbered(recorded, to);
    }
    recorded = to;
  }
  const auto numbers = numbers_of(Timeline::read());
  RC_ASSERT(Timeline::recorded() == recorded);
  RC_ASSERT(numbers.size() + Timeline::dropped() == recorded);
  RC_ASSERT(std::ranges::is_sorted(numbers));
  RC_ASSERT(std::ranges::adjacent_find(numbers) == numbers.end());
  // One thread alone: the latest, but for the chunk that is being filled. With more, the chunks
  // that were left within half a turn, of which there are 13.
  const std::uint64_t chunks = with_threads ? 4 : 12;
  const std::uint64_t sure = std::min(recorded, chunks * detail::kChunkEvents);
  const auto from = std::ranges::lower_bound(numbers, recorded - sure);
  RC_ASSERT(static_cast<std::uint64_t>(numbers.end() - from) == sure);
  Timeline::stop();
}

}  // namespace
}  // namespace forebay
