// A writer that is killed at any point leaves the old file or the new one, and each whole.
#include <gtest/gtest.h>

#include <filesystem>

#include "support/killed_writer.hpp"
#include "telemetry/snapshot_samples.hpp"

namespace forebay {
namespace {

using testing::TestFolder;

constexpr std::size_t kBlocks = 20'000;

TEST(SnapshotKill, TheFileIsAlwaysTheOldOneOrTheNewOneWhole) {
  const TestFolder folder;
  const std::string path = folder / "memory.json";
  Snapshot snapshot = testing::large_snapshot(kBlocks, 500);
  snapshot.pid = 0;
  ASSERT_TRUE(write_snapshot(snapshot, path).ok());
  testing::kill_writers(
      folder, std::filesystem::file_size(path),
      [&] {
        ++snapshot.pid;
        return write_snapshot(snapshot, path).ok();
      },
      [&] {
        const Result<Snapshot> read = read_snapshot(path);
        ASSERT_TRUE(read.ok()) << read.status().message();
        ASSERT_EQ(read->blocks.size(), kBlocks);
      });
}

}  // namespace
}  // namespace forebay
