#include "base/atomic_file.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <string>

#include "support/folder.hpp"

namespace forebay::detail {
namespace {

using testing::TestFolder;

Status write_file(const std::string& path, std::string_view content) {
  Result<AtomicFile> file = AtomicFile::create(path);
  if (!file.ok()) return file.status();
  if (Status status = file->write(content); !status.ok()) return status;
  return file->commit();
}

TEST(AtomicFile, IsThereWithItsContentOnceCommitted) {
  const TestFolder folder;
  Result<AtomicFile> file = AtomicFile::create(folder / "a");
  ASSERT_TRUE(file.ok()) << file.status().message();
  ASSERT_TRUE(file->write("one ").ok());
  ASSERT_TRUE(file->write(std::string(1 << 20, 'x')).ok());
  EXPECT_FALSE(folder.has("a"));
  ASSERT_TRUE(file->commit().ok());
  EXPECT_EQ(folder.read("a"), "one " + std::string(1 << 20, 'x'));
  EXPECT_EQ(folder.names(), std::vector<std::string>{"a"});
}

TEST(AtomicFile, IsForItsOwnerAlone) {
  const TestFolder folder;
  ASSERT_TRUE(write_file(folder / "a", "x").ok());
  struct stat facts {};
  ASSERT_EQ(::stat((folder / "a").c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0600U);
}

TEST(AtomicFile, LeavesWhatWasThereIfItIsNotCommitted) {
  const TestFolder folder;
  ASSERT_TRUE(write_file(folder / "a", "old").ok());
  {
    Result<AtomicFile> file = AtomicFile::create(folder / "a");
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE(file->write("new").ok());
  }
  EXPECT_EQ(folder.read("a"), "old");
  EXPECT_EQ(folder.names(), std::vector<std::string>{"a"});
}

TEST(AtomicFile, RefusesALinkAndNeverFollowsOne) {
  const TestFolder folder;
  ASSERT_TRUE(write_file(folder / "target", "old").ok());
  ASSERT_EQ(::symlink("target", (folder / "link").c_str()), 0);
  const Status status = write_file(folder / "link", "new");
  EXPECT_EQ(status.code(), Code::invalid_argument);
  EXPECT_EQ(
      status.message(),
      "'" + (folder / "link") + "' is a symbolic link; allowed: the path of a new or regular file");
  Result<AtomicFile> file = AtomicFile::create(folder / "late");
  ASSERT_TRUE(file.ok());
  ASSERT_EQ(::symlink("target", (folder / "late").c_str()), 0);
  ASSERT_TRUE(file->write("new").ok());
  ASSERT_TRUE(file->commit().ok());
  EXPECT_EQ(folder.read("late"), "new");
  EXPECT_EQ(folder.read("target"), "old");
  struct stat facts {};
  ASSERT_EQ(::lstat((folder / "link").c_str(), &facts), 0);
  EXPECT_TRUE(S_ISLNK(facts.st_mode));
}

TEST(AtomicFile, RefusesWhatIsNoPathOfAFile) {
  const TestFolder folder;
  ASSERT_EQ(::mkdir((folder / "d").c_str(), 0700), 0);
  ASSERT_EQ(::mkfifo((folder / "f").c_str(), 0600), 0);
  for (const std::string& path :
       {std::string{}, folder / "", folder / "..", folder / "d", folder / "f",
        std::string{"/dev/null"}, (folder / "a") + std::string(1, '\0')}) {
    const Status status = write_file(path, "x");
    EXPECT_EQ(status.code(), Code::invalid_argument) << path << ": " << status.message();
    EXPECT_EQ(status.message().find('\n'), std::string::npos);
  }
  EXPECT_EQ(write_file(folder / "no/a", "x").code(), Code::io_error);
  EXPECT_EQ(write_file(folder / std::string(300, 'n'), "x").code(), Code::io_error);
  EXPECT_EQ(folder.names(), (std::vector<std::string>{"d", "f"}));
}

TEST(AtomicFile, AFailedRenameTakesTheTemporaryAway) {
  const TestFolder folder;
  Result<AtomicFile> file = AtomicFile::create(folder / "a");
  ASSERT_TRUE(file.ok());
  ASSERT_EQ(::mkdir((folder / "a").c_str(), 0700), 0);
  EXPECT_EQ(file->commit().code(), Code::io_error);
  *file = AtomicFile::create(folder / "b").value();
  EXPECT_EQ(folder.names().size(), 2U) << "the folder, and the one that is being written";
}

// The system refuses bytes beyond a limit: as a full disk does.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t most) {
    std::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{most, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() { ::setrlimit(RLIMIT_FSIZE, &before_); }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
};

TEST(AtomicFile, AFullDiskLeavesTheOldFileAndNothingElse) {
  const TestFolder folder;
  ASSERT_TRUE(write_file(folder / "a", "old").ok());
  const std::string content(1 << 20, 'x');
  for (const std::size_t room : {std::size_t{0}, std::size_t{1}, std::size_t{4096},
                                 std::size_t{300'000}, content.size() - 1}) {
    const FileSizeLimit limit{room};
    const Status status = write_file(folder / "a", content);
    EXPECT_EQ(status.code(), Code::io_error);
    EXPECT_EQ(folder.read("a"), "old");
    EXPECT_EQ(folder.names(), std::vector<std::string>{"a"});
  }
  const FileSizeLimit limit{content.size()};
  EXPECT_TRUE(write_file(folder / "a", content).ok());
}

}  // namespace
}  // namespace forebay::detail
