// Files that were recorded, read back.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>  // needs gtest before it
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <latch>
#include <map>
#include <random>
#include <thread>
#include <vector>

#include "conformance/fork.hpp"
#include "event_support.hpp"
#include "track/event_sink.hpp"

namespace forebay::testing {

void made_code() {}

namespace {

using detail::BlockNumber;
using detail::record_allocate;
using detail::record_free;
using events::EventReport;
using events::Site;

// ---- A naive model of what a recording must say

struct ModelSite {
  std::uint64_t allocations = 0, bytes = 0, live = 0, live_bytes = 0, temporary = 0;
  bool operator==(const ModelSite&) const = default;
};
using ModelSites = std::map<std::pair<StackId, std::uint16_t>, ModelSite>;

// Records, and counts what it records. One a thread.
class Recorder {
 public:
  struct Block {
    BlockNumber number;
    std::uint64_t bytes = 0;
    std::pair<StackId, std::uint16_t> site;
    const Recorder* owner = nullptr;
    std::uint64_t order = 0;
  };
  Block allocate(std::uint64_t bytes, std::uint16_t context, StackId stack) {
    ModelSite& site = sites_[{stack, context}];
    ++site.allocations;
    ++site.live;
    site.bytes += bytes;
    site.live_bytes += bytes;
    return {record_allocate(bytes, context, stack), bytes, {stack, context}, this, allocated_++};
  }
  void free(const Block& block) {
    record_free(block.number);
    ModelSite& site = sites_[block.site];
    --site.live;  // of another thread's block: wraps, until all are added
    site.live_bytes -= block.bytes;
    if (block.owner == this && allocated_ - block.order <= 2) ++site.temporary;
  }
  const ModelSites& sites() const { return sites_; }

