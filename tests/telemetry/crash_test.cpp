// Each process here dies on purpose, in a child: what it leaves is read by its parent.
#include "telemetry/crash.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csetjmp>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "forebay/pool.hpp"
#include "support/folder.hpp"

namespace forebay::detail {
namespace {

std::atomic<bool> g_fsync_faults{false};

// (A null store is an error of its own to the sanitizers, who end the process in their way.)
[[gnu::noinline, gnu::no_sanitize("undefined", "address")]] void write_to(std::uintptr_t address) {
  *reinterpret_cast<volatile int*>(address) = 1;
}

}  // namespace
}  // namespace forebay::detail

// Instead of the system's: a step of the handler's that can be made to fault.
extern "C" int fsync(int file) {
  if (forebay::detail::g_fsync_faults) forebay::detail::write_to(0);
  return static_cast<int>(::syscall(SYS_fsync, file));
}

namespace forebay::detail {
namespace {

using testing::TestFolder;

// ---- Sources of known content

constexpr std::uint32_t kBlocks = 1000;

TrackerOptions options() noexcept {
  TrackerOptions options;
  options.sample_interval = Bytes{1 << 20};
  options.grade = TrackingGrade::full;
  return options;
}

void tags(CrashVisitor<CrashTag> visit) {
  visit({0, "", "", Bytes{1}, 2, Bytes{3}, 4});
  visit({7, "decoder/\"cache\"\n", "tenant", Bytes{50}, 6, Bytes{70}, 8});
}

void counters(CrashVisitor<CrashCounter> visit) {
  visit({"budget", "process", "used_bytes", 4096});
  visit({"budget", "process", "limit_bytes", 8192});
  visit({"cache", "kernels", "hits_total", 3});
}

void sources(CrashVisitor<std::string_view> visit) {
  char gone[] = "tensors of a pool";  // the image keeps what it needs of it; no heap in a handler
  visit(std::string_view{gone});
  gone[0] = '?';
  visit("scratch");
}

LiveBlock block_of(std::uint32_t i) {
  LiveBlock block;
  block.address = 0x7f0000000000 + 4096 * i;
  block.bytes = Bytes{i};
  block.source = i % 2;
  block.tag = i % 2 == 0 ? 7 : 0;
  block.stack = i % 3;
  block.born = Clock::steady().now().time_since_epoch() - std::chrono::seconds{100};
  block.weight_bytes = 1.5 * i;
  block.weight_blocks = 1;
  return block;
}

void blocks(CrashVisitor<LiveBlock> visit) {
  for (std::uint32_t i = 0; i < kBlocks; ++i) visit(block_of(i));
}

int a_function() { return 1; }

std::span<const std::uintptr_t> frames(StackId id) noexcept {
  static const std::uintptr_t kInner = reinterpret_cast<std::uintptr_t>(&a_function) + 1;
  static const std::uintptr_t kFrames[] = {0x1001, 0x2001, kInner};
  return std::span{kFrames}.subspan(2 - id);
}

void events(CrashVisitor<TimelineEvent> visit) {
  TimelineEvent event;
  event.kind = EventKind::deny;
  event.tag = 7;
  event.thread = 42;
  event.at = std::chrono::milliseconds{1500};
  event.bytes = Bytes{99};
  event.subject = "tensors";
  visit(event);
  event.kind = EventKind::mark;
  event.subject = {};
  event.tag = 999;  // not known
  visit(event);
}

CrashSources known_sources() { return {options, tags, counters, sources, blocks, frames, events}; }

// ---- Children

struct Death {
  int status = 0;
  pid_t child = 0;
  bool by(int number) const { return WIFSIGNALED(status) && WTERMSIG(status) == number; }
};

Death die(const std::function<void()>& work) {
  std::fflush(nullptr);
  Death death;
  death.child = ::fork();
  if (death.child == 0) {
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    // A sanitizer's own handler would turn the signal into an exit.
    for (const int number : {SIGSEGV, SIGBUS, SIGABRT}) std::signal(number, SIG_DFL);
    work();
    ::_exit(7);
  }
  EXPECT_EQ(::waitpid(death.child, &death.status, 0), death.child);
  return death;
}

void install(const TestFolder& folder, const CrashSources& from) {
  CrashOptions crash;
  crash.directory = folder.path();
  if (!install_crash_handler(crash, from).ok()) ::_exit(8);
}

std::string file_of(const Death& death) {
  return "forebay-" + std::to_string(death.child) + ".json";
}

Snapshot read_file_of(const TestFolder& folder, const Death& death) {
  EXPECT_EQ(folder.names(), std::vector<std::string>{file_of(death)});
  const Result<Snapshot> read = read_snapshot(folder / file_of(death));
  EXPECT_TRUE(read.ok()) << read.status().message();
  return read.ok() ? *read : Snapshot{};
}

void expect_known_content(const Snapshot& snapshot) {
  EXPECT_FALSE(snapshot.complete);
  EXPECT_EQ(snapshot.sample_interval_bytes, 1U << 20);
  EXPECT_EQ(snapshot.grade, "full");
  EXPECT_GT(snapshot.resident_bytes, 100'000U);
  EXPECT_GT(snapshot.clock_seconds, 0);
  ASSERT_EQ(snapshot.tags.size(), 3U);
  EXPECT_EQ(snapshot.tags[1].tag, "decoder/\"cache\"\n");
  EXPECT_EQ(snapshot.tags[2].tag, "(other)") << "of the event whose tag is not known";
  EXPECT_EQ(snapshot.tags[1].live, Bytes{50});
  EXPECT_EQ(snapshot.tags[1].allocations, 8U);
  ASSERT_EQ(snapshot.statistics.size(), 1U);
  EXPECT_EQ(snapshot.statistics[0].name, "kernels");
  EXPECT_EQ(snapshot.statistics[0].statistics[0].value, 3);
  ASSERT_EQ(snapshot.budgets.size(), 1U);
  EXPECT_EQ(snapshot.budgets[0].path, "process");
  EXPECT_EQ(snapshot.budgets[0].used, Bytes{4096});
  EXPECT_EQ(snapshot.budgets[0].limit, Bytes{8192});
  EXPECT_EQ(snapshot.budgets[0].available, Bytes{4096});
  EXPECT_EQ(snapshot.sources, (std::vector<std::string>{"tensors of a pool", "scratch"}));
}

void expect_known_blocks(const Snapshot& snapshot) {
  ASSERT_EQ(snapshot.blocks.size(), kBlocks);
  const SnapshotBlock& block = snapshot.blocks[4];
  EXPECT_EQ(block.address, 0x7f0000004000U);
  EXPECT_EQ(block.bytes, 4U);
  EXPECT_EQ(block.tag, 1U);
  EXPECT_EQ(block.weight_bytes, 6);
  EXPECT_GT(block.age_seconds, 50);
  ASSERT_EQ(snapshot.stacks.size(), 2U);
  EXPECT_EQ(snapshot.blocks[0].stack, 0U) << "not known";
  const auto& stack = snapshot.stacks[snapshot.blocks[2].stack - 1];
  ASSERT_EQ(stack.size(), 3U);
  EXPECT_EQ(stack[0].offset, 0x1000U) << "of the call, without a module";
  EXPECT_EQ(stack[0].module, 0U);
  ASSERT_GT(stack[2].module, 0U);
  const SnapshotModule& module = snapshot.modules[stack[2].module - 1];
  EXPECT_EQ(module.base + stack[2].offset, reinterpret_cast<std::uintptr_t>(&a_function));
  ASSERT_EQ(snapshot.events.size(), 2U);
  EXPECT_EQ(snapshot.events[0].kind, "deny");
  EXPECT_EQ(snapshot.events[0].subject, "tensors");
  EXPECT_EQ(snapshot.events[0].tag, 2U);
  EXPECT_EQ(snapshot.events[0].seconds, 1.5);
  EXPECT_EQ(snapshot.events[1].subject, "");
  EXPECT_EQ(snapshot.events[1].tag, 3U);
}

TEST(CrashHandler, WritesASnapshotOnAbortAndTheProcessDiesOfIt) {
  const TestFolder folder;
  const Death death = die([&] {
    install(folder, known_sources());
    std::abort();
  });
  EXPECT_TRUE(death.by(SIGABRT)) << death.status;
  const Snapshot snapshot = read_file_of(folder, death);
  EXPECT_EQ(snapshot.reason, "signal 6");
  EXPECT_EQ(snapshot.pid, death.child);
  expect_known_content(snapshot);
  expect_known_blocks(snapshot);
  struct stat facts {};
  ASSERT_EQ(::stat((folder / file_of(death)).c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0600U);
  EXPECT_EQ(facts.st_nlink, 1U);
}

TEST(CrashHandler, WritesASnapshotOnAWriteToNowhere) {
  const TestFolder folder;
  const Death death = die([&] {
    install(folder, known_sources());
    write_to(0);
  });
  EXPECT_TRUE(death.by(SIGSEGV)) << death.status;
  const Snapshot snapshot = read_file_of(folder, death);
  EXPECT_EQ(snapshot.reason, "signal 11");
  expect_known_blocks(snapshot);
}

TEST(CrashHandler, WritesOneWhenAnotherProcessSendsTheSignal) {
  const TestFolder folder;
  const Death death = die([&] {
    install(folder, {});
    ::kill(::getpid(), SIGBUS);
  });
  EXPECT_TRUE(death.by(SIGBUS)) << death.status;
  EXPECT_EQ(read_file_of(folder, death).reason, "signal 7");
}

[[gnu::noinline]] int fall(int depth) {
  volatile char room[4096];
  room[0] = static_cast<char>(depth);
  return depth < 0 ? 0 : fall(depth + 1) + room[0];
}

TEST(CrashHandler, AStackThatOverflowsHasAnotherOneToWriteOn) {
  const TestFolder folder;
  const Death death = die([&] {
    install(folder, known_sources());
    ::_exit(fall(0));
  });
  EXPECT_TRUE(death.by(SIGSEGV)) << death.status;
  expect_known_blocks(read_file_of(folder, death));
}

TEST(CrashHandler, ASourceThatFaultsCostsOnlyWhatItHadNotGiven) {
  const TestFolder folder;
  const Death death = die([&] {
    CrashSources from = known_sources();
    from.blocks = [](CrashVisitor<LiveBlock> visit) {
      for (std::uint32_t i = 0; i < 10; ++i) visit(block_of(i));
      write_to(16);
    };
    from.counters = [](CrashVisitor<CrashCounter>) { std::abort(); };
    from.frames = [](StackId id) noexcept {
      if (id == 2) write_to(16);
      return frames(id);
    };
    install(folder, from);
    std::abort();
  });
  EXPECT_TRUE(death.by(SIGABRT)) << death.status;
  const Snapshot snapshot = read_file_of(folder, death);
  EXPECT_EQ(snapshot.blocks.size(), 10U);
  EXPECT_EQ(snapshot.tags.size(), 3U);
  EXPECT_TRUE(snapshot.statistics.empty());
  ASSERT_EQ(snapshot.stacks.size(), 2U);
  EXPECT_EQ(snapshot.stacks[0].size(), 2U);
  EXPECT_TRUE(snapshot.stacks[1].empty()) << "its frames could not be read";
  EXPECT_EQ(snapshot.events.size(), 2U);
}

TEST(CrashHandler, ThreadsThatCrashTogetherLeaveOneWholeFile) {
  const TestFolder folder;
  const Death death = die([&] {
    install(folder, known_sources());
    std::atomic<int> ready{0};
    const auto crash = [&] {
      ready.fetch_add(1);
      while (ready.load() < 8) {
      }
      write_to(0);
    };
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) threads.emplace_back(crash);
    for (std::thread& thread : threads) thread.join();
  });
  EXPECT_TRUE(death.by(SIGSEGV)) << death.status;
  expect_known_blocks(read_file_of(folder, death));
}

TEST(CrashHandler, PassesOnToTheHandlerBeforeIt) {
  const TestFolder folder;
  const Death death = die([&] {
    struct sigaction before {};
    before.sa_sigaction = [](int, siginfo_t* info, void*) {
      ::_exit(info->si_addr == reinterpret_cast<void*>(64) ? 42 : 43);
    };
    before.sa_flags = SA_SIGINFO;
    ::sigaction(SIGSEGV, &before, nullptr);
    std::signal(SIGABRT, [](int) { ::_exit(44); });
    install(folder, known_sources());
    write_to(64);
  });
  EXPECT_TRUE(WIFEXITED(death.status));
  EXPECT_EQ(WEXITSTATUS(death.status), 42);
  EXPECT_EQ(read_file_of(folder, death).reason, "signal 11");
}

TEST(CrashHandler, AHandlerThatMendsTheFaultLetsTheProcessGoOn) {
  const TestFolder folder;
  const Death death = die([&] {
    static sigjmp_buf mended;
    std::signal(SIGSEGV, [](int) { siglongjmp(mended, 1); });
    install(folder, known_sources());
    if (sigsetjmp(mended, 1) == 0) write_to(0);
    if (sigsetjmp(mended, 1) == 0) write_to(0);
    ::_exit(5);
  });
  EXPECT_TRUE(WIFEXITED(death.status));
  EXPECT_EQ(WEXITSTATUS(death.status), 5);
  const Snapshot snapshot = read_file_of(folder, death);
  EXPECT_EQ(snapshot.reason, "signal 11") << "one file";
  expect_known_content(snapshot);
  expect_known_blocks(snapshot);
}

TEST(CrashHandler, AfterFaultsThatWereMendedTheFileTellsOfTheDeath) {
  const TestFolder folder;
  const Death death = die([&] {
    static sigjmp_buf mended;
    static volatile int ignored = 0;
    std::signal(SIGSEGV, [](int) { siglongjmp(mended, 1); });
    std::signal(SIGBUS, [](int) { ignored = ignored + 1; });  // returns
    install(folder, known_sources());
    for (int i = 0; i < 3; ++i) {
      if (sigsetjmp(mended, 1) == 0) write_to(0);
      std::raise(SIGBUS);
    }
    if (ignored != 3) ::_exit(6);
    std::abort();
  });
  EXPECT_TRUE(death.by(SIGABRT)) << death.status;
  const Snapshot snapshot = read_file_of(folder, death);
  EXPECT_EQ(snapshot.reason, "signal 6");
  expect_known_content(snapshot);
  expect_known_blocks(snapshot);
}

TEST(CrashHandler, AChildOfAProcessThatRecoveredHasAFileOfItsOwn) {
  const TestFolder folder;
  const Death death = die([&] {
    std::signal(SIGBUS, [](int) {});
    install(folder, known_sources());
    std::raise(SIGBUS);
    const pid_t child = ::fork();
    if (child == 0) std::abort();
    int status = 0;
    ::waitpid(child, &status, 0);
    const bool there = folder.has("forebay-" + std::to_string(child) + ".json");
    ::_exit(there && folder.names().size() == 2 ? 5 : 6);
  });
  EXPECT_EQ(WEXITSTATUS(death.status), 5);
  EXPECT_EQ(read_snapshot(folder / file_of(death)).value().reason, "signal 7");
}

TEST(CrashHandler, AFaultOfItsOwnIsWhatTheProcessDiesOf) {
  const TestFolder folder;
  const Death death = die([&] {
    install(folder, known_sources());
    g_fsync_faults = true;
    std::abort();
  });
  EXPECT_TRUE(death.by(SIGSEGV)) << death.status;
}

TEST(CrashHandler, OnlyWhatWasAskedForIsHandled) {
  const TestFolder folder;
  const Death death = die([&] {
    CrashOptions crash;
    crash.directory = folder.path();
    crash.on_abort = false;
    if (!install_crash_handler(crash, {}).ok()) ::_exit(8);
    std::abort();
  });
  EXPECT_TRUE(death.by(SIGABRT));
  EXPECT_TRUE(folder.names().empty());
}

TEST(CrashHandler, AFileOfThatNameIsLeftAlone) {
  const TestFolder folder;
  const Death death = die([&] {
    const std::string name = "forebay-" + std::to_string(::getpid());
    folder.write(name + ".json", "old");
    static_cast<void>(::symlink("target", (folder / (name + "-2.json")).c_str()));
    install(folder, {});
    std::abort();
  });
  const std::string name = "forebay-" + std::to_string(death.child);
  EXPECT_EQ(folder.names(),
            (std::vector<std::string>{name + "-2.json", name + "-3.json", name + ".json"}));
  EXPECT_EQ(folder.read(name + ".json"), "old");
  EXPECT_TRUE(read_snapshot(folder / (name + "-3.json")).ok());
}

TEST(CrashHandler, TheFolderThatWasCheckedIsTheOneWrittenTo) {
  const TestFolder folder;
  const Death death = die([&] {
    ::mkdir((folder / "a").c_str(), 0700);
    CrashOptions crash;
    crash.directory = folder / "a";
    if (!install_crash_handler(crash, {}).ok()) ::_exit(8);
    ::rename((folder / "a").c_str(), (folder / "b").c_str());
    static_cast<void>(::chdir("/"));
    std::abort();
  });
  EXPECT_TRUE(read_snapshot(folder / "b" + "/" + file_of(death)).ok());
}

TEST(CrashHandler, AFullDiskLeavesNothing) {
  const TestFolder folder;
  const Death death = die([&] {
    install(folder, known_sources());
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1000, 1000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    std::abort();
  });
  EXPECT_TRUE(death.by(SIGABRT));
  EXPECT_TRUE(folder.names().empty());
}

TEST(CrashHandler, SeesWhatTheTrackerKnows) {
  const TestFolder folder;
  const Death death = die([&] {
    CrashOptions crash;
    crash.directory = folder.path();
    TrackerOptions options;
    options.sample_interval = Bytes{1};  // all of them
    if (!Tracker::set_options(options).ok() || !Timeline::start().ok()) ::_exit(8);
    const auto pool = Pool::create(Device::host(), {.name = "crashed"});
    const TagScope scope{"crash/tag"};
    const Buffer buffer = pool->acquire(Bytes{1 << 20}).value();
    Timeline::mark("the end");
    if (!write_snapshot_on_crash(crash).ok()) ::_exit(9);
    std::abort();
  });
  EXPECT_TRUE(death.by(SIGABRT)) << death.status;
  const Snapshot snapshot = read_file_of(folder, death);
  EXPECT_EQ(snapshot.grade, "sampled");
  ASSERT_EQ(snapshot.blocks.size(), 1U);
  const SnapshotBlock& block = snapshot.blocks[0];
  EXPECT_EQ(block.bytes, 1U << 20);
  EXPECT_EQ(snapshot.tags[block.tag].tag, "crash/tag");
  EXPECT_EQ(snapshot.sources[block.pool], "crashed");
  const auto is_it = [](const SnapshotPool& one) { return one.name == "crashed"; };
  const auto view = std::ranges::find_if(snapshot.pools, is_it);
  ASSERT_NE(view, snapshot.pools.end());
  EXPECT_GE(view->stats.live, Bytes{1 << 20});
  EXPECT_EQ(view->stats.live_blocks, 1U);
  EXPECT_NEAR(block.weight_bytes, 1 << 20, 1);
  ASSERT_NE(block.stack, 0U);
  EXPECT_FALSE(snapshot.stacks[block.stack - 1].empty());
  ASSERT_FALSE(snapshot.events.empty());
  EXPECT_EQ(snapshot.events.back().subject, "the end");
}

// ---- Refusals

// In a process of its own, as the hook is there for good.
void refuse_in(const std::string& directory, const std::function<void(Budget&)>& work) {
  CrashOptions crash;
  crash.directory = directory;
  crash.on_refusal = true;
  if (!write_snapshot_on_crash(crash).ok()) ::_exit(8);
  Budget budget{"refusing", {.limit = Bytes{1 << 20}}};
  work(budget);
}

void wait_for(const std::string& path) {
  while (::access(path.c_str(), F_OK) != 0) std::this_thread::yield();
}

std::string refusal_of_this_process(const TestFolder& folder) {
  return folder / ("forebay-" + std::to_string(::getpid()) + "-refusal.json");
}

TEST(RefusalSnapshot, IsWrittenWhereAReservationIsRefused) {
  const TestFolder folder;
  const Death death = die([&] {
    refuse_in(folder.path(), [&](Budget& budget) {
      if (budget.try_reserve(Bytes{2 << 20}).ok() || !folder.names().empty()) ::_exit(1);
      if (budget.reserve(Bytes{2 << 20}).status().code() != Code::memory_refused) ::_exit(2);
      wait_for(refusal_of_this_process(folder));
      const Result<Snapshot> read = read_snapshot(refusal_of_this_process(folder));
      if (!read.ok() || read->reason != "refusal" || !read->complete) ::_exit(3);
      const auto is_mine = [](const BudgetStats& one) { return one.path == "refusing"; };
      if (std::ranges::none_of(read->budgets, is_mine)) ::_exit(4);
      // Not again within a minute.
      ::unlink(refusal_of_this_process(folder).c_str());
      if (budget.reserve(Bytes{2 << 20}).ok() || !folder.names().empty()) ::_exit(5);
      ::_exit(0);
    });
  });
  EXPECT_EQ(death.status, 0);
}

TEST(RefusalSnapshot, WhatTheRefusedThreadHoldsLockedDoesNotStopItForGood) {
  const TestFolder folder;
  const Death death = die([&] {
    refuse_in(folder.path(), [&](Budget& budget) {
      std::mutex mine;
      const auto collect = [&](std::vector<Statistic>&) {
        const std::lock_guard lock{mine};
        if (budget.reserve(Bytes{2 << 20}).ok()) ::_exit(1);  // the writer's own
      };
      const StatisticsRegistration registration{"cache", "mine", collect};
      {
        const std::lock_guard lock{mine};
        if (budget.reserve(Bytes{2 << 20}).ok()) ::_exit(2);
      }
      wait_for(refusal_of_this_process(folder));
      ::_exit(0);
    });
  });
  EXPECT_EQ(death.status, 0);
}

TEST(RefusalSnapshot, IsNotWantedUnlessAskedFor) {
  const TestFolder folder;
  const Death death = die([&] {
    CrashOptions crash;
    crash.directory = folder.path();
    if (!write_snapshot_on_crash(crash).ok()) ::_exit(8);
    Budget budget{"refusing", {.limit = Bytes{1 << 20}}};
    ::_exit(budget.reserve(Bytes{2 << 20}).ok() || !folder.names().empty() ? 1 : 0);
  });
  EXPECT_EQ(death.status, 0);
}

TEST(RefusalSnapshot, IsWrittenAgainAfterAMinute) {
  const TestFolder folder;
  ManualClock clock;
  const auto writer = RefusalWriter::start(folder.path(), &clock).value();
  const std::string name = refusal_of_this_process(folder);
  for (int i = 0; i < 3; ++i) {
    writer->note();
    wait_for(name);
    std::filesystem::remove(name);
    clock.advance(std::chrono::seconds{59});
    writer->note();
    EXPECT_TRUE(folder.names().empty());
    clock.advance(std::chrono::seconds{1});
  }
  EXPECT_EQ(RefusalWriter::start(folder / "no").status().code(), Code::io_error);
}

TEST(CrashHandler, ABlockWhoseTagIsNotKnownIsOfOther) {
  const TestFolder folder;
  const Death death = die([&] {
    CrashSources from = known_sources();
    from.tags = nullptr;
    from.events = nullptr;
    install(folder, from);
    std::abort();
  });
  const Snapshot snapshot = read_file_of(folder, death);
  ASSERT_EQ(snapshot.tags.size(), 2U);
  EXPECT_EQ(snapshot.tags[snapshot.blocks[0].tag].tag, "(other)");
  EXPECT_EQ(snapshot.tags[snapshot.blocks[1].tag].tag, "");
}

TEST(CrashHandler, TheTrackersLastNumberIsOfOther) {
  std::vector<std::pair<int, std::string>> seen;
  const CrashVisitor<CrashTag> visit{&seen, [](void* to, const CrashTag& tag) {
                                       static_cast<decltype(seen)*>(to)->emplace_back(tag.id,
                                                                                      tag.tag);
                                       return true;
                                     }};
  crash_sources().tags(visit);
  ASSERT_GE(seen.size(), 2U);
  EXPECT_EQ(seen.front(), (std::pair<int, std::string>{0, ""}));
  EXPECT_EQ(seen.back(), (std::pair<int, std::string>{8191, "(other)"}));
}

TEST(CrashHandler, AFolderThatOthersMayHavePreparedIsRefused) {
  const TestFolder folder;
  ASSERT_EQ(::mkdir((folder / "mine").c_str(), 0700), 0);
  ASSERT_EQ(::symlink("mine", (folder / "link").c_str()), 0);
  CrashOptions crash;
  for (const char* const name : {"link", "link/", "link//"}) {
    crash.directory = folder / name;
    const Status status = install_crash_handler(crash, {});
    EXPECT_EQ(status.code(), Code::io_error);
    EXPECT_EQ(status.message(), (folder / "link") + ": is a symbolic link; allowed: a folder");
  }
  if (::geteuid() != 0) GTEST_SKIP() << "only root can make a folder of somebody else's";
  ASSERT_EQ(::chmod((folder / "mine").c_str(), 01777), 0);
  ASSERT_EQ(::chown((folder / "mine").c_str(), 65534, 65534), 0);
  crash.directory = folder / "mine";
  const Status status = install_crash_handler(crash, {});
  EXPECT_EQ(status.code(), Code::io_error);
  EXPECT_NE(status.message().find("anybody may write to it"), std::string::npos);
}

TEST(CrashHandler, ATemporaryNameThatIsTakenIsPassedBy) {
  const TestFolder folder;
  const Death death = die([&] {
    const std::string name = ".forebay-" + std::to_string(::getpid()) + "-crash";
    ::mkdir((folder / (name + ".tmp")).c_str(), 0700);  // cannot be taken away by unlink
    ::mkdir((folder / (name + "-2.tmp")).c_str(), 0700);
    install(folder, {});
    std::abort();
  });
  EXPECT_TRUE(read_snapshot(folder / file_of(death)).ok());
  EXPECT_EQ(folder.names().size(), 3U);
}

TEST(CrashHandler, ABadFolderOrASecondHandlerIsRefused) {
  const TestFolder folder;
  folder.write("file", "");
  const Death death = die([&] {
    CrashOptions crash;
    for (const std::string& bad : {folder / "no", folder / "file"}) {
      crash.directory = bad;
      if (write_snapshot_on_crash(crash).code() != Code::io_error) ::_exit(1);
    }
    crash.directory = folder.path();
    if (!write_snapshot_on_crash(crash).ok()) ::_exit(2);
    if (write_snapshot_on_crash(crash).code() != Code::invalid_argument) ::_exit(3);
    ::_exit(0);
  });
  EXPECT_EQ(death.status, 0);
}

}  // namespace
}  // namespace forebay::detail
