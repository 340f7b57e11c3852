#include "telemetry/segment.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <thread>

#include "telemetry/descriptor.hpp"
#include "telemetry/temporary_directory.hpp"
#include "telemetry/views.hpp"

namespace forebay::detail {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;

std::unique_ptr<Segment> segment_of(const PublishedView& view) {
  auto segment = std::make_unique<Segment>();
  segment->magic = kSegmentMagic;
  segment->version = kSegmentVersion;
  segment->size = sizeof(Segment);
  encode(view, segment->data);
  return segment;
}

Result<PublishedView> parsed(const Segment& segment) {
  return parse_segment(std::as_bytes(std::span{&segment, 1}));
}

TEST(Segment, GivesBackTheViewThatWasPutIn) {
  const PublishedView put = testing::some_view();
  const PublishedView view = parsed(*segment_of(put)).value();
  EXPECT_EQ(view.pid, put.pid);
  EXPECT_EQ(view.program, put.program);
  EXPECT_EQ(view.updates, put.updates);
  EXPECT_EQ(view.taken, put.taken);
  EXPECT_EQ(view.interval, put.interval);
  EXPECT_EQ(view.publisher_cpu, put.publisher_cpu);
  EXPECT_EQ(view.publisher_since, put.publisher_since);
  EXPECT_EQ(view.line, put.line);
  EXPECT_EQ(view.used, put.used);
  EXPECT_EQ(view.resident, put.resident);
  EXPECT_EQ(view.pressure, put.pressure);
  ASSERT_EQ(view.budgets.size(), 2U);
  EXPECT_EQ(view.budgets[1].path, "process/teacher");
  EXPECT_EQ(view.budgets[1].limit, put.budgets[1].limit);
  EXPECT_EQ(view.budgets[1].guarantee, put.budgets[1].guarantee);
  EXPECT_EQ(view.budgets[1].used, put.budgets[1].used);
  EXPECT_EQ(view.budgets[0].charged, put.budgets[0].charged);
  EXPECT_EQ(view.budgets[0].peak, put.budgets[0].peak);
  EXPECT_EQ(view.budgets[0].available, put.budgets[0].available);
  EXPECT_EQ(view.budgets[0].denials, 3U);
  EXPECT_EQ(view.budgets[0].warnings, 2U);
  EXPECT_EQ(view.budgets[0].pressure, Pressure::high);
  EXPECT_TRUE(view.budgets[1].shrinking);
  ASSERT_EQ(view.pools.size(), 1U);
  EXPECT_EQ(view.pools[0].name, "activations");
  EXPECT_EQ(view.pools[0].live, put.pools[0].live);
  EXPECT_EQ(view.pools[0].idle, put.pools[0].idle);
  EXPECT_EQ(view.pools[0].reserved, put.pools[0].reserved);
  EXPECT_EQ(view.pools[0].largest_free, put.pools[0].largest_free);
  EXPECT_EQ(view.pools[0].live_blocks, 1234U);
  EXPECT_EQ(view.pools[0].refused, 1U);
  EXPECT_EQ(view.pools[0].fragmentation, 0.75);
  EXPECT_EQ(view.pools[0].hit_rate, 0.98);
  ASSERT_EQ(view.tags.size(), 2U);
  EXPECT_EQ(view.tags[0].tag, "decoder/layer3");
  EXPECT_EQ(view.tags[0].owner, "tenant-a");
  EXPECT_EQ(view.tags[0].live, put.tags[0].live);
  EXPECT_EQ(view.tags[0].live_blocks, 600U);
  EXPECT_EQ(view.tags[0].allocated, put.tags[0].allocated);
  EXPECT_EQ(view.tags[0].allocations, 99'000U);
  ASSERT_EQ(view.groups.size(), 2U);
  EXPECT_EQ(view.groups[0].kind, "cache");
  EXPECT_EQ(view.groups[0].name, "prefix");
  ASSERT_EQ(view.groups[0].statistics.size(), 4U);
  EXPECT_EQ(view.groups[0].statistics[2].name, "hits_total");
  EXPECT_EQ(view.groups[0].statistics[2].value, 75);
  ASSERT_EQ(view.events.size(), 2U);
  EXPECT_EQ(view.events[0].kind, EventKind::map);
  EXPECT_EQ(view.events[0].thread, 7U);
  EXPECT_EQ(view.events[0].age, std::chrono::seconds{2});
  EXPECT_EQ(view.events[0].bytes, put.events[0].bytes);
  EXPECT_EQ(view.events[0].subject, "activations");
  EXPECT_EQ(view.events[0].tag, "decoder/layer3");
}

TEST(Segment, SaysHowMuchDidNotFit) {
  PublishedView view;
  view.budgets.resize(kMostBudgets + 3);
  view.pools.resize(kMostPools + 1);
  view.tags.resize(kMostTags + 2);
  view.groups.resize(kMostGroups + 4);
  view.groups[0].statistics.resize(kMostStatistics + 5);
  view.events.resize(kMostEvents + 1);
  view.left_out.tags = 10;  // that gathering left out
  const PublishedView read = parsed(*segment_of(view)).value();
  EXPECT_EQ(read.budgets.size(), kMostBudgets);
  EXPECT_EQ(read.left_out.budgets, 3U);
  EXPECT_EQ(read.left_out.pools, 1U);
  EXPECT_EQ(read.left_out.tags, 12U);
  EXPECT_EQ(read.left_out.groups, 4U);
  EXPECT_EQ(read.groups[0].statistics.size(), kMostStatistics);
  EXPECT_EQ(read.events.size(), kMostEvents);
}

TEST(Segment, CutsLongNamesBetweenCharacters) {
  PublishedView view;
  view.tags.resize(2);
  view.tags[0].tag = std::string(139, 'a') + "\u00e9\u00e9";  // its second byte would be the 141st
  view.tags[1].tag = std::string(138, 'a') + "\u00e9\u00e9";
  const PublishedView read = parsed(*segment_of(view)).value();
  EXPECT_EQ(read.tags[0].tag, std::string(139, 'a'));
  EXPECT_EQ(read.tags[1].tag, std::string(138, 'a') + "\u00e9");
}

TEST(Segment, ShowsNoTextThatCouldDriveATerminal) {
  EXPECT_EQ(shown_text("a\x1b[2Jb\x7f\n"), "a?[2Jb??");
  EXPECT_EQ(shown_text("\u00e9 \u20ac \U0001F600"), "\u00e9 \u20ac \U0001F600");
  EXPECT_EQ(shown_text("\xc2\x9b"), "??");                   // a control character of two bytes
  EXPECT_EQ(shown_text("\xc0\xaf|\xed\xa0\x80"), "??|???");  // overlong; surrogate
  EXPECT_EQ(shown_text("\xf4\x90\x80\x80"), "????");         // beyond Unicode
  EXPECT_EQ(shown_text("x\xe2\x82"), "x??");                 // cut off
  EXPECT_EQ(shown_text("a\u202e\u2069b"), "a??????b");       // they turn what follows
  EXPECT_EQ(shown_text(""), "");
}

// ---- Hostile contents

std::string refusal_of(const Segment& segment) {
  const auto result = parsed(segment);
  EXPECT_EQ(result.status().code(), Code::corrupt_data);
  return result.status().message();
}

TEST(HostileSegment, OfAnotherKindOrSizeIsRefused) {
  auto segment = segment_of(testing::some_view());
  EXPECT_EQ(parse_segment({}).status().code(), Code::corrupt_data);
  const auto bytes = std::as_bytes(std::span{segment.get(), 1});
  EXPECT_EQ(parse_segment(bytes.first(bytes.size() - 1)).status().code(), Code::corrupt_data);
  segment->version = 2;
  EXPECT_THAT(refusal_of(*segment), HasSubstr("version 2"));
  segment->version = kSegmentVersion;
  segment->size = 7;
  EXPECT_THAT(refusal_of(*segment), HasSubstr("version"));
  segment->size = sizeof(Segment);
  segment->magic[0] = 'X';
  EXPECT_THAT(refusal_of(*segment), HasSubstr("it is none"));
}

TEST(HostileSegment, WithCountsBeyondItsTablesIsRefused) {
  constexpr std::uint32_t kHuge = 0xFFFF'FFFF;
  const auto refused = [](auto change, const char* what) {
    auto segment = segment_of(testing::some_view());
    change(segment->data);
    EXPECT_THAT(refusal_of(*segment), HasSubstr(what));
  };
  refused([](SegmentData& data) { data.budgets = kMostBudgets + 1; }, "rows of budgets is 257");
  refused([](SegmentData& data) { data.pools = kHuge; }, "rows of pools");
  refused([](SegmentData& data) { data.tags = kHuge; }, "rows of tags");
  refused([](SegmentData& data) { data.groups = kHuge; }, "rows of groups");
  refused([](SegmentData& data) { data.events = kHuge; }, "rows of events");
  refused([](SegmentData& data) { data.group[0].count = ~0ULL; }, "a group's statistics");
  refused([](SegmentData& data) { data.program.length = 77; }, "the length of a text is 77");
  refused([](SegmentData& data) { data.tag[1].owner.length = kHuge; }, "the length of a text");
  refused([](SegmentData& data) { data.pressure = 3; }, "the pressure is 3");
  refused([](SegmentData& data) { data.budget[1].pressure = 3; }, "a pressure is 3");
  refused([](SegmentData& data) { data.event[0].kind = 12; }, "an event's kind is 12");
}

TEST(HostileSegment, NumbersThatAreNoneBecomeZero) {
  auto segment = segment_of(testing::some_view());
  segment->data.group[0].statistics[0].value = std::nan("");
  segment->data.pool[0].hit_rate = HUGE_VAL;
  segment->data.pool[0].fragmentation = 17;
  segment->data.event[0].age_ns = ~0ULL;
  const PublishedView view = parsed(*segment).value();
  EXPECT_EQ(view.groups[0].statistics[0].value, 0);
  EXPECT_EQ(view.pools[0].hit_rate, 0);
  EXPECT_EQ(view.pools[0].fragmentation, 1);
  EXPECT_EQ(view.events[0].age, Duration::max());
}

// Whatever is in it, a segment is read or refused, and what is read may be shown.
TEST(HostileSegment, WithAnyBytesChangedIsReadOrRefused) {
  std::mt19937_64 random{20240607};
  const auto below = [&](std::size_t limit) { return static_cast<std::size_t>(random() % limit); };
  const auto good = segment_of(testing::some_view());
  constexpr std::size_t kRounds = 3000;
  std::size_t read = 0;
  for (std::size_t round = 0; round < kRounds; ++round) {
    Segment segment = *good;
    const std::span bytes{reinterpret_cast<unsigned char*>(&segment), sizeof(segment)};
    // The front of each table is where something can go wrong; the rest is mostly unused.
    for (std::size_t changes = 1 + below(8); changes > 0; --changes) {
      const std::size_t at = round % 2 == 0 ? below(sizeof(segment)) : 24 + below(400);
      const std::size_t width = std::min<std::size_t>(1 + below(8), bytes.size() - at);
      for (std::size_t i = 0; i < width; ++i) {
        bytes[at + i] = static_cast<unsigned char>(round % 3 == 0 ? 0xFF : random());
      }
    }
    const auto view = parsed(segment);
    if (!view.ok()) {
      ASSERT_EQ(view.status().code(), Code::corrupt_data);
      continue;
    }
    ++read;
    ASSERT_EQ(shown_text(view->program), view->program);
    for (const BudgetStats& budget : view->budgets) {
      ASSERT_EQ(shown_text(budget.path), budget.path);
    }
  }
  EXPECT_GT(read, 0U);
  EXPECT_LT(read, kRounds);
}

TEST(HostileSegment, OfRandomBytesIsReadOrRefused) {
  std::mt19937_64 random{7};
  for (int round = 0; round < 100; ++round) {
    auto segment = segment_of(testing::some_view());
    auto* const words = reinterpret_cast<std::uint64_t*>(&segment->data);
    for (std::size_t i = 0; i < sizeof(SegmentData) / 8; ++i) words[i] = random();
    ASSERT_EQ(parsed(*segment).status().code(), Code::corrupt_data);
  }
}

// ---- As a file

class SegmentFile : public ::testing::Test {
 protected:
  Descriptor open(int flags) {
    return Descriptor{::open((directory_ / "segment").c_str(), flags | O_CLOEXEC, 0600)};
  }
  testing::TemporaryDirectory directory_;
};

TEST_F(SegmentFile, IsReadAsItWasWritten) {
  const Descriptor out = open(O_RDWR | O_CREAT);
  auto segment = segment_of(testing::some_view());
  ASSERT_TRUE(write_segment(out.get(), *segment).ok());
  ASSERT_TRUE(write_segment(out.get(), *segment).ok());
  EXPECT_EQ(segment->sequence % 2, 0U);
  EXPECT_EQ(read_segment_file(open(O_RDONLY).get()).value().program, "trainer");
}

TEST_F(SegmentFile, CutShortOrLeftInTheMiddleOfAWriteIsRefused) {
  const Descriptor out = open(O_RDWR | O_CREAT);
  EXPECT_EQ(read_segment_file(out.get()).status().code(), Code::corrupt_data);
  auto segment = segment_of(testing::some_view());
  ASSERT_TRUE(write_segment(out.get(), *segment).ok());
  const std::uint64_t odd = 5;
  ASSERT_EQ(::pwrite(out.get(), &odd, sizeof(odd), offsetof(Segment, sequence)), 8);
  EXPECT_EQ(read_segment_file(out.get()).status().code(), Code::failed_precondition);
  ASSERT_TRUE(write_segment(out.get(), *segment).ok());
  EXPECT_TRUE(read_segment_file(out.get()).ok());
  ASSERT_EQ(::ftruncate(out.get(), 100), 0);
  EXPECT_EQ(read_segment_file(out.get()).status().code(), Code::corrupt_data);
  EXPECT_EQ(read_segment_file(-1).status().code(), Code::io_error);
  EXPECT_EQ(write_segment(open(O_RDONLY).get(), *segment).code(), Code::io_error);
}

// Every row says how often the segment was written: a reader sees one number, or waits.
TEST_F(SegmentFile, IsReadAsOfOneMomentWhileItIsWritten) {
  const Descriptor out = open(O_RDWR | O_CREAT);
  PublishedView view;
  view.tags.resize(kMostTags);
  view.budgets.resize(kMostBudgets);
  const auto write_round = [&](std::uint64_t round) {
    view.updates = round;
    for (TagStats& tag : view.tags) tag.allocations = round;
    for (BudgetStats& budget : view.budgets) budget.denials = round;
  };
  auto segment = segment_of(view);
  ASSERT_TRUE(write_segment(out.get(), *segment).ok());
  std::atomic<bool> done{false};
  std::thread writer{[&] {
    for (std::uint64_t round = 1; !done.load(); ++round) {
      write_round(round);
      encode(view, segment->data);
      ASSERT_TRUE(write_segment(out.get(), *segment).ok());
      std::this_thread::yield();
    }
  }};
  const Descriptor in = open(O_RDONLY);
  std::uint64_t latest = 0;
  int reads = 0;
  for (int tries = 0; tries < 2000 && (reads < 200 || latest == 0); ++tries) {
    const auto read = read_segment_file(in.get());
    if (!read.ok()) continue;  // the writer never rested
    ++reads;
    EXPECT_GE(read->updates, latest);
    latest = read->updates;
    for (const TagStats& tag : read->tags) ASSERT_EQ(tag.allocations, latest);
    for (const BudgetStats& budget : read->budgets) ASSERT_EQ(budget.denials, latest);
  }
  done = true;
  writer.join();
  EXPECT_GT(reads, 0);
}

}  // namespace
}  // namespace forebay::detail
