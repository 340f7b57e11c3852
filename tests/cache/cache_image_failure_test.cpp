// Every allocation, write and rename of a saving or loading is made to fail, and the process is
// killed in the middle: the old file or the new one is there whole, and nothing else.

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>

#include "cache/image_files.hpp"
#include "forebay/cache.hpp"
#include "support/failing_new.hpp"
#include "support/killed_writer.hpp"

namespace {

// What the system is to refuse: the n-th of these calls from now on, with this error.
struct {
  long left = -1;  // never
  int error = 0;
} g_plan;

bool must_fail() noexcept {
  if (g_plan.left < 0 || g_plan.left-- != 0) return false;
  errno = g_plan.error;
  return true;
}

}  // namespace

// This program's, instead of the system library's. Half of what is asked is written: a short
// write is no failure.
// NOLINTBEGIN(readability-inconsistent-declaration-parameter-name)
extern "C" ssize_t write(int file, const void* bytes, size_t count) {
  if (file > 2 && must_fail()) return -1;
  return ::syscall(SYS_write, file, bytes, file > 2 ? (count + 1) / 2 : count);
}
extern "C" int fsync(int file) {
  return must_fail() ? -1 : static_cast<int>(::syscall(SYS_fsync, file));
}
extern "C" int renameat(int from, const char* name, int to, const char* other) noexcept {
  return must_fail() ? -1 : static_cast<int>(::syscall(SYS_renameat, from, name, to, other));
}
extern "C" ssize_t pread(int file, void* bytes, size_t count, off_t at) {
  if (must_fail()) return -1;
  return ::syscall(SYS_pread64, file, bytes, (count + 1) / 2, at);
}
// NOLINTEND(readability-inconsistent-declaration-parameter-name)