 private:
  ModelSites sites_;
  std::uint64_t allocated_ = 0;
};

ModelSites sum_of(const std::vector<Recorder>& recorders) {
  ModelSites sum;
  for (const Recorder& recorder : recorders) {
    for (const auto& [key, site] : recorder.sites()) {
      ModelSite& total = sum[key];
      total.allocations += site.allocations;
      total.bytes += site.bytes;
      total.live += site.live;
      total.live_bytes += site.live_bytes;
      total.temporary += site.temporary;
    }
  }
  return sum;
}

ModelSites sites_of(const EventReport& report) {
  ModelSites sites;
  for (const Site& site : report.sites) {
    sites[{site.stack, site.context}] = {site.allocations, site.bytes, site.live, site.live_bytes,
                                         site.temporary};
  }
  return sites;
}

void expect_nothing_lost(const EventReport& report) {
  EXPECT_EQ(report.bad_chunks, 0U);
  EXPECT_EQ(report.lost_allocations, 0U);
  EXPECT_EQ(report.unmatched_frees, 0U);
  EXPECT_EQ(report.contents.damaged, 0U);
  EXPECT_EQ(report.contents.cut_bytes, 0U);
  EXPECT_EQ(report.total.allocations - report.frees, report.total.live);
}

// ---- Names

TEST(EventRecording, KnowsTagsOwnersAndPlaces) {
  const Folder folder;
  open_made(folder.file());
  record_allocate(1000, 2, 1);
  record_free(record_allocate(24, 3, 1));
  close_made();
  const EventReport report = report_of(folder.file());
  expect_nothing_lost(report);
  ASSERT_EQ(report.sites.size(), 2U);
  const events::Names& names = report.contents.names;
  EXPECT_EQ(names.contexts[report.sites[0].context].tag, "decoder/layer3");
  EXPECT_EQ(names.contexts[report.sites[0].context].owner, "session 7");
  EXPECT_EQ(names.contexts[report.sites[1].context].owner, "tenant");
  EXPECT_EQ(names.contexts[detail::kMaxContexts - 1].tag, "(other)");
  const events::Stack& stack = names.stacks.at(1);
  ASSERT_EQ(stack.frames.size(), 4U);
  EXPECT_EQ(stack.frames[2], made_frame(1, 2));
  EXPECT_EQ(names.functions.at(made_frame(1, 0)), "made::code(int)");
  const events::Module* const module = names.module_of(stack, stack.frames[0]);
  ASSERT_NE(module, nullptr);
  EXPECT_EQ(module->path, report.contents.program);
  EXPECT_EQ(module->path, std::filesystem::read_symlink("/proc/self/exe").string());
  EXPECT_EQ(report.contents.process, static_cast<std::uint64_t>(::getpid()));
  EXPECT_TRUE(report.contents.closed);
}

StackId g_stacks_used = 0;
StackId g_hidden_stack = 0;

TEST(EventRecording, WritesNamesBeforeWhatNeedsThemAndLateOnesLater) {
  static constexpr detail::EventNames kGrowing{
      []() noexcept { return g_stacks_used; },
      [](StackId id) noexcept {
        return id == g_hidden_stack ? std::span<const std::uintptr_t>{} : made_frames(id);
      },
      kMadeNames.contexts_used, kMadeNames.name_of, kMadeNames.function_of};
  const Folder folder;
  g_stacks_used = 1;
  ASSERT_TRUE(detail::open_event_file(folder.file(), kGrowing).ok());
  g_stacks_used = 3;
  g_hidden_stack = 2;  // it has its number, and is being written
  for (int i = 0; i < 40'000; ++i) record_free(record_allocate(1 << 20, 0, i % 2 == 0 ? 1 : 3));
  const auto before = events::EventReader::open(folder.file()).value().contents(Bytes{1 << 24});
  ASSERT_TRUE(before.ok());
  ASSERT_FALSE(before->chunks.empty());
  EXPECT_TRUE(before->names.stacks.contains(3));
  EXPECT_FALSE(before->names.stacks.contains(2));
  g_hidden_stack = 0;
  close_made();
  EXPECT_EQ(report_of(folder.file()).contents.names.stacks.size(), 3U);
}

// ---- Times

std::atomic<std::uint64_t> g_now{0};
class MadeClock {
 public:
  MadeClock() {
    g_now = kMadeStart;
    detail::g_event_clock = []() noexcept { return g_now.load(); };
  }
  MadeClock(const MadeClock&) = delete;
  MadeClock& operator=(const MadeClock&) = delete;
  ~MadeClock() { detail::g_event_clock = before_; }
  static void pass_ms(std::uint64_t time) { g_now += time * 1'000'000; }

 private:
  detail::ClockFunction before_ = detail::g_event_clock;
};

TEST(EventRecording, KnowsTheTimesOfASlowThread) {
  const Folder folder;
  const MadeClock clock;
  open_made(folder.file());
  for (int i = 0; i < 10; ++i) {
    const BlockNumber block = record_allocate(1, 0, 1);
    MadeClock::pass_ms(60'000);
    record_free(block);
    MadeClock::pass_ms(20);
  }
  close_made();
  const EventReport report = report_of(folder.file());
  EXPECT_EQ(report.total.lifetimes[4], 10U);
  EXPECT_NEAR(report.seconds, 600.2, 0.001);
}

TEST(EventRecording, MisdatesSevenEventsAfterAPauseAtMost) {
  const Folder folder;
  const MadeClock clock;
  open_made(folder.file());
  std::vector<BlockNumber> blocks(1000);
  for (BlockNumber& block : blocks) block = record_allocate(1, 0, 1);
  MadeClock::pass_ms(60'000);
  for (const BlockNumber block : blocks) record_free(block);
  close_made();
  EXPECT_GE(report_of(folder.file()).total.lifetimes[4], 993U);
}

TEST(EventRecording, WritesAChunkOfASecondsAge) {
  const Folder folder;
  const MadeClock clock;
  open_made(folder.file());
  for (int i = 0; i < 4; ++i) {
    record_allocate(1, 0, 1);
    MadeClock::pass_ms(600);
  }
  EXPECT_EQ(report_of(folder.file()).events, 3U);
  close_made();
  EXPECT_EQ(report_of(folder.file()).events, 4U);
}

// ---- Against the model

RC_GTEST_PROP(EventRecording, SaysWhatTheModelSays, ()) {
  const Folder folder;
  open_made(folder.file());
  std::vector<Recorder> recorder(1);
  std::vector<Recorder::Block> live;
  const auto steps =
      *rc::gen::container<std::vector<std::tuple<bool, std::uint64_t, std::uint64_t>>>(
          rc::gen::tuple(rc::gen::arbitrary<bool>(), rc::gen::arbitrary<std::uint64_t>(),
                         rc::gen::inRange<std::uint64_t>(0, 1 << 20)));
  for (const auto& [frees, random, bytes] : steps) {
    if (frees && !live.empty()) {
      const auto victim = live.begin() + static_cast<std::ptrdiff_t>(random % live.size());
      recorder[0].free(*victim);
      live.erase(victim);
    } else {
      live.push_back(recorder[0].allocate(bytes >> random % 20,
                                          static_cast<std::uint16_t>(random / 32 % 4),
                                          static_cast<StackId>(random / 128 % kMadeStacks + 1)));
    }
  }
  RC_ASSERT(detail::events_recorded() == steps.size());
  close_made();
  const EventReport report = report_of(folder.file());
  RC_ASSERT(report.events == steps.size());
  RC_ASSERT(report.frees == report.total.allocations - live.size());
  RC_ASSERT(sites_of(report) == recorder[0].sites());
}

TEST(EventRecording, KeepsTheLargestSizesAndNumbers) {
  const Folder folder;
  open_made(folder.file());
  record_allocate(~0ULL, 0, ~StackId{0});
  record_allocate(0, 0, 0);
  close_made();
  const EventReport report = report_of(folder.file());
  ASSERT_EQ(report.sites.size(), 2U);
  EXPECT_EQ(report.sites[0].bytes, detail::kMostBlock);
  EXPECT_EQ(report.sites[0].stack, ~StackId{0});
  EXPECT_EQ(report.sites[1].bytes, 0U);
}

// ---- Threads

// Random work of one thread; blocks go to other threads through `shared`.
void work(Recorder& recorder, std::uint64_t start,
          std::vector<std::atomic<Recorder::Block*>>& shared, int steps) {
  std::mt19937_64 random{start};
  std::vector<Recorder::Block> own;
  for (int i = 0; i < steps; ++i) {
    const std::uint64_t value = random();
    const auto block = recorder.allocate(value % 5000, static_cast<std::uint16_t>(value >> 20 & 3),
                                         static_cast<StackId>((value >> 24) % kMadeStacks + 1));
    if (value >> 60 < 4) {
      auto* const out = shared[value >> 32 & 63].exchange(new Recorder::Block{block});
      if (out != nullptr) recorder.free(*out);
      delete out;
    } else {
      own.push_back(block);
    }
    if (own.size() > 100) {
      std::swap(own[(value >> 40) % own.size()], own.back());
      recorder.free(own.back());
      own.pop_back();
    }
  }
}

TEST(EventRecording, OfThreadsThatFreeEachOthersBlocksAddsUp) {
  constexpr std::size_t kWorkers = 4;
  const Folder folder;
  std::vector<std::atomic<Recorder::Block*>> shared(64);
  std::vector<Recorder> recorders(kWorkers + 1);
  open_made(folder.file());
  // A lane each, for the whole of it: a free of what the lane's owner before took last would be
  // temporary to the file, and not to the model.
  recorders.back().free(recorders.back().allocate(1, 0, 1));
  std::latch done{kWorkers};
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < kWorkers; ++i) {
      threads.emplace_back([&, i] {
        work(recorders[i], i + 1, shared, 30'000);
        done.arrive_and_wait();
      });
    }
  }
  for (auto& place : shared) {
    Recorder::Block* const block = place.exchange(nullptr);
    if (block != nullptr) recorders.back().free(*block);
    delete block;
  }
  const std::uint64_t recorded = detail::events_recorded();
  close_made();
  const EventReport report = report_of(folder.file());
  expect_nothing_lost(report);
  EXPECT_EQ(report.older_frees, 0U);
  EXPECT_EQ(report.events, recorded);
  EXPECT_EQ(sites_of(report), sum_of(recorders));
}

TEST(EventRecording, OfManyShortThreadsTakesFewLanesAndBytes) {
  const Folder folder;
  open_made(folder.file());
  for (int i = 0; i < 300; ++i) {
    std::thread{[] { record_free(record_allocate(64, 1, 5)); }}.join();
  }
  close_made();
  const EventReport report = report_of(folder.file());
  expect_nothing_lost(report);
  EXPECT_EQ(report.frees, 300U);
  EXPECT_LE(report.threads, 2U);
  EXPECT_LT(report.contents.file_bytes, 64U << 10);
}

struct RecordsAtEnd {
  BlockNumber block;
  ~RecordsAtEnd() { record_free(block); }
};

TEST(EventRecording, TakesWhatAThreadGivesWhileItEnds) {
  const Folder folder;
  open_made(folder.file());
  std::thread{[] {
    thread_local RecordsAtEnd late;
    late.block = record_allocate(64, 0, 1);
  }}.join();
  close_made();
  EXPECT_EQ(report_of(folder.file()).frees, 1U);
}

TEST(EventRecording, MayBeClosedAndOpenedWhileThreadsRecord) {
  const Folder folder;
  std::atomic<bool> stop{false};
  std::vector<std::jthread> threads;
  threads.reserve(2);
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&stop] {
      std::vector<BlockNumber> live(50);
      for (std::size_t k = 0; !stop.load(std::memory_order_relaxed); k = (k + 7) % live.size()) {
        record_free(live[k]);
        live[k] = record_allocate(k, 0, static_cast<StackId>(k + 1));
      }
    });
  }
  for (int round = 0; round < 20; ++round) {
    const std::string path = folder.file(std::to_string(round));
    open_made(path);
    while (detail::events_recorded() < 20'000) std::this_thread::yield();
    close_made();
    const EventReport report = report_of(path);
    expect_nothing_lost(report);
    EXPECT_GE(report.events, 19'000U);
    EXPECT_LE(report.total.live, 2 * 51U);
  }
  stop = true;
}

TEST(EventRecording, KnowsFreesOfBlocksFromBefore) {
  const Folder folder;
  open_made(folder.file("a"));
  const BlockNumber mine = record_allocate(10, 0, 1);
  BlockNumber others;
  std::thread{[&] { others = record_allocate(20, 0, 1); }}.join();
  close_made();
  open_made(folder.file("b"));
  record_allocate(30, 0, 1);
  record_free(mine);  // not even written
  record_free(others);
  close_made();
  const EventReport report = report_of(folder.file("b"));
  expect_nothing_lost(report);
  EXPECT_EQ(report.total.live_bytes, 30U);
  EXPECT_EQ(report.older_frees, 1U);
  EXPECT_EQ(report.events, 2U);
}

TEST(EventRecording, AChildAfterForkWritesNothingAndMayOpenItsOwn) {
  const Folder folder;
  open_made(folder.file());
  const BlockNumber block = record_allocate(100, 0, 1);
  conformance::in_child([&] {
    EXPECT_FALSE(detail::event_file_is_open());
    EXPECT_EQ(record_allocate(1, 0, 1).thread, 0);
    record_free(block);
    close_made();  // nothing to close
    open_made(folder.file("child"));
    for (int i = 0; i < 10; ++i) record_allocate(7, 0, 1);
    close_made();
  });
  record_allocate(200, 0, 1);
  close_made();
  EXPECT_EQ(report_of(folder.file()).total.live_bytes, 300U);
  EXPECT_EQ(report_of(folder.file("child")).total.live_bytes, 70U);
}

// ---- Failures

ssize_t write_slowly(int descriptor, const void* bytes, std::size_t count, off_t offset) {
  thread_local unsigned calls = 0;
  if (++calls % 3 == 0) {
    errno = EINTR;
    return -1;
  }
  return ::pwrite(descriptor, bytes, std::min<std::size_t>(count, 1000), offset);
}

std::atomic<int> g_writes_left{0};
ssize_t write_then_fail(int descriptor, const void* bytes, std::size_t count, off_t offset) {
  if (g_writes_left.fetch_sub(1) > 0) return ::pwrite(descriptor, bytes, count, offset);
  if (count > 100 && g_writes_left == -1) {  // the disk is full in the midst of it
    return ::pwrite(descriptor, bytes, count / 2, offset);
  }
  errno = ENOSPC;
  return -1;
}

class Writes {
 public:
  explicit Writes(detail::WriteFunction function) { detail::g_event_write = function; }
  Writes(const Writes&) = delete;
  Writes& operator=(const Writes&) = delete;
  ~Writes() { detail::g_event_write = &::pwrite; }
};

TEST(EventRecording, GoesOnAfterShortAndInterruptedWrites) {
  const Folder folder;
  const Writes writes{write_slowly};
  open_made(folder.file());
  for (StackId i = 0; i < 50'000; ++i) record_free(record_allocate(1000, 0, i % kMadeStacks + 1));
  close_made();
  const EventReport report = report_of(folder.file());
  expect_nothing_lost(report);
  EXPECT_EQ(report.events, 100'000U);
}

TEST(EventRecording, CountsWhatAFullDiskLosesWhereverItFails) {
  constexpr std::uint64_t kEvents = 120'000;
  const Folder folder;
  bool failed = true;
  int failures = 0;
  for (int good = 0; failed; ++good) {
    SCOPED_TRACE(good);
    const std::string path = folder.file(std::to_string(good));
    g_writes_left = good;
    const Writes writes{write_then_fail};
    const Status opened = detail::open_event_file(path, kMadeNames);
    if (!opened.ok()) {
      EXPECT_EQ(opened.code(), Code::io_error);
      EXPECT_FALSE(std::filesystem::exists(path));
      continue;
    }
    std::thread{[] {
      for (StackId i = 0; i < kEvents / 2; ++i) record_allocate(1000, 0, i % 90 + 1);
    }}.join();
    for (StackId i = 0; i < kEvents / 2; ++i) record_allocate(1000, 0, i % 90 + 1);
    const Status closed = detail::close_event_file();
    failed = !closed.ok();
    if (failed) {
      ++failures;
      EXPECT_EQ(closed.code(), Code::io_error);
      EXPECT_NE(closed.message().find("No space left on device"), std::string::npos);
    }
    EXPECT_EQ(detail::events_recorded() + detail::events_dropped(), kEvents);
    const EventReport report = report_of(path);
    EXPECT_EQ(report.events, detail::events_recorded());
    EXPECT_EQ(report.contents.cut_bytes, 0U) << "half a chunk was left";
    EXPECT_EQ(report.contents.damaged, 0U);
  }
  EXPECT_GE(failures, 5);
}

TEST(EventRecording, StaysWithinTheLimitOfItsFile) {
  const Folder folder;
  open_made(folder.file(), 200'000);
  for (int i = 0; i < 200'000; ++i) record_allocate(1000, 0, 3);
  const Status closed = detail::close_event_file();
  EXPECT_EQ(closed.code(), Code::io_error);
  EXPECT_LE(std::filesystem::file_size(folder.file()), 200'000U);
  const EventReport report = report_of(folder.file());
  EXPECT_GT(report.events, 50'000U);
  EXPECT_EQ(report.events + detail::events_dropped(), 200'000U);
}

// ---- Killed

// The child says how many events are in chunks that are written; it is killed at any point after.
TEST(EventRecording, OfAProcessThatIsKilledIsWholeUpToItsLastChunk) {
  std::mt19937 random{20240601};
  for (int round = 0; round < 25; ++round) {
    const Folder folder;
    std::array<int, 2> pipe{};
    ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      if (!detail::open_event_file(folder.file(), kMadeNames).ok()) ::_exit(1);
      std::jthread other{[] {
        for (;;) record_free(record_allocate(700, 1, 9));
      }};
      for (std::uint32_t i = 0;; ++i) {
        record_allocate(1 << 16, 0, i % kMadeStacks + 1);
        if (i % 2000 == 0 && ::write(pipe[1], "x", 1) != 1) ::_exit(1);
      }
    }
    ::close(pipe[1]);
    char byte = 0;
    const auto ticks = static_cast<int>(20 + random() % 40);
    for (int i = 0; i < ticks; ++i) ASSERT_EQ(::read(pipe[0], &byte, 1), 1);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    ::close(pipe[0]);
    const EventReport report = report_of(folder.file());
    EXPECT_FALSE(report.contents.closed);
    EXPECT_EQ(report.contents.damaged + report.bad_chunks + report.lost_allocations, 0U);
    EXPECT_EQ(report.unmatched_frees, 0U);
    // Of (ticks - 1) * 2000 events of five bytes, all but one chunk.
    const std::uint64_t written = static_cast<std::uint64_t>(ticks - 1) * 2000;
    EXPECT_GE(report.total.live + (64 << 10) / 4, written);
    for (const Site& site : report.sites) {
      EXPECT_TRUE(report.contents.names.stacks.contains(site.stack));
    }
  }
}

}  // namespace
}  // namespace forebay::testing
