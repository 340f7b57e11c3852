// A writer that is killed at any point leaves the old file or the new one, and each whole.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <new>
#include <random>

#include "support/folder.hpp"
#include "telemetry/snapshot_samples.hpp"

namespace forebay {
namespace {

using testing::TestFolder;

constexpr std::size_t kBlocks = 20'000;

// Shared with the child: how many files it has finished.
class SharedCount {
 public:
  SharedCount()
      : count_(new (::mmap(nullptr, sizeof(std::atomic<int>), PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS, -1, 0)) std::atomic<int>{0}) {}
  ~SharedCount() { ::munmap(count_, sizeof *count_); }
  SharedCount(const SharedCount&) = delete;
  SharedCount& operator=(const SharedCount&) = delete;
  std::atomic<int>& operator*() { return *count_; }

 private:
  std::atomic<int>* count_;
};

std::uintmax_t size_of_temporary(const TestFolder& folder) {
  for (const std::string& name : folder.names()) {
    struct stat facts {};
    if (name.ends_with(".tmp") && ::stat((folder / name).c_str(), &facts) == 0) {
      return static_cast<std::uintmax_t>(facts.st_size);
    }
  }
  return 0;
}

void remove_temporaries(const TestFolder& folder) {
  for (const std::string& name : folder.names()) {
    if (name.ends_with(".tmp")) std::filesystem::remove(folder / name);
  }
}

TEST(SnapshotKill, TheFileIsAlwaysTheOldOneOrTheNewOneWhole) {
  const TestFolder folder;
  const std::string path = folder / "memory.json";
  Snapshot snapshot = testing::large_snapshot(kBlocks, 500);
  snapshot.pid = 0;
  ASSERT_TRUE(write_snapshot(snapshot, path).ok());
  const std::uintmax_t size = std::filesystem::file_size(path);
  const char* const asked = std::getenv("FOREBAY_KILLS");
  const int kills = asked != nullptr ? std::atoi(asked) : 50;
  std::mt19937_64 random{7};
  std::size_t cut = 0;
  for (int kill = 0; kill < kills; ++kill) {
    SharedCount finished;
    // Written this far, or finished so often: beyond the size, the next file begins.
    const std::uintmax_t point = random() % (size + size / 4);
    const pid_t child = ::fork();
    ASSERT_NE(child, -1);
    if (child == 0) {
      for (snapshot.pid = 1;; ++snapshot.pid) {
        if (!write_snapshot(snapshot, path).ok()) ::_exit(1);
        (*finished).fetch_add(1);
      }
    }
    while (size_of_temporary(folder) < point && (*finished).load() < 3) {
    }
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the writer failed";
    cut += size_of_temporary(folder) > 0 ? 1 : 0;
    remove_temporaries(folder);
    const Result<Snapshot> read = read_snapshot(path);
    ASSERT_TRUE(read.ok()) << read.status().message();
    ASSERT_EQ(read->blocks.size(), kBlocks);
  }
  EXPECT_GT(cut, 0U) << "no kill fell into a write";
}

}  // namespace
}  // namespace forebay
