// A process that writes a file again and again, and is killed at any moment.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <new>
#include <random>
#include <string>

#include "support/folder.hpp"

namespace forebay::testing {

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

inline std::uintmax_t size_of_temporary(const TestFolder& folder) {
  for (const std::string& name : folder.names()) {
    struct stat facts {};
    if (name.ends_with(".tmp") && ::stat((folder / name).c_str(), &facts) == 0) {
      return static_cast<std::uintmax_t>(facts.st_size);
    }
  }
  return 0;
}

inline void remove_temporaries(const TestFolder& folder) {
  for (const std::string& name : folder.names()) {
    if (name.ends_with(".tmp")) std::filesystem::remove(folder / name);
  }
}

// A child calls write() until it is killed: when it has written so much of a file of about `size`
// bytes, or a few files. After each, check() looks at what there is. FOREBAY_KILLS kills, or 50.
template <typename Write, typename Check>
void kill_writers(const TestFolder& folder, std::uintmax_t size, Write write, Check check) {
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
      for (;;) {
        if (!write()) ::_exit(1);
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
    check();
    if (::testing::Test::HasFatalFailure()) return;
  }
  EXPECT_GT(cut, 0U) << "no kill fell into a write";
}

}  // namespace forebay::testing
