// Files that are damaged, cut, foreign or made to deceive: each is refused whole, with the place
// and the reason, and the cache stays empty.

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>

#include "cache/image_files.hpp"
#include "forebay/cache.hpp"
#include "support/folder.hpp"

namespace forebay {
namespace {

using namespace forebay::literals;
using testing::TestFolder;
using testing::with_checksums;
using testing::write_bytes;

using Texts = Cache<int, std::string>;

constexpr std::size_t kFirst = sizeof(detail::ImageHeader) + 11;  // "i32 to text"
constexpr std::size_t kRecord = sizeof(detail::ImageRecord);

class CacheImageHostile : public ::testing::Test {
 protected:
  CacheImageHostile() {
    EXPECT_TRUE(cache_.put(1, "one", {.ttl = std::chrono::hours{1}}));
    EXPECT_TRUE(cache_.put(2, "two"));
    EXPECT_TRUE(cache_.save(path_));
    good_ = testing::file_bytes(path_);
    cache_.clear();
  }

  static CacheOptions options() {
    CacheOptions options;
    options.max_bytes = 64_KiB;
    options.shards = 1;
    options.background_expiry = false;
    return options;
  }
  // What loading these bytes is refused with; ok if it is not.
  Status load(const std::string& bytes) {
    write_bytes(path_, bytes);
    const auto result = cache_.load(path_);
    if (result) {
      cache_.clear();
      return {};
    }
    EXPECT_EQ(cache_.stats().entries, 0U);
    EXPECT_EQ(cache_.stats().used, 0_B);
    EXPECT_EQ(result.status().message().find('\n'), std::string::npos);
    return result.status();
  }
  template <typename T>
  std::string with(std::size_t at, T value) const {
    std::string bytes = good_;
    std::memcpy(bytes.data() + at, &value, sizeof value);
    return bytes;
  }
  void expect_refused(const std::string& bytes, const std::string& why) {
    const Status status = load(bytes);
    EXPECT_EQ(status.code(), Code::corrupt_data);
    EXPECT_EQ(status.message(), path_ + ": " + why);
  }

