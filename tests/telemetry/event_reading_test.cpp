// Files made byte by byte: what they say, and lies.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <map>
#include <random>

#include "event_support.hpp"
#include "telemetry/number_table.hpp"

namespace forebay::testing {

void made_code() {}

namespace {

using events::EventReport;

EventReport reported(const MadeFile& file) { return report_over(file.bytes()).value(); }

TEST(EventAnalysis, OrdersThreadsByTheirTimes) {
  // The second thread's chunk comes first in the file; what it frees is taken before.
  MadeFile file;
  file.events(2, 0, 50, Numbers{}.free_other(1, 0).allocate(600));
  file.events(1, 0, 0, Numbers{}.allocate(1000).wait_ms(100).allocate(1));
  const EventReport report = reported(file.end(1000));
  EXPECT_EQ(report.total.peak_bytes, 1000U);
  EXPECT_EQ(report.total.live_bytes, 601U);
  EXPECT_EQ(report.unmatched_frees, 0U);
  EXPECT_EQ(report.total.lifetimes[1], 1U);  // 50 ms
  EXPECT_DOUBLE_EQ(report.seconds, 1);
}

TEST(EventAnalysis, MatchesAFreeThatComesBeforeItsAllocation) {
  // Within one tick, threads' events have no order.
  MadeFile file;
  file.events(1, 0, 0, Numbers{}.free_other(2, 0).free_other(2, 0));
  file.events(2, 0, 0, Numbers{}.allocate(500, 3).allocate(70, 4));
  const EventReport report = reported(file);
  EXPECT_EQ(report.total.live_bytes, 70U);
  EXPECT_EQ(report.frees, 1U);
  EXPECT_EQ(report.unmatched_frees, 1U);  // the second of the same block
  EXPECT_EQ(report.events, 4U);
}

TEST(EventAnalysis, TellsTemporaryBlocksByWhatCameBetween) {
  MadeFile file;
  file.events(1, 0, 0,
              Numbers{}
                  .allocate(1, 1)
                  .free(1)
                  .allocate(2, 2)
                  .allocate(4, 3)
                  .free(2)
                  .allocate(8, 4)
                  .allocate(16, 5)
                  .free(3));
  const EventReport report = reported(file);
  EXPECT_EQ(report.sites[0].temporary, 1U);
  EXPECT_EQ(report.sites[1].temporary, 1U);
  EXPECT_EQ(report.sites[2].temporary, 0U) << "two more were taken before it was given back";
  EXPECT_EQ(report.total.temporary, 2U);
}

TEST(EventAnalysis, ClassesEachLifetime) {
  constexpr std::array<std::uint64_t, 7> kMilliseconds{9,      99,      999,      9'999,
                                                       99'999, 999'999, 1'000'000};
  for (std::size_t i = 0; i < kMilliseconds.size(); ++i) {
    MadeFile file;
    file.events(1, 0, 0, Numbers{}.allocate(1).wait_ms(kMilliseconds[i]).free(1));
    events::Lifetimes expected{};
    expected[i] = 1;
    EXPECT_EQ(reported(file).total.lifetimes, expected) << kMilliseconds[i];
  }
}

TEST(EventAnalysis, KeepsPeaksOfSitesAndTheWhole) {
  MadeFile file;
  file.events(1, 0, 0,
              Numbers{}
                  .context(1)
                  .allocate(100, 1)
                  .free(1)
                  .context(2)
                  .allocate(60, 1)
                  .wait_ms(2000)
                  .allocate(50)
                  .free(1)
                  .free(2));
  const EventReport report = reported(file.end(4000));
  EXPECT_EQ(report.total.peak_bytes, 110U);
  EXPECT_DOUBLE_EQ(report.peak_seconds, 2);
  ASSERT_EQ(report.sites.size(), 2U);
  EXPECT_EQ(report.sites[0].peak_bytes, 100U);
  EXPECT_EQ(report.sites[1].peak_bytes, 110U);
  EXPECT_EQ(report.sites[1].live, 0U);
}

TEST(EventAnalysis, DrawsTheTimelineWithinItsPoints) {
  MadeFile file;
  file.events(1, 0, 0,
              Numbers{}.allocate(100).wait_ms(5000).allocate(900).free(1).wait_ms(3000).free(2));
  file.end(10'000);
  events::AnalysisOptions options;
  options.points = 16;
  const EventReport report = report_over(file.bytes(), options).value();
  ASSERT_LE(report.timeline.size(), 16U);
  ASSERT_GE(report.timeline.size(), 8U);
  std::uint64_t most = 0;
  const auto in = [](double seconds, double from, double to) {
    return seconds > from && seconds < to;
  };
  for (const events::TimePoint& point : report.timeline) {
    most = std::max(most, point.most_bytes);
    const double at = point.seconds;
    if (in(at, 0, 4) || in(at, 5.5, 7)) {
      EXPECT_EQ(point.most_bytes, 100U) << at;
    }
    if (at > 8.5) {
      EXPECT_EQ(point.most_bytes, 0U) << at;
    }
  }
  EXPECT_EQ(most, 1000U);
}

TEST(EventAnalysis, ModulesAtOnePlaceAreToldByTheirTime) {
  MadeFile file;
  const Numbers first = Numbers{}.add(0x1000).add(0x100).add(0).text("/lib/a");
  const Numbers second = Numbers{}.add(0x1000).add(0x100).add(0).text("/lib/b");
  file.chunk(detail::ChunkKind::modules, first);
  file.chunk(detail::ChunkKind::stacks, Numbers{}.add(1).add(1).add(0x1010 << 1));
  file.chunk(detail::ChunkKind::modules, second);
  file.chunk(detail::ChunkKind::stacks, Numbers{}.add(2).add(1).add(0x1010 << 1));
  const auto reader = events::EventReader::over(file.bytes(), "made");
  const auto contents = reader.contents(Bytes{1 << 20}).value();
  const events::Names& names = contents.names;
  EXPECT_EQ(names.module_of(names.stacks.at(1), 0x1010)->path, "/lib/a");
  EXPECT_EQ(names.module_of(names.stacks.at(2), 0x1010)->path, "/lib/b");
  EXPECT_EQ(names.module_of(names.stacks.at(2), 0x2000), nullptr);
}

// ---- Damage

MadeFile several_chunks() {
  MadeFile file;
  file.chunk(detail::ChunkKind::contexts, Numbers{}.add(1).text("tag").text("owner"));
  file.chunk(detail::ChunkKind::stacks, Numbers{}.add(1).add(2).add(20).add(4));
  file.events(1, 0, 0, Numbers{}.allocate(100, 1).allocate(200).free(1));
  file.events(2, 0, 0, Numbers{}.allocate(1000, 2).free_other(1, 0));
  file.events(1, 2, 20, Numbers{}.allocate(400, 1).free(1).allocate(5));
  return file.end(30);
}

TEST(EventDamage, AFileIsReadAsFarAsItGoes) {
  const std::string whole = several_chunks().bytes();
  const std::size_t begin = MadeFile{}.bytes().size();
  std::uint64_t events_before = 0;
  for (std::size_t length = 0; length <= whole.size(); ++length) {
    const auto report = report_over(std::string_view{whole}.substr(0, length));
    if (length < begin) {
      ASSERT_FALSE(report.ok());
      EXPECT_EQ(report.status().code(), Code::corrupt_data);
      EXPECT_EQ(report.status().message(),
                "made: no file of events; allowed: one that Tracker::record_to wrote");
      continue;
    }
    ASSERT_TRUE(report.ok()) << length;
    EXPECT_GE(report->events, events_before);
    EXPECT_EQ(report->contents.damaged, 0U);
    EXPECT_EQ(report->contents.closed, length == whole.size());
    events_before = report->events;
  }
  EXPECT_EQ(events_before, 8U);
}

TEST(EventDamage, OfOneByteCostsOneChunk) {
  const std::string whole = several_chunks().bytes();
  for (std::size_t at = MadeFile{}.bytes().size(); at < whole.size(); ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x40);
    const auto report = report_over(damaged);
    ASSERT_TRUE(report.ok()) << at;
    EXPECT_EQ(report->contents.damaged + (report->contents.cut_bytes > 0 ? 1 : 0), 1U) << at;
    EXPECT_GE(report->events, 5U) << at;
    EXPECT_EQ(report->bad_chunks, 0U);
    EXPECT_EQ(report->events, report->total.allocations + report->frees + report->older_frees +
                                  report->unmatched_frees);
  }
}

TEST(EventDamage, LostAllocationsAreCountedByTheirNumbers) {
  MadeFile file;
  file.events(1, 0, 0, Numbers{}.allocate(1));
  file.events(1, 8, 0, Numbers{}.allocate(1).free(3));
  const EventReport report = reported(file);
  EXPECT_EQ(report.lost_allocations, 7U);
  EXPECT_EQ(report.unmatched_frees, 1U);
}

TEST(EventDamage, AChunkThatStandsTwiceCountsOnce) {
  MadeFile file;
  file.events(1, 0, 0, Numbers{}.allocate(10).free(1));
  file.events(1, 0, 0, Numbers{}.allocate(10).free(1));
  const EventReport report = reported(file);
  EXPECT_EQ(report.total.allocations, 1U);
  EXPECT_EQ(report.bad_chunks, 1U);
}

TEST(EventDamage, EventsThatMakeNoSenseEndTheirChunk) {
  const std::array<Numbers, 7> bad{
      Numbers{}.free(100),                                    // of what was never there
      Numbers{}.add(1),                                       // cut
      Numbers{}.add(2),                                       // no stack
      Numbers{}.add(2).add(1ULL << 40),                       // such a stack neither
      Numbers{}.add(1).add(detail::kTickControl).add(~0ULL),  // the end of time
      Numbers{}.context(1 << 20),                             //
      Numbers{}.free_other(3, ~0ULL),
  };
  for (const Numbers& numbers : bad) {
    MadeFile file;
    Numbers all;
    all.allocate(7);
    const EventReport report =
        reported(MadeFile{}.events(1, 0, 0, all).events(1, 1, 0, numbers).events(1, 1, 0, all));
    EXPECT_EQ(report.bad_chunks, 1U);
    EXPECT_EQ(report.total.live_bytes, 14U);
  }
}

TEST(EventDamage, AnotherVersionIsSaid) {
  std::string bytes = MadeFile{}.bytes();
  bytes[4] = 9;
  const auto report = report_over(bytes);
  EXPECT_EQ(report.status().code(), Code::unsupported);
  EXPECT_EQ(report.status().message(), "made: events of version 9; allowed: version 1");
}

TEST(EventDamage, MemoryIsBounded) {
  MadeFile file;
  for (std::uint64_t chunk = 0; chunk < 20; ++chunk) {
    Numbers numbers;
    for (int i = 0; i < 10'000; ++i) numbers.allocate(8);
    file.events(1, chunk * 10'000, 0, numbers);
  }
  events::AnalysisOptions options;
  options.most = Bytes{1 << 20};
  const auto refused = report_over(file.bytes(), options);
  EXPECT_EQ(refused.status().code(), Code::memory_refused);
  EXPECT_TRUE(refused.status().message().starts_with("made: "));
  options.most = Bytes{64};
  EXPECT_EQ(report_over(file.bytes(), options).status().code(), Code::memory_refused);
  EXPECT_TRUE(report_over(file.bytes()).ok());
}

// All threads begin at once and wait: each has a buffer meanwhile.
MadeFile waiting_threads(std::uint16_t count) {
  Numbers numbers;
  for (int i = 0; i < 3000; ++i) numbers.wait_ms(1);
  MadeFile file;
  for (std::uint16_t lane = 1; lane <= count; ++lane) file.events(lane, 0, 0, numbers);
  return file;
}

TEST(EventDamage, MemoryIsBoundedForManyThreads) {
  const std::string bytes = waiting_threads(64).bytes();
  events::AnalysisOptions options;
  options.most = Bytes{bytes.size() / 2};
  const auto refused = report_over(bytes, options);
  EXPECT_EQ(refused.status().code(), Code::memory_refused);
  EXPECT_THAT(refused.status().message(), ::testing::HasSubstr("64 threads"));
  options.most = Bytes{2 * bytes.size()};
  EXPECT_TRUE(report_over(bytes, options).ok());
}

TEST(EventDamage, AThreadThatEndsLeavesItsMemory) {
  // One after the other, they need what one needs.
  Numbers numbers;
  for (int i = 0; i < 3000; ++i) numbers.wait_ms(1);
  MadeFile file;
  for (std::uint16_t lane = 1; lane <= 64; ++lane) {
    file.events(lane, 0, lane * 10'000ULL, numbers);
  }
  events::AnalysisOptions options;
  options.most = Bytes{file.bytes().size() / 2};
  const auto report = report_over(file.bytes(), options);
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_EQ(report->threads, 64U);
  EXPECT_EQ(report->contents.chunks.capacity(), 0U);
}

TEST(EventDamage, MemoryIsBoundedForContentsAndEventsTogether) {
  MadeFile file;
  Numbers names;
  for (std::uint64_t i = 0; i < 3000; ++i) names.add(i).text("name of a function");
  file.chunk(detail::ChunkKind::functions, names);
  Numbers numbers;
  for (int i = 0; i < 6000; ++i) numbers.allocate(8);
  file.events(1, 0, 0, numbers);
  const auto reader = events::EventReader::over(file.bytes(), "made");
  const std::uint64_t memory = reader.contents(Bytes{1 << 30}).value().memory;
  events::AnalysisOptions options;
  options.most = Bytes{memory + (64 << 10)};
  EXPECT_EQ(events::analyse(reader, options).status().code(), Code::memory_refused);
  options.most = Bytes{memory + (4 << 20)};
  EXPECT_TRUE(events::analyse(reader, options).ok());
}

TEST(EventDamage, ReadingCanBeStopped) {
  events::AnalysisOptions options;
  options.progress = [](double share) { return share < 0.5; };
  EXPECT_EQ(report_over(several_chunks().bytes(), options).status().code(), Code::interrupted);
}

// Headers of chunks as long as may be, without their payloads: as close as they can stand.
std::string bare_headers(std::size_t count) {
  detail::ChunkHeader header;
  header.magic = detail::kChunkMagic;
  header.version = detail::kEventVersion;
  header.length = detail::kMostPayload;
  std::string bytes;
  for (std::size_t i = 0; i < count; ++i) bytes.append(reinterpret_cast<const char*>(&header), 12);
  return bytes;
}

TEST(EventDamage, WhatOnlyLooksLikeChunksIsNotSearchedForEver) {
  const std::string fakes = bare_headers(100'000);
  const std::string bytes = MadeFile{}.bytes() + fakes + several_chunks().bytes();
  std::uint64_t steps = 0;
  events::AnalysisOptions options;
  options.progress = [&](double) { return ++steps > 0; };
  const EventReport report = report_over(bytes, options).value();
  EXPECT_EQ(report.events, 0U);
  EXPECT_EQ(report.contents.damaged, 1U);
  EXPECT_EQ(report.contents.damaged_bytes, bytes.size() - MadeFile{}.bytes().size());
  EXPECT_EQ(report.contents.cut_bytes, 0U);
  EXPECT_LT(steps, 1000U) << "each was tried";
}

TEST(EventDamage, SomeThatLookLikeChunksHideNothing) {
  const std::string fakes = bare_headers(10);
  const std::string padding(256 << 10, 'x');
  const EventReport report =
      report_over(MadeFile{}.bytes() + fakes + padding + several_chunks().bytes()).value();
  EXPECT_EQ(report.events, 8U);
  EXPECT_EQ(report.contents.damaged_bytes, fakes.size() + padding.size());
}

TEST(EventDamage, BetweenAllChunksHidesNone) {
  std::string bytes = MadeFile{}.bytes();
  const std::string chunk = MadeFile{}.chunk(detail::ChunkKind::functions, Numbers{}).bytes();
  for (int i = 0; i < 5000; ++i) bytes += "x" + chunk;
  const EventReport report = report_over(bytes).value();
  EXPECT_EQ(report.contents.damaged, 5000U);
  EXPECT_EQ(report.contents.damaged_bytes, 5000U);
}

TEST(EventDamage, TheSearchCanBeStopped) {
  // No event is in it: all that is told is told by the search.
  const std::string bytes = MadeFile{}.bytes() + std::string(1 << 20, 'x');
  double before = 0;
  events::AnalysisOptions options;
  options.progress = [&](double share) {
    EXPECT_GE(share, before);
    before = share;
    return share < 0.25;
  };
  EXPECT_EQ(report_over(bytes, options).status().code(), Code::interrupted);
  EXPECT_LT(before, 0.35);
}

TEST(EventReader, NamesInMessagesDriveNoTerminal) {
  const std::string name = "/no/such\x1b]0;title\x07";
  const Status missing = events::EventReader::open(name).status();
  EXPECT_EQ(missing.message(), "/no/such\\x1b]0;title\\x07: no such file");
  const auto refused = events::EventReader::over("", name).contents(Bytes{1});
  EXPECT_TRUE(refused.status().message().starts_with("/no/such\\x1b]0;title\\x07: "));
}

TEST(EventReader, OpensRegularFilesOnly) {
  const Folder folder;
  EXPECT_EQ(events::EventReader::open(folder.file("none")).status().code(), Code::not_found);
  EXPECT_EQ(events::EventReader::open(folder.file("")).status().code(), Code::invalid_argument);
  ASSERT_EQ(::mkfifo(folder.file("pipe").c_str(), 0600), 0);
  EXPECT_EQ(events::EventReader::open(folder.file("pipe")).status().code(), Code::invalid_argument);
}

// ---- The table below it all

TEST(NumberTable, SaysWhatAMapSays) {
  std::mt19937_64 random{7};
  events::NumberTable<std::uint32_t> table;
  std::map<std::uint64_t, std::uint32_t> model;
  for (int i = 0; i < 200'000; ++i) {
    // Few keys, so that they meet; dense ones, as numbers of blocks are.
    const std::uint64_t key = random() % (i < 100'000 ? 3000 : 300) + 1;
    if (random() % 2 == 0) {
      const auto [value, is_new] = table.insert(key);
      EXPECT_EQ(is_new, model.find(key) == model.end());
      *value = model[key] = static_cast<std::uint32_t>(i);
    } else {
      std::uint32_t value = 0;
      const auto known = model.find(key);
      ASSERT_EQ(table.take(key, value), known != model.end());
      if (known == model.end()) continue;
      EXPECT_EQ(value, known->second);
      model.erase(known);
    }
    ASSERT_EQ(table.size(), model.size());
  }
}

}  // namespace
}  // namespace forebay::testing
