#include "track/event_file.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>

#include "support/failing_new.hpp"
#include "track/event_format.hpp"
#include "track/event_names.hpp"

namespace forebay::detail {
namespace {

TEST(EventNumbers, OfEachLengthComeBackAndTakeABytePerSevenBits) {
  for (unsigned bits = 0; bits <= 64; ++bits) {
    const std::uint64_t most = bits == 0 ? 0 : ~0ULL >> (64 - bits);
    for (const std::uint64_t value : {most, most / 3 * 2, most / 2 + 1}) {
      std::array<std::byte, 24> bytes;
      bytes.fill(std::byte{0xee});
      const std::byte* const end = put_number(bytes.data(), value);
      const std::byte* at = bytes.data();
      EXPECT_EQ(take_number(at), value);
      EXPECT_EQ(at, end);
      const auto width = static_cast<std::ptrdiff_t>(std::bit_width(value | 1));
      EXPECT_EQ(end - bytes.data(), width > 56 ? 9 : (width + 6) / 7) << value;
    }
  }
}

TEST(EventNumbers, SmallDifferencesOfEitherSignAreSmall) {
  for (const std::uint64_t value : {0ULL, 1ULL, 63ULL, ~0ULL, ~0ULL - 62, 1ULL << 63}) {
    EXPECT_EQ(to_difference(from_difference(value)), value);
  }
  EXPECT_LT(from_difference(0ULL - 60), 128U);
  EXPECT_LT(from_difference(60), 128U);
}

std::uint64_t hash_of(std::string_view text) {
  return checksum_of(reinterpret_cast<const std::byte*>(text.data()), text.size(), 0);
}

// The first three and the last from the specification's own tests and widely known values.
TEST(EventChecksum, IsXxh64) {
  EXPECT_EQ(hash_of(""), 0xEF46DB3751D8E999);
  EXPECT_EQ(hash_of("a"), 0xD24EC4F1A98C6E5B);
  EXPECT_EQ(hash_of("abc"), 0x44BC2CF5AD770999);
  EXPECT_EQ(hash_of("The quick brown fox jumps over the lazy dog"), 0x0B242D361FDA71BC);
}

constexpr EventNames kNoNames{[]() noexcept -> StackId { return 0; },
                              [](StackId) noexcept { return std::span<const std::uintptr_t>{}; },
                              []() noexcept -> ContextId { return 1; }, &name_of,
                              [](std::uintptr_t) { return std::string{}; }};

class EventFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = std::filesystem::temp_directory_path() / "forebay_event_file_XXXXXX";
    folder_ = ::mkdtemp(name.data());
  }
  void TearDown() override {
    EXPECT_TRUE(close_event_file().ok());
    std::filesystem::remove_all(folder_);
  }
  std::string file(const char* name) const { return folder_ / name; }

  std::filesystem::path folder_;
};