  const TestFolder folder_;
  const std::string path_ = folder_ / "cache";
  Texts cache_{options()};
  std::string good_;
};

TEST_F(CacheImageHostile, AByteThatChangedAnywhere) {
  ASSERT_TRUE(load(good_).ok());
  for (std::size_t at = 0; at != good_.size(); ++at) {
    for (const unsigned flip : {0x01U, 0x10U, 0x80U, 0xffU}) {
      std::string bytes = good_;
      bytes[at] = static_cast<char>(static_cast<unsigned char>(bytes[at]) ^ flip);
      const Status status = load(bytes);
      EXPECT_EQ(status.code(), Code::corrupt_data) << at;
      EXPECT_TRUE(status.message().starts_with(path_ + ": at byte ")) << status.message();
    }
  }
}

TEST_F(CacheImageHostile, AnEndAnywhere) {
  for (std::size_t length = 0; length != good_.size(); ++length) {
    EXPECT_EQ(load(good_.substr(0, length)).code(), Code::corrupt_data) << length;
  }
  expect_refused("", "at byte 0: the header needs 40 bytes, and the file ends after 0");
  expect_refused(good_.substr(0, kFirst + 10), "at byte " + std::to_string(kFirst) +
                                                   ": a record needs 56 bytes, and the file ends "
                                                   "after 10");
  expect_refused(good_ + "x", "at byte " + std::to_string(good_.size()) +
                                  ": 1 bytes behind the end, and none are expected");
}

TEST_F(CacheImageHostile, OtherFormatsVersionsAndTypes) {
  expect_refused(
      "{\"a\": [1, 2, 3], \"b\": \"and more of the same\"}",
      "at byte 0: '{\"a\": [1' is found, and '\\x89FBCACHE' is how a saved cache begins");
  expect_refused(with_checksums(with(offsetof(detail::ImageHeader, version), std::uint32_t{7})),
                 "at byte 8: it has version 7 of the format, and 1 is expected");
  write_bytes(path_, good_);
  Cache<std::uint32_t, std::string> other{options()};
  EXPECT_EQ(other.load(path_).status().message(),
            path_ + ": at byte 40: it holds 'i32 to text', and 'u32 to text' is expected");
}

TEST_F(CacheImageHostile, LengthsThatTheFileDoesNotHave) {
  const std::uint64_t huge = 1ULL << 60;
  const std::size_t key = kFirst + offsetof(detail::ImageRecord, key_length);
  const std::size_t value = kFirst + offsetof(detail::ImageRecord, value_length);
  const std::string left = std::to_string(good_.size() - kFirst - kRecord);
  const std::string at = "at byte " + std::to_string(kFirst) + ": ";
  expect_refused(with(key, huge), at +
                                      "a key of 1152921504606846976 bytes and a value of 3, and "
                                      "the file has " +
                                      left + " more");
  expect_refused(with(value, ~0ULL), at +
                                         "a key of 4 bytes and a value of 18446744073709551615, "
                                         "and the file has " +
                                         left + " more");
  expect_refused(with(offsetof(detail::ImageHeader, type_length), ~std::uint32_t{0}),
                 "at byte 12: the name of its types has 4294967295 bytes, and at most 4096 are "
                 "allowed");
}

// Lies with the checksums that belong to them.
TEST_F(CacheImageHostile, WhatSomebodyWroteOnPurpose) {
  const auto lie = [&](std::size_t record, std::size_t field, auto value) {
    return with_checksums(with(record + field, value));
  };
  const std::size_t second = kFirst + kRecord + 4 + 3;
  const std::size_t end = second + kRecord + 4 + 3;
  const std::string at_end = "at byte " + std::to_string(end) + ": ";
  const std::string at_first = "at byte " + std::to_string(kFirst) + ": ";
  expect_refused(lie(end, offsetof(detail::ImageRecord, key_length), std::uint64_t{3}),
                 at_end + "the end speaks of 3 entries, and 2 are there");
  expect_refused(lie(end, offsetof(detail::ImageRecord, kind), std::uint32_t{3}),
                 at_end + "a record of kind 3, and 1 (entry) or 2 (end) are expected");
  expect_refused(lie(kFirst, offsetof(detail::ImageRecord, remaining), std::int64_t{-1}),
                 at_first + "an entry with -1 ns to live, and at least 0 are allowed");
  // A byte of the key is the value's now.
  good_ = with(kFirst + offsetof(detail::ImageRecord, key_length), std::uint64_t{3});
  expect_refused(lie(kFirst, offsetof(detail::ImageRecord, value_length), std::uint64_t{4}),
                 at_first + "key: 3 bytes for a i32");
  good_ = with(kFirst + offsetof(detail::ImageRecord, key_length), std::uint64_t{4});
  // Charges that no cache can have fit nowhere; deadlines beyond all time are the longest there is.
  EXPECT_TRUE(load(lie(kFirst, offsetof(detail::ImageRecord, charge), ~std::uint64_t{0})).ok());
  EXPECT_TRUE(load(lie(second, offsetof(detail::ImageRecord, charge), std::uint64_t{0})).ok());
  EXPECT_TRUE(load(lie(kFirst, offsetof(detail::ImageRecord, remaining),
                       std::numeric_limits<std::int64_t>::max()))
                  .ok());
  EXPECT_TRUE(load(with_checksums(with(offsetof(detail::ImageHeader, overhead), ~0ULL))).ok());
  EXPECT_TRUE(load(with_checksums(with(offsetof(detail::ImageHeader, saved_at),
                                       std::numeric_limits<std::int64_t>::min())))
                  .ok());
  // The same key twice: the first one counts.
  write_bytes(path_, with_checksums(with(second + kRecord, 1)));
  const auto twice = cache_.load(path_);
  ASSERT_TRUE(twice);
  EXPECT_EQ(twice->present, 1U);
}

TEST_F(CacheImageHostile, PathsThatAreNoFile) {
  EXPECT_EQ(cache_.load(folder_ / "none").status().code(), Code::not_found);
  EXPECT_EQ(cache_.load(folder_ / "none").status().message(),
            (folder_ / "none") + ": no such file");
  EXPECT_EQ(cache_.load(folder_.path()).status().code(), Code::invalid_argument);
  ASSERT_EQ(::mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(cache_.load(folder_ / "pipe").status().code(), Code::invalid_argument);
  EXPECT_EQ(cache_.save(folder_ / "pipe").status().code(), Code::invalid_argument);
  EXPECT_EQ(cache_.save(folder_ / "no/file").status().code(), Code::io_error);
  EXPECT_EQ(cache_.save("/dev/full").status().code(), Code::invalid_argument);
  EXPECT_EQ(cache_.stats().entries, 0U);
}

}  // namespace
}  // namespace forebay
