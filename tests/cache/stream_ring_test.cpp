// StreamRing: numbers, reads, the line, age, and a naive model.

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <atomic>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "forebay/cache_streams.hpp"
#include "support/watched_resource.hpp"

namespace forebay {
namespace {

using namespace forebay::literals;
using namespace std::chrono_literals;
using testing::WatchedResource;

using Numbers = StreamRing<std::uint64_t>;

// A ring whose records are charged 1 KiB each, and of which `count` fit beside its index.
StreamRingOptions room_for(std::uint64_t count) {
  StreamRingOptions options;
  options.max_bytes = Bytes{count * 1024 + 640};
  return options;
}
StreamRing<std::uint64_t>::Weigher kilobyte(const std::shared_ptr<MemoryResource>& memory) {
  const Bytes block = memory->good_size(40_B, 8_B);
  return [block](std::uint64_t) { return 1_KiB - block; };
}

class StreamRingTest : public ::testing::Test {
 protected:
  StreamRingOptions options(std::uint64_t count) {
    StreamRingOptions made = room_for(count);
    made.memory = memory_;
    made.clock = &clock_;
    return made;
  }
  Numbers::Weigher weigher() { return kilobyte(memory_); }
  std::shared_ptr<WatchedResource> memory_ = std::make_shared<WatchedResource>();
  ManualClock clock_;
};

TEST_F(StreamRingTest, NumbersRecordsAndReadsThem) {
  Numbers ring{options(10), weigher()};
  for (std::uint64_t i = 0; i != 5; ++i) EXPECT_EQ(*ring.append(i * 10), i);
  EXPECT_EQ(ring.next_sequence(), 5U);
  EXPECT_EQ(ring.latest(2).values, (std::vector<std::uint64_t>{30, 40}));
  EXPECT_EQ(ring.latest(2).first, 3U);
  EXPECT_EQ(ring.latest(9).values.size(), 5U);
  EXPECT_TRUE(ring.latest(0).values.empty());
  const auto part = ring.range(1, 3);
  EXPECT_EQ(part.first, 1U);
  EXPECT_EQ(part.values, (std::vector<std::uint64_t>{10, 20, 30}));
  EXPECT_EQ(part.gone, 0U);
  EXPECT_EQ(part.not_yet, 0U);
  EXPECT_EQ(*ring.at(4).value, 40U);
  ring.validate();
}

TEST_F(StreamRingTest, TellsWhatIsGoneFromWhatIsNotYet) {
  Numbers ring{options(4), weigher()};
  EXPECT_EQ(ring.at(0).presence, StreamPresence::not_yet);
  for (std::uint64_t i = 0; i != 10; ++i) ASSERT_TRUE(ring.append(i));
  EXPECT_EQ(ring.oldest_sequence(), 6U);
  EXPECT_EQ(ring.at(5).presence, StreamPresence::gone);
  EXPECT_EQ(ring.at(6).presence, StreamPresence::there);
  EXPECT_EQ(ring.at(10).presence, StreamPresence::not_yet);
  const auto all = ring.range(3, 12);
  EXPECT_EQ(all.gone, 3U);
  EXPECT_EQ(all.not_yet, 3U);
  EXPECT_EQ(all.first, 6U);
  EXPECT_EQ(all.values.size(), 4U);
  EXPECT_EQ(ring.range(20, 22).not_yet, 3U);
  EXPECT_EQ(ring.range(1, 2).gone, 2U);
  EXPECT_EQ(ring.range(9, 3).gone, 0U);
  EXPECT_EQ(ring.stats().dropped, 6U);
}

TEST_F(StreamRingTest, IsEmptyUntilTheFirstRecord) {
  Numbers ring{options(4), weigher()};
  EXPECT_TRUE(ring.latest(5).values.empty());
  EXPECT_EQ(ring.latest(5).gone, 0U);
  EXPECT_EQ(ring.range(0, ~std::uint64_t{0} - 1).not_yet, ~std::uint64_t{0});
  ring.validate();
}

TEST_F(StreamRingTest, ChargesToTheByteAndGivesAllBack) {
  Budget budget{"line", {.limit = 1_MiB}};
  {
    StreamRingOptions made = options(4);
    made.budget = &budget;
    Numbers ring{made, weigher()};
    const Bytes index = ring.stats().used;
    for (std::uint64_t i = 0; i != 100; ++i) {
      ASSERT_TRUE(ring.append(i));
      EXPECT_EQ(ring.stats().used, index + Bytes{std::min<std::uint64_t>(i + 1, 4) * 1024});
      EXPECT_EQ(budget.stats().used, ring.stats().used);
    }
    EXPECT_LE(ring.stats().peak, ring.stats().max_bytes);
    EXPECT_EQ(memory_->live_blocks(), 4U);
    ring.clear();
    EXPECT_EQ(budget.stats().used, index);
    EXPECT_EQ(ring.stats().cleared, 4U);
    EXPECT_EQ(*ring.append(1), 100U);
  }
  EXPECT_EQ(budget.stats().used, 0_B);
  EXPECT_EQ(memory_->live(), 0_B);
}

TEST_F(StreamRingTest, RefusesWhatNeverFits) {
  Numbers ring{options(4), [](std::uint64_t bytes) { return Bytes{bytes}; }};
  ASSERT_TRUE(ring.append(100));
  const auto refused = ring.append(100'000);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.status().code(), Code::memory_refused);
  EXPECT_NE(refused.status().message().find("larger than the stream"), std::string::npos);
  EXPECT_FALSE(ring.append(~std::uint64_t{0}));
  EXPECT_EQ(ring.stats().refused, 2U);
  EXPECT_EQ(ring.stats().records, 1U);
  EXPECT_EQ(ring.next_sequence(), 1U);
  ring.validate();
}

TEST_F(StreamRingTest, OldRecordsAreGone) {
  StreamRingOptions made = options(10);
  made.max_age = 30s;
  Numbers ring{made, weigher()};
  ASSERT_TRUE(ring.append(1));
  clock_.advance(20s);
  ASSERT_TRUE(ring.append(2));
  EXPECT_EQ(ring.latest(2).values.size(), 2U);
  clock_.advance(10s);
  EXPECT_EQ(ring.at(0).presence, StreamPresence::gone);
  EXPECT_EQ(ring.latest(2).gone, 1U);
  EXPECT_EQ(ring.cleanup_expired(), 1U);
  EXPECT_EQ(ring.cleanup_expired(), 0U);
  clock_.advance(20s);
  ASSERT_TRUE(ring.append(3));
  EXPECT_EQ(ring.stats().expired, 2U);
  EXPECT_EQ(ring.stats().records, 1U);
  ring.validate();
}

// A record that a visitor looks at stays until it has done; all others go as ever.
TEST_F(StreamRingTest, AReaderKeepsTheRecordItLooksAtAndNoOther) {
  StreamRing<std::shared_ptr<int>> ring{options(4), [](const auto&) { return 900_B; }};
  std::vector<std::weak_ptr<int>> made;
  const auto append = [&](int value) {
    auto record = std::make_shared<int>(value);
    made.push_back(record);
    return ring.append(std::move(record)).ok();
  };
  for (int i = 0; i != 4; ++i) ASSERT_TRUE(append(i));
  int seen = 0;
  const auto reach = ring.visit(0, 3, [&](std::uint64_t sequence, const auto& record) {
    EXPECT_EQ(static_cast<std::uint64_t>(*record), sequence);
    if (++seen == 2) {
      for (int i = 4; i != 20; ++i) ASSERT_TRUE(append(i));
      EXPECT_EQ(*record, 2);
      EXPECT_EQ(ring.stats().held, 1U);
      EXPECT_TRUE(made[3].expired());
      EXPECT_FALSE(made[2].expired());
    }
  });
  EXPECT_EQ(seen, 2);
  EXPECT_EQ(reach.gone, 2U);
  EXPECT_TRUE(made[2].expired());  // as soon as the reader had done
  EXPECT_EQ(ring.stats().held, 0U);
  ring.validate();
}

TEST_F(StreamRingTest, GivesBackToABudgetOldestFirst) {
  Budget budget{"line", {.limit = 8_KiB}};
  StreamRingOptions made = options(6);
  made.budget = &budget;
  Numbers ring{made, weigher()};
  for (std::uint64_t i = 0; i != 6; ++i) ASSERT_TRUE(ring.append(i));
  auto granted = budget.reserve(4_KiB);
  ASSERT_TRUE(granted);
  EXPECT_EQ(ring.oldest_sequence(), 3U);
  EXPECT_EQ(ring.latest(1).values.front(), 5U);
  EXPECT_EQ(ring.append(6).value(), 6U);  // room is made of its own
  EXPECT_LE(budget.stats().peak, 8_KiB);
  ring.validate();
}

TEST_F(StreamRingTest, ALowerLineHoldsAtOnce) {
  Numbers ring{options(100), weigher()};
  for (std::uint64_t i = 0; i != 100; ++i) ASSERT_TRUE(ring.append(i));
  ring.set_max_bytes(10_KiB);
  EXPECT_LE(ring.stats().used, 10_KiB);
  EXPECT_EQ(ring.latest(1).values.front(), 99U);
  EXPECT_THROW(ring.set_max_bytes(0_B), Failure);
  ring.validate();
}

TEST_F(StreamRingTest, OptionsThatMakeNoSenseAreNamed) {
  StreamRingOptions made = options(1);
  made.max_age = -1s;
  EXPECT_THROW(Numbers{made}, Failure);
  made = options(1);
  made.max_bytes = 100_B;
  EXPECT_THROW(Numbers{made}, Failure);
  made = options(1);
  made.memory = SimulatedDevice::create();
  EXPECT_THROW(Numbers{made}, Failure);
  EXPECT_EQ(memory_->live(), 0_B);
}

struct NaiveRecord {
  std::uint64_t sequence;
  std::uint64_t value;
  std::uint64_t charge;
  Duration time;
};

// The same, over a deque that is searched.
struct NaiveStream {
  void append(std::uint64_t value, std::uint64_t charge, Duration now) {
    expire(now);
    while (used() + charge > line) pop(dropped);
    records.push_back({next++, value, charge, now});
  }
  void pop(std::uint64_t& count) {
    records.pop_front();
    ++count;
  }
  void expire(Duration now) {
    while (!records.empty() && now - records.front().time >= age) pop(expired);
  }
  std::uint64_t used() const {
    std::uint64_t sum = 0;
    for (const NaiveRecord& record : records) sum += record.charge;
    return sum;
  }
  std::deque<NaiveRecord> records;
  std::uint64_t line;
  Duration age;
  std::uint64_t next = 0;
  std::uint64_t dropped = 0;
  std::uint64_t expired = 0;
};

void expect_same(const Numbers& ring, const NaiveStream& naive, Duration now, std::uint64_t first,
                 std::uint64_t last) {
  std::vector<std::uint64_t> expected;
  std::uint64_t gone = 0;
  std::uint64_t not_yet = 0;
  for (std::uint64_t i = first; i <= last; ++i) {
    if (i >= naive.next) {
      ++not_yet;
      continue;
    }
    bool found = false;
    for (const NaiveRecord& record : naive.records) {
      if (record.sequence != i || now - record.time >= naive.age) continue;
      expected.push_back(record.value);
      found = true;
    }
    if (!found) ++gone;
  }
  const auto slice = ring.range(first, last);
  RC_ASSERT(slice.values == expected);
  RC_ASSERT(slice.gone == gone);
  RC_ASSERT(slice.not_yet == not_yet);
  if (!expected.empty()) RC_ASSERT(slice.first == first + gone);
}

TEST(StreamRingModel, IsWhatANaiveListIs) {
  EXPECT_TRUE(rc::check([] {
    auto memory = std::make_shared<WatchedResource>();
    ManualClock clock;
    StreamRingOptions options;
    options.max_bytes = 20_KiB;
    options.max_age = 50s;
    options.memory = memory;
    options.clock = &clock;
    const std::uint64_t block = memory->good_size(40_B, 8_B).count();
    Numbers ring{options, [](std::uint64_t value) { return Bytes{value % 3000}; }};
    NaiveStream naive{
        .records = {}, .line = (20_KiB - ring.stats().used).count(), .age = options.max_age};
    Duration now{0};
    for (int step = *rc::gen::inRange(0, 64); step > 0; --step) {
      const auto value = *rc::gen::inRange<std::uint64_t>(0, 10'000);
      switch (*rc::gen::inRange(0, 6)) {
        case 0: {
          const Duration by = std::chrono::seconds{value % 20};
          clock.advance(by);
          now += by;
          break;
        }
        case 1: {
          const std::uint64_t before = naive.expired;
          naive.expire(now);
          RC_ASSERT(ring.cleanup_expired() == naive.expired - before);
          break;
        }
        default:
          RC_ASSERT(ring.append(value).value() == naive.next);
          naive.append(value, block + value % 3000, now);
      }
      const auto first = *rc::gen::inRange<std::uint64_t>(0, naive.next + 3);
      expect_same(ring, naive, now, first, first + value % 30);
      const StreamRingStats stats = ring.stats();
      RC_ASSERT(stats.records == naive.records.size());
      RC_ASSERT(stats.dropped == naive.dropped);
      RC_ASSERT(stats.expired == naive.expired);
      RC_ASSERT(stats.used.count() == 20 * 1024 - naive.line + naive.used());
      ring.validate();
    }
  }));
}

struct Checked {
  explicit Checked(std::uint64_t n) : a(n), b(~n) {}
  Checked(const Checked& other) = default;
  Checked& operator=(const Checked&) = default;
  ~Checked() { a = b = 0; }
  bool whole() const { return a == ~b; }
  std::uint64_t a;
  std::uint64_t b;
};

// Readers never see a record in pieces, a gap, or the past of what they have seen.
TEST(StreamRingThreads, ReadersSeeWholeRecordsWithoutGaps) {
  StreamRingOptions options;
  options.max_bytes = 8_KiB;
  StreamRing<Checked> ring{options};
  std::atomic<int> at_work{3};
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t != 3; ++t) {
    threads.emplace_back([&] {
      for (std::uint64_t i = 0; i != 20'000; ++i) {
        if (!ring.append(Checked{i})) ++wrong;
      }
      --at_work;
    });
  }
  for (int t = 0; t != 3; ++t) {
    threads.emplace_back([&] {
      std::uint64_t newest = 0;
      while (at_work != 0) {
        const auto slice = ring.latest(20);
        for (const Checked& record : slice.values) wrong += record.whole() ? 0 : 1;
        if (slice.values.size() + slice.gone > 20) ++wrong;
        const std::uint64_t end = slice.first + slice.values.size();
        if (!slice.values.empty() && end < newest) ++wrong;
        if (!slice.values.empty()) newest = end;
        if (ring.stats().used > 8_KiB) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(ring.stats().appended, 60'000U);
  EXPECT_EQ(ring.stats().held, 0U);
  EXPECT_LE(ring.stats().peak, 8_KiB);
  ring.validate();
}

// What each writer appends keeps its order, and more readers than there are places take turns.
TEST(StreamRingThreads, ManyReadersTakeTurns) {
  StreamRing<std::uint64_t> ring;
  for (std::uint64_t i = 0; i != 100; ++i) ASSERT_TRUE(ring.append(i));
  std::atomic<int> inside{0};
  std::atomic<int> most{0};
  std::vector<std::thread> threads;
  std::atomic<std::uint64_t> read{0};
  for (int t = 0; t != 80; ++t) {
    threads.emplace_back([&] {
      ring.visit(0, 99, [&](std::uint64_t, std::uint64_t) {
        const int now = ++inside;
        int highest = most;
        while (highest < now && !most.compare_exchange_weak(highest, now)) {
        }
        ++read;
        --inside;
      });
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(read, 8000U);
  EXPECT_LE(most, 64);
}

}  // namespace
}  // namespace forebay