TEST_F(EventFileTest, IsNewAndForItsOwnerAlone) {
  const ::mode_t before = ::umask(0);
  ASSERT_TRUE(open_event_file(file("events"), kNoNames).ok());
  ::umask(before);
  struct stat info {};
  ASSERT_EQ(::stat(file("events").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600U);
}

TEST_F(EventFileTest, OfAnotherIsNotOverwritten) {
  ASSERT_TRUE(open_event_file(file("events"), kNoNames).ok());
  ASSERT_TRUE(close_event_file().ok());
  const auto size = std::filesystem::file_size(file("events"));
  const Status again = open_event_file(file("events"), kNoNames);
  EXPECT_EQ(again.code(), Code::io_error);
  EXPECT_EQ(again.message(), file("events") + ": cannot make it new: File exists");
  EXPECT_EQ(std::filesystem::file_size(file("events")), size);
  EXPECT_FALSE(event_file_is_open());
}

TEST_F(EventFileTest, IsNotWrittenThroughALink) {
  std::filesystem::create_symlink(file("target"), file("link"));
  EXPECT_EQ(open_event_file(file("link"), kNoNames).code(), Code::io_error);
  EXPECT_FALSE(std::filesystem::exists(file("target")));
}

TEST_F(EventFileTest, IsOneAtATime) {
  ASSERT_TRUE(open_event_file(file("events"), kNoNames).ok());
  EXPECT_TRUE(event_file_is_open());
  EXPECT_EQ(open_event_file(file("other"), kNoNames).code(), Code::invalid_argument);
  EXPECT_FALSE(std::filesystem::exists(file("other")));
  EXPECT_TRUE(close_event_file().ok());
  EXPECT_FALSE(event_file_is_open());
  EXPECT_TRUE(open_event_file(file("other"), kNoNames).ok());
}

TEST_F(EventFileTest, ThatCannotBeMadeSaysWhy) {
  const Status status = open_event_file(file("no/such/folder"), kNoNames);
  EXPECT_EQ(status.code(), Code::io_error);
  EXPECT_NE(status.message().find("No such file or directory"), std::string::npos);
}

TEST_F(EventFileTest, ThatCannotTakeItsFirstChunkIsNotLeftBehind) {
  EXPECT_EQ(open_event_file(file("events"), kNoNames, 10).code(), Code::io_error);
  EXPECT_FALSE(std::filesystem::exists(file("events")));
  EXPECT_FALSE(event_file_is_open());
}

TEST_F(EventFileTest, WithoutAFileBlocksHaveNoNumber) {
  EXPECT_EQ(record_allocate(100, 0, 0).thread, 0);
  record_free({});
  ASSERT_TRUE(open_event_file(file("events"), kNoNames).ok());
  const BlockNumber first = record_allocate(100, 0, 0);
  EXPECT_NE(first.thread, 0);
  EXPECT_EQ(record_allocate(100, 0, 0).number, first.number + 1);
  record_free({});  // of no file: no event
  EXPECT_EQ(events_recorded(), 2U);
  ASSERT_TRUE(close_event_file().ok());
  EXPECT_EQ(record_allocate(100, 0, 0).thread, 0);
  EXPECT_EQ(events_recorded(), 2U);
  EXPECT_EQ(events_dropped(), 0U);
}

// Two stacks, so that closing has functions to name.
constexpr std::array<std::uintptr_t, 2> kFrames{0x1000, 0x2000};
constexpr EventNames kTwoStacks{
    []() noexcept -> StackId { return 2; },
    [](StackId id) noexcept { return std::span{kFrames}.subspan(id - 1, 1); },
    kNoNames.contexts_used, kNoNames.name_of, [](std::uintptr_t) { return std::string(100, 'f'); }};

TEST_F(EventFileTest, MemoryThatIsRefusedLeavesAllAsItWas) {
  bool opened = false;
  const std::string path = file("a folder, so long that its name is not kept in place");
  std::filesystem::create_directory(path);
  const std::size_t failures = testing::walk_allocation_failures(
      [&] {
        try {
          opened = open_event_file(path + "/events", kTwoStacks).ok();
          record_free(record_allocate(1, 0, 2));
          EXPECT_TRUE(close_event_file().ok());
        } catch (const std::bad_alloc&) {
          opened = false;
        }
      },
      [&] {
        EXPECT_FALSE(event_file_is_open());
        EXPECT_EQ(std::filesystem::exists(path + "/events"), opened);
        std::filesystem::remove(path + "/events");
      });
  EXPECT_TRUE(opened);
  EXPECT_GE(failures, 4U);
}

TEST_F(EventFileTest, NumbersAreNotGivenTwiceInAProcess) {
  ASSERT_TRUE(open_event_file(file("a"), kNoNames).ok());
  const BlockNumber one = record_allocate(1, 0, 0);
  ASSERT_TRUE(close_event_file().ok());
  ASSERT_TRUE(open_event_file(file("b"), kNoNames).ok());
  const BlockNumber two = record_allocate(1, 0, 0);
  EXPECT_EQ(two.thread, one.thread);
  EXPECT_GT(two.number, one.number);
}

}  // namespace
}  // namespace forebay::detail