namespace forebay {
namespace {

using namespace forebay::literals;
using testing::FailingNew;
using testing::file_bytes;
using testing::TestFolder;

using Texts = Cache<std::string, std::string>;

CacheOptions options() {
  CacheOptions made;
  made.max_bytes = 4_MiB;
  made.shards = 2;
  made.background_expiry = false;
  return made;
}

void fill(Texts& cache, int entries, std::size_t bytes, char what) {
  for (int i = 0; i != entries; ++i) {
    ASSERT_TRUE(cache.put("a key that is long enough to be allocated " + std::to_string(i),
                          std::string(bytes, what), {.ttl = std::chrono::hours{1}}));
  }
}

TEST(CacheImageFailure, OfAnAllocationWhileItIsSavedLeavesTheOldFile) {
  const TestFolder folder;
  Texts cache{options()};
  fill(cache, 20, 100, 'x');
  const std::string path = folder / "cache";
  testing::write_bytes(path, "old");
  bool saved = false;
  const std::size_t failures = testing::walk_allocation_failures(
      [&] {
        const auto result = cache.save(path);
        saved = result.ok();
        EXPECT_TRUE(saved || result.status().code() == Code::memory_refused);
      },
      [&] {
        EXPECT_TRUE(saved || file_bytes(path) == "old");
        EXPECT_EQ(folder.names(), std::vector<std::string>{"cache"});
        EXPECT_EQ(cache.stats().entries, 20U);
        cache.validate();
      });
  EXPECT_GT(failures, 8U);
  EXPECT_TRUE(saved);
  cache.clear();
  EXPECT_EQ(cache.stats().used, 0_B) << "nothing is pinned";
}

TEST(CacheImageFailure, OfAnAllocationWhileItIsLoadedLeavesItEmptyOrWhole) {
  const TestFolder folder;
  const std::string path = folder / "cache";
  {
    Texts cache{options()};
    fill(cache, 20, 100, 'x');
    ASSERT_TRUE(cache.save(path));
  }
  bool done = false;
  std::size_t refused = 0;
  for (std::size_t n = 0; !done; ++n) {
    ASSERT_LT(n, 1000U);
    Texts cache{options()};
    CacheLoaded loaded;
    Status status;
    {
      const FailingNew failure{n};
      const auto result = cache.load(path);
      status = result.status();
      if (result) loaded = *result;
      done = !FailingNew::has_failed();
    }
    refused += status.ok() ? 0 : 1;
    if (!status.ok()) {
      EXPECT_EQ(status.code(), Code::memory_refused) << status.message();
    } else {
      // A put that found no memory for bookkeeping; or it could do without.
      EXPECT_EQ(loaded.loaded + loaded.did_not_fit, 20U);
      EXPECT_LE(loaded.did_not_fit, done ? 0U : 1U);
    }
    EXPECT_EQ(cache.stats().entries, loaded.loaded);
    cache.validate();
    cache.clear();
    EXPECT_TRUE(cache.load(path));
  }
  EXPECT_GT(refused, 4U);
}

TEST(CacheImageFailure, OfAnyCallOfTheSystemWhileItIsSavedLeavesTheOldFile) {
  const TestFolder folder;
  Texts cache{options()};
  fill(cache, 20, 20'000, 'x');
  const std::string path = folder / "cache";
  ASSERT_TRUE(cache.save(path));
  cache.clear();
  fill(cache, 20, 20'000, 'y');
  const std::string old = file_bytes(path);
  long n = 0;
  for (bool saved = false; !saved; ++n) {
    ASSERT_LT(n, 1000);
    g_plan = {n, ENOSPC};
    const auto result = cache.save(path);
    saved = g_plan.left >= 0;
    g_plan = {};
    EXPECT_EQ(folder.names(), std::vector<std::string>{"cache"});
    if (!result) {
      EXPECT_FALSE(saved);
      EXPECT_EQ(result.status().code(), Code::io_error);
      EXPECT_TRUE(result.status().message().starts_with(path + ": cannot ")) << n;
      EXPECT_TRUE(result.status().message().ends_with(": No space left on device"));
      EXPECT_EQ(file_bytes(path), old) << n;
    }
  }
  // Two parts of up to 256 KiB, each in many writes; fsync; rename; the folder's fsync, which may
  // fail.
  EXPECT_GT(n, 30);
  EXPECT_NE(file_bytes(path), old);
}

TEST(CacheImageFailure, OfReadingLeavesTheCacheEmpty) {
  const TestFolder folder;
  const std::string path = folder / "cache";
  Texts cache{options()};
  fill(cache, 20, 50'000, 'x');
  ASSERT_TRUE(cache.save(path));
  cache.clear();
  long n = 0;
  for (bool loaded = false; !loaded; ++n) {
    ASSERT_LT(n, 1000);
    g_plan = {n, EIO};
    const auto result = cache.load(path);
    loaded = g_plan.left >= 0;
    g_plan = {};
    EXPECT_EQ(result.ok(), loaded);
    if (loaded) continue;
    EXPECT_EQ(result.status().message(), path + ": cannot read: Input/output error");
    EXPECT_EQ(cache.stats().entries, 0U);
    EXPECT_EQ(cache.stats().used, 0_B);
  }
  EXPECT_GT(n, 10);
  EXPECT_EQ(cache.stats().entries, 20U);
}

TEST(CacheImageKill, AtAnyMomentLeavesTheOldFileOrTheNewOneWhole) {
  const TestFolder folder;
  const std::string path = folder / "cache";
  Texts cache{options()};
  fill(cache, 200, 15'000, 'a');
  ASSERT_TRUE(cache.save(path));
  testing::kill_writers(
      folder, std::filesystem::file_size(path), [&] { return cache.save(path).ok(); },
      [&] {
        Texts loaded{options()};
        const auto result = loaded.load(path);
        ASSERT_TRUE(result) << result.status().message();
        ASSERT_EQ(result->loaded, 200U);
      });
}

}  // namespace
}  // namespace forebay
