#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "forebay/governor.hpp"
#include "governor/fake_tree.hpp"

namespace forebay {
namespace {

using namespace forebay::literals;
using testing::FakeTree;

Bytes pages(std::uint64_t count) {
  return Bytes{static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE))} * count;
}

MemoryReading read(const FakeTree& tree) {
  return PressureMonitor{{.root = tree.root()}}.read().value();
}

TEST(PressureMonitor, ReadsProcessAndMachine) {
  FakeTree tree;
  const MemoryReading reading = read(tree.process());
  EXPECT_EQ(reading.resident, pages(300));
  EXPECT_EQ(reading.resident_anonymous, pages(200));
  EXPECT_EQ(reading.resident_peak, 4_MiB);
  EXPECT_EQ(reading.machine_total, 8_GiB);
  EXPECT_EQ(reading.machine_available, 4_GiB);
}

TEST(PressureMonitor, PeakIsNeverBelowWhatIsResident) {
  FakeTree tree;
  tree.process().file("proc/self/status", "VmHWM:\t 4 kB\n");
  EXPECT_EQ(read(tree).resident_peak, pages(300));
  tree.file("proc/self/status", "Name:\tno peak here\n");
  EXPECT_EQ(read(tree).resident_peak, pages(300));
}

TEST(PressureMonitor, SharedPagesAheadOfResidentOnesLeaveNoneAnonymous) {
  FakeTree tree;
  tree.process().file("proc/self/statm", "1000 300 301 50 0 200 0\n");
  EXPECT_EQ(read(tree).resident_anonymous, Bytes{});
}

TEST(PressureMonitor, OldKernelsOfferFreeMemoryForAvailable) {
  FakeTree tree;
  tree.process().file("proc/meminfo", "MemTotal: 8388608 kB\nMemFree: 1048576 kB\n");
  EXPECT_EQ(read(tree).machine_available, 1_GiB);
}

TEST(PressureMonitor, WithoutProcItIsUnsupportedAndNothingIsLimited) {
  FakeTree tree;
  const PressureMonitor monitor{{.root = tree.root()}};
  const auto reading = monitor.read();
  ASSERT_FALSE(reading.ok());
  EXPECT_EQ(reading.status().code(), Code::unsupported);
  EXPECT_EQ(reading.status().message(),
            "cannot tell the process's memory from " + (tree.root() / "proc/self/statm").string());
  EXPECT_EQ(monitor.allowed(), Bytes::unlimited());
}

TEST(PressureMonitor, GarbageInProcIsUnsupported) {
  for (const std::string_view statm :
       {"", "1000", "1000 300", "1000 many 100", "1000 99999999999999999999 1",
        "1000 18446744073709551615 1"}) {
    SCOPED_TRACE(statm);
    FakeTree tree;
    tree.process().file("proc/self/statm", statm);
    EXPECT_EQ((PressureMonitor{{.root = tree.root()}}.read().status().code()), Code::unsupported);
  }
  for (const std::string_view meminfo :
       {"", "MemTotal:", "MemTotal: lots kB\nMemAvailable: 1 kB\n",
        "MemTotal: 18446744073709551615 kB\nMemAvailable: 1 kB\n", "MemTotal: 1 kB\n"}) {
    SCOPED_TRACE(meminfo);
    FakeTree tree;
    tree.process().file("proc/meminfo", meminfo);
    EXPECT_EQ((PressureMonitor{{.root = tree.root()}}.read().status().code()), Code::unsupported);
  }
}

TEST(PressureMonitor, ReadsAfreshEachTime) {
  FakeTree tree;
  const PressureMonitor monitor{{.root = tree.process().root()}};
  const PressureMonitor copy = monitor;
  ASSERT_EQ(monitor.read().value().resident, pages(300));
  tree.file("proc/self/statm", "1000 301 100 50 0 200 0\n");
  EXPECT_EQ(monitor.read().value().resident, pages(301));
  EXPECT_EQ(copy.read().value().resident, pages(301));
}

TEST(PressureMonitor, RefusesAnEndlessFile) {
  FakeTree tree;
  tree.process();
  std::filesystem::remove(tree.root() / "proc/meminfo");
  std::filesystem::create_symlink("/dev/zero", tree.root() / "proc/meminfo");
  EXPECT_EQ((PressureMonitor{{.root = tree.root()}}.read().status().code()), Code::unsupported);
}

// The kernel may be up to 86 pages (344 KiB) behind while a process faults pages in.
constexpr Bytes kLag = 1_MiB;

