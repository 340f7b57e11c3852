#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>

#include "forebay/telemetry.hpp"
#include "support/failing_new.hpp"
#include "support/folder.hpp"
#include "telemetry/sample_snapshot.hpp"

namespace forebay {
namespace {

using testing::TestFolder;

class Export : public ::testing::TestWithParam<ExportFormat> {
 protected:
  Status write(const std::string& name) {
    return export_snapshot(snapshot_, GetParam(), folder_ / name);
  }

  TestFolder folder_;
  Snapshot snapshot_ = testing::sample_snapshot();
};

TEST_P(Export, FileIsTheOwnersAloneAndNothingElseIsLeft) {
  ASSERT_TRUE(write("out").ok());
  struct stat info {};
  ASSERT_EQ(::stat((folder_ / "out").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777U, 0600U);
  EXPECT_GT(info.st_size, 0);
  EXPECT_EQ(folder_.names(), std::vector<std::string>{"out"});
}

TEST_P(Export, TwiceGivesTheSameBytes) {
  ASSERT_TRUE(write("a").ok());
  ASSERT_TRUE(write("b").ok());
  EXPECT_TRUE(folder_.read("a") == folder_.read("b"));
}

TEST_P(Export, EmptySnapshotIsAFileToo) {
  snapshot_ = Snapshot{};
  ASSERT_TRUE(write("out").ok());
  EXPECT_TRUE(folder_.has("out"));
}

TEST_P(Export, IndicesOfNothingAreTakenForNone) {
  for (auto& block : snapshot_.blocks) block.pool = block.tag = block.stack = 4'000'000'000U;
  for (auto& segment : snapshot_.segments) segment.pool = 4'000'000'000U;
  for (auto& event : snapshot_.events) event.tag = 4'000'000'000U;
  for (auto& stack : snapshot_.stacks) {
    for (auto& frame : stack) frame.module = 4'000'000'000U;
  }
  EXPECT_TRUE(write("out").ok());
}

TEST_P(Export, NumbersAtTheirLimitsAreWritten) {
  for (auto& block : snapshot_.blocks) {
    block.address = UINT64_MAX - 10;
    block.bytes = UINT64_MAX;
    block.weight_bytes = 1e300;
    block.weight_blocks = -1;
  }
  for (auto& segment : snapshot_.segments) segment.bytes = UINT64_MAX;
  for (auto& event : snapshot_.events) {
    event.bytes = UINT64_MAX;
    event.seconds = 1e300;
  }
  for (auto& module : snapshot_.modules) module.base = UINT64_MAX;
  snapshot_.clock_seconds = -1e300;
  snapshot_.sample_interval_bytes = UINT64_MAX;
  EXPECT_TRUE(write("out").ok());
}

TEST_P(Export, MissingFolderIsAnErrorThatNamesIt) {
  const Status status = export_snapshot(snapshot_, GetParam(), folder_ / "none/out");
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.code(), Code::io_error);
  EXPECT_NE(status.message().find("none"), std::string::npos) << status.message();
}

TEST_P(Export, WithoutMemoryTheFileStaysAsItWas) {
  folder_.write("out", "before");
  const std::string path = folder_ / "out";
  std::size_t refused = 0;
  Status status;
  const std::size_t failures = testing::walk_allocation_failures(
      [&] { status = export_snapshot(snapshot_, GetParam(), path); },
      [&] {
        if (status.ok()) {  // sorting can do without memory, but slower
          EXPECT_NE(folder_.read("out").size(), 6U);
          return folder_.write("out", "before");
        }
        ++refused;
        ASSERT_EQ(status.code(), Code::memory_refused) << status.message();
        ASSERT_TRUE(folder_.read("out") == "before");
        ASSERT_EQ(folder_.names(), std::vector<std::string>{"out"});
      });
  EXPECT_GT(refused, 5U);
  EXPECT_LE(failures - refused, 10U);
}

// The largest file that may be written grows from nothing until the export gets through.
TEST_P(Export, FullDiskLeavesTheFileAsItWas) {
  folder_.write("out", "before");
  rlimit old{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  std::size_t failures = 0;
  for (rlim_t most = 0; folder_.read("out") == "before"; most = most * 2 + 7) {
    const rlimit limited{most, old.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limited), 0);
    const Status status = write("out");
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old), 0);
    if (status.ok()) break;
    ++failures;
    ASSERT_EQ(status.code(), Code::io_error) << status.message();
    ASSERT_TRUE(folder_.read("out") == "before");
    ASSERT_EQ(folder_.names(), std::vector<std::string>{"out"});
  }
  std::signal(SIGXFSZ, handler);
  EXPECT_GT(failures, 3U);
  EXPECT_NE(folder_.read("out"), "before");
}

INSTANTIATE_TEST_SUITE_P(Formats, Export,
                         ::testing::Values(ExportFormat::memory_viz,
                                           ExportFormat::memory_viz_pickle, ExportFormat::pprof,
                                           ExportFormat::chrome_trace, ExportFormat::rmm_csv,
                                           ExportFormat::folded));

TEST(ExportFormats, AnUnknownOneIsRefused) {
  const TestFolder folder;
  const Status status = export_snapshot({}, static_cast<ExportFormat>(99), folder / "out");
  EXPECT_EQ(status.code(), Code::invalid_argument);
  EXPECT_TRUE(folder.names().empty());
}

}  // namespace
}  // namespace forebay