TEST(PressureMonitor, ResidentRisesWhenMemoryIsTouchedAndFallsWhenItIsGivenBack) {
  const PressureMonitor monitor;
  const std::size_t size = 64ULL << 20;
  void* const block =
      ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(block, MAP_FAILED);
  const MemoryReading before = monitor.read().value();
  std::memset(block, 1, size);
  const MemoryReading touched = monitor.read().value();
  ::munmap(block, size);
  const MemoryReading after = monitor.read().value();

  EXPECT_GE(touched.resident + kLag, before.resident + Bytes{size});
  EXPECT_GE(touched.resident_anonymous + kLag, before.resident_anonymous + Bytes{size});
  EXPECT_GE(touched.resident_peak, touched.resident);
  EXPECT_LE(after.resident + Bytes{size}, touched.resident + kLag);
  EXPECT_GE(after.resident_peak + kLag, touched.resident);
}

TEST(PressureMonitor, ThisMachineMakesSense) {
  const MemoryReading reading = PressureMonitor{}.read().value();
  EXPECT_GT(reading.resident, Bytes{});
  EXPECT_LE(reading.resident, reading.machine_total);
  EXPECT_LE(reading.machine_available, reading.machine_total);
  EXPECT_LE(PressureMonitor{}.allowed(), reading.machine_total);
}

MemoryReading machine_of(Bytes total, std::optional<Bytes> cgroup = std::nullopt) {
  MemoryReading reading;
  reading.machine_total = total;
  reading.cgroup_limit = cgroup;
  return reading;
}

TEST(ChooseLine, TakesWhatIsWantedWhereItFits) {
  const LineChoice choice = choose_line(7_GiB, machine_of(8_GiB));
  EXPECT_EQ(choice.line, 7_GiB);
  EXPECT_EQ(choice.allowed, 8_GiB);
  EXPECT_EQ(choice.reason, "7 GiB as asked");
}

TEST(ChooseLine, TheMachineIsTheLineWhereItHasLess) {
  const LineChoice choice = choose_line(36_GiB, machine_of(10_GiB));
  EXPECT_EQ(choice.line, 10_GiB);
  EXPECT_EQ(choice.reason, "the machine's 10 GiB; 36 GiB asked");
}

TEST(ChooseLine, TheCgroupsLimitIsTheLineWhereThatIsLess) {
  const LineChoice choice = choose_line(36_GiB, machine_of(10_GiB, 512_MiB));
  EXPECT_EQ(choice.line, 512_MiB);
  EXPECT_EQ(choice.allowed, 512_MiB);
  EXPECT_EQ(choice.reason, "the cgroup's limit of 512 MiB; 36 GiB asked");
}

TEST(ChooseLine, ACgroupAboveTheMachineDoesNotMatter) {
  EXPECT_EQ(choose_line(36_GiB, machine_of(10_GiB, 64_GiB)).allowed, 10_GiB);
}

TEST(ChooseLine, AnUnknownMachineSetsNoBound) {
  EXPECT_EQ(choose_line(36_GiB, MemoryReading{}).line, 36_GiB);
  EXPECT_EQ(choose_line(Bytes::unlimited(), MemoryReading{}).line, Bytes::unlimited());
}

TEST(ChooseShare, TakesTheShareWhereItIsBelowTheMost) {
  const LineChoice choice = choose_share(0.8, machine_of(10_GiB), 36_GiB);
  EXPECT_EQ(choice.line, 8_GiB);
  EXPECT_EQ(choice.reason, "8 GiB, which is 80 % of the machine's 10 GiB");
  EXPECT_EQ(choose_share(0.8, machine_of(10_GiB, 5_GiB), 36_GiB).reason,
            "4 GiB, which is 80 % of the cgroup's limit of 5 GiB");
}

TEST(ChooseShare, TakesTheMostWhereTheMachineHasPlenty) {
  const LineChoice choice = choose_share(0.8, machine_of(64_GiB), 36_GiB);
  EXPECT_EQ(choice.line, 36_GiB);
  EXPECT_EQ(choice.reason, "36 GiB by default");
}

TEST(ChooseShareDeathTest, AFractionOfNoMeaningIsABug) {
  EXPECT_DEATH(choose_share(0.0, MemoryReading{}), "fraction");
  EXPECT_DEATH(choose_share(1.5, MemoryReading{}), "fraction");
}

TEST(PressureMonitor, ResidencyAloneIsWhatAFullReadSays) {
  FakeTree tree;
  tree.file("proc/self/statm", "1000 300 100 10 0 200 0\n");
  tree.file("proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\n");
  const PressureMonitor monitor{{.root = tree.root()}};
  const auto alone = monitor.residency();
  const auto whole = monitor.read();
  ASSERT_TRUE(alone.ok() && whole.ok());
  EXPECT_EQ(alone->total, whole->resident);
  EXPECT_EQ(alone->anonymous, whole->resident_anonymous);
  EXPECT_EQ(alone->total, Bytes{300ULL * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE))});
}

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST(HeapInUse, FollowsWhatMallocHandsOut) {
  const Bytes before = *heap_in_use();
  const std::vector<char> block(8 << 20);
  EXPECT_GE(*heap_in_use(), before + 8_MiB);
}
#endif

}  // namespace
}  // namespace forebay
