#include "trace/cache_reader.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <thread>

#ifdef FOREBAY_TEST_ZSTD
#include <zstd.h>
#endif

#include "trace/cache_traces.hpp"

namespace forebay::trace {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::vector<std::uint64_t> keys_of(const ReadRequests& read) {
  std::vector<std::uint64_t> keys;
  for (const CacheRequest& request : read.requests) keys.push_back(request.key);
  return keys;
}

void expect_error(std::string_view text, std::string_view begins, std::string_view has = "") {
  const ReadRequests read = requests_of(text);
  EXPECT_FALSE(read.status.ok()) << text;
  EXPECT_THAT(read.status.message(), StartsWith(std::string{begins}));
  EXPECT_THAT(read.status.message(), HasSubstr(std::string{has}));
}

TEST(CacheReader, ReadsCsvWithAndWithoutAHeader) {
  const ReadRequests plain = requests_of("0,7,100\n1.5,8,200,12.5\r\n\n1e3, 7 ,100\n");
  ASSERT_TRUE(plain.status.ok()) << plain.status.message();
  ASSERT_EQ(keys_of(plain), (std::vector<std::uint64_t>{7, 8, 7}));
  EXPECT_EQ(plain.requests[1].bytes, 200U);
  EXPECT_EQ(plain.requests[1].cost, 12.5F);
  EXPECT_EQ(plain.requests[0].cost, 1.0F);
  const ReadRequests named = requests_of("\xEF\xBB\xBFsize,key\n100,7\n");
  ASSERT_EQ(named.requests.size(), 1U);
  EXPECT_EQ(named.requests[0].key, 7U);
  EXPECT_EQ(named.requests[0].bytes, 100U);
  const ReadRequests keys = requests_of("key\n3\nfour\n");
  ASSERT_EQ(keys.requests.size(), 2U);
  EXPECT_EQ(keys.requests[0].bytes, 1U);
}

TEST(CacheReader, ReadsJsonLines) {
  const ReadRequests read = requests_of(
      "{\"t\":0.5,\"key\":7,\"bytes\":4096,\"cost\":120}\n {\"key\":\"seven\"} \n"
      "{\"key\":18446744073709551615,\"bytes\":1}");
  ASSERT_TRUE(read.status.ok()) << read.status.message();
  ASSERT_EQ(read.requests.size(), 3U);
  EXPECT_EQ(read.requests[0].bytes, 4096U);
  EXPECT_EQ(read.requests[0].cost, 120.0F);
  EXPECT_EQ(read.requests[1].key, key_of("seven"));
  EXPECT_EQ(read.requests[2].key, ~0ULL);
}

TEST(CacheReader, ReadsOracleGeneralAcrossItsWindow) {
  std::string text;
  constexpr std::uint32_t kRecords = 100'000;
  for (std::uint32_t i = 0; i < kRecords; ++i) text += oracle_record(i, i * 3ULL, i % 7 + 1, i);
  auto reader = CacheReader::over(text, "t", {});
  ASSERT_TRUE(reader.ok());
  EXPECT_EQ(reader->format(), CacheFormat::oracle_general);
  const ReadRequests read = read_all(*reader, 1000);
  ASSERT_TRUE(read.status.ok()) << read.status.message();
  ASSERT_EQ(read.requests.size(), kRecords);
  for (std::uint32_t i = 0; i < kRecords; ++i) {
    EXPECT_EQ(read.requests[i].key, i * 3ULL);
    EXPECT_EQ(read.requests[i].bytes, i % 7 + 1);
  }
}

TEST(CacheReader, TellsTheFormatByTheBeginningOrTheName) {
  EXPECT_EQ(CacheReader::over("0,1,1", "t", {})->format(), CacheFormat::csv);
  EXPECT_EQ(CacheReader::over(" {\"key\":1}", "t", {})->format(), CacheFormat::json_lines);
  EXPECT_EQ(CacheReader::over(oracle_record(1, 2, 3), "t", {})->format(),
            CacheFormat::oracle_general);
  // Nothing but letters and blanks, were it not for its end.
  EXPECT_EQ(CacheReader::over(oracle_record(0x20202020, 0x4142434445464748, 0x20202020), "t", {})
                ->format(),
            CacheFormat::oracle_general);
  EXPECT_EQ(CacheReader::over("0,1,1", "w1.oracleGeneral", {})->format(),
            CacheFormat::oracle_general);
}

TEST(CacheReader, TextKeysAreTheirHashAndDigitsTheirNumber) {
  EXPECT_EQ(key_of("42"), 42U);
  EXPECT_NE(key_of("042x"), 42U);
  EXPECT_NE(key_of("a"), key_of("b"));
  EXPECT_NE(key_of("asset/1"), key_of("asset/2"));
  EXPECT_NE(key_of("aaaaaaaa"), key_of("aaaaaaaaa"));
  // Of the algorithm as published, seed 0.
  EXPECT_EQ(key_of("a"), 0x071717d2d36b6b11ULL);
  EXPECT_EQ(key_of("hello world, this is murmur"), 0xdfdbaab605089616ULL);
}

TEST(CacheReader, LeavesOutRequestsOfNoBytesAndCountsThem) {
  const ReadRequests read = requests_of("0,1,0\n1,2,5\n2,3,0\n");
  EXPECT_EQ(keys_of(read), (std::vector<std::uint64_t>{2}));
  EXPECT_EQ(read.left_out, 2U);
}

TEST(CacheReader, IgnoresSizesWhenAsked) {
  const ReadRequests read = requests_of("0,1,0\n1,2,5\n", {.ignore_size = true});
  ASSERT_EQ(read.requests.size(), 2U);
  EXPECT_EQ(read.requests[0].bytes, 1U);
  EXPECT_EQ(read.requests[1].bytes, 1U);
  EXPECT_EQ(read.left_out, 0U);
}

TEST(CacheReader, SaysWhichLineOfACsvIsWrongAndWhatIsAllowed) {
  expect_error("", "t: the trace is empty; allowed: ");
  expect_error("hello\n", "t:1: hello has 1 columns; allowed: time,key,size[,cost]");
  expect_error("0,1,1\n0,1,1,1,1\n", "t:2: 0,1,1,1,1 has too many columns; allowed: ");
  expect_error("0,1,1\n\nx,1,1\n", "t:3: time: x is not allowed; allowed: a number from 0");
  expect_error("-1,1,1\n", "t:1: time: -1 is not allowed");
  expect_error("nan,1,1\n", "t:1: time: nan is not allowed");
  expect_error("0,,1\n", "t:1: key: an empty value is not allowed; allowed: ");
  expect_error("0,1,-5\n", "t:1: size: -5 is not allowed; allowed: a whole number from 0 to 2814");
  expect_error("0,1,281474976710657\n", "t:1: size: 281474976710657 is not allowed");
  expect_error("0,1,1,\n", "t:1: cost: an empty value is not allowed; allowed: microseconds");
  expect_error("0,1,1,inf\n", "t:1: cost: inf is not allowed");
  expect_error("time,key,sise\n", "t:1: sise: unknown key; did you mean 'size'?");
  expect_error("time,size\n", "t:1: time,size has no column key; allowed: ");
  expect_error("key,key\n", "t:1: key: a column given twice");
  expect_error("key,size,time,cost,key\n", "t:1: key,size,time,cost,key has more than 4 columns");
  expect_error("key,size\n1,2,3\n", "t:2: 1,2,3 has 3 columns; allowed: 2 as in the header");
  expect_error("0," + std::string(kMaxLine, 'x') + ",1\n", "t:1: a line of more than 65536 bytes");
}

TEST(CacheReader, SaysWhichLineOfJsonIsWrongAndWhatIsAllowed) {
  expect_error("{\"key\":1}\n7\n", "t:2: 7 is no JSON object; allowed: as {\"t\":0.5,\"key\"");
  expect_error("{}", "t:1: key: not given; allowed: ");
  expect_error("{\"key\":1.5}", "t:1: key: 1.5 is not allowed; allowed: a whole number");
  expect_error("{\"key\":-1}", "t:1: key: -1 is not allowed");
  expect_error("{\"key\":1,\"bites\":2}", "t:1: bites: unknown key; did you mean 'bytes'?");
  expect_error("{\"key\":1,\"bytes\":\"2\"}", "t:1: bytes: \"2\" is not allowed; allowed: ");
  expect_error("{\"key\":1,\"key\":1}", "t:1: key: given twice");
  expect_error("{\"key\":1,\"t\":-1}", "t:1: t: -1 is not allowed");
  expect_error("{\"key\":1,\"cost\":1e99}", "t:1: cost: 1e99 is not allowed");
  expect_error("{\"key\":1,\"cost\":null}", "t:1: cost: null is not allowed");
  expect_error("{\"key\":1", "t:1: the object is not closed");
  expect_error("{\"key\":1} x", "t:1: x after the object");
}

TEST(CacheReader, SaysWhichRecordIsCutOrWrong) {
  const std::string two = oracle_record(1, 2, 3) + oracle_record(2, 2, 3);
  expect_error(two.substr(0, 30), "t: record 2: the file ends after 6 bytes of it; allowed: whole");
  expect_error(two.substr(0, 5), "t: record 1: the file ends after 5 bytes of it");
  expect_error(two + oracle_record(3, 4, 5, -7),
               "t: record 3: next: -7 is not allowed; allowed: the number of a request, or -1");
}

TEST(CacheReader, RefusesASumOfSizesThatOverflows) {
  std::string text;
  for (int i = 0; i < (1 << 15) + 1; ++i) text += "0,1,281474976710656\n";
  expect_error(text, "t:32769: size: 281474976710656 bytes make those of all requests overflow");
}

TEST(CacheReader, SaysWhatCannotBeOpened) {
  EXPECT_EQ(CacheReader::open("no/such/file", {}).status().code(), Code::not_found);
  EXPECT_EQ(CacheReader::open("no/such/file", {}).status().message(),
            "no/such/file: no such trace");
  EXPECT_THAT(CacheReader::open("/", {}).status().message(), HasSubstr("is a folder"));
}

TEST(CacheReader, ReadsAPipe) {
  const std::string pipe = testing::TempDir() + "forebay_cache_trace_pipe";
  std::filesystem::remove(pipe);
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  std::thread writer{[&] { std::ofstream{pipe} << "0,1,1\n1,2,1\n"; }};
  auto reader = CacheReader::open(pipe, {});
  ASSERT_TRUE(reader.ok()) << reader.status().message();
  EXPECT_EQ(keys_of(read_all(*reader)), (std::vector<std::uint64_t>{1, 2}));
  writer.join();
  std::filesystem::remove(pipe);
}

TEST(CacheReader, ReadsBackWhatWasWritten) {
  const bool held = rc::check("in all formats", [] {
    const auto key = *rc::gen::arbitrary<std::uint64_t>();
    const auto size = *rc::gen::inRange<std::uint32_t>(1, ~0U);
    const auto time = *rc::gen::arbitrary<std::uint32_t>();
    for (const std::string& text :
         {fmt::format("{},{},{}\n", time, key, size),
          fmt::format("{{\"bytes\":{},\"t\":{},\"key\":{}}}", size, time, key),
          oracle_record(time, key, size)}) {
      const ReadRequests read = requests_of(text);
      RC_ASSERT(read.requests.size() == 1U);
      RC_ASSERT(read.requests[0].key == key);
      RC_ASSERT(read.requests[0].bytes == size);
    }
  });
  EXPECT_TRUE(held);
}

TEST(CacheReader, AFileNamedAsPackedMustBe) {
  const std::string file = testing::TempDir() + "forebay_not_packed.csv.zst";
  std::ofstream{file} << "0,1,1\n";
  EXPECT_EQ(CacheReader::open(file, {}).status().message(),
            file + ": is named .zst and does not begin as a zstd frame does");
  std::filesystem::remove(file);
}

#ifdef FOREBAY_TEST_ZSTD
std::string packed(const std::string& text) {
  std::string frame(ZSTD_compressBound(text.size()), '\0');
  frame.resize(ZSTD_compress(frame.data(), frame.size(), text.data(), text.size(), 3));
  return frame;
}

std::string many_lines(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += fmt::format("{},{},{}\n", i, i % 977, i % 13 + 1);
  return text;
}

TEST(CacheReader, UnpacksZstdOfOneAndSeveralFrames) {
  const std::string lines = many_lines(200'000);
  const std::size_t half = lines.find('\n', lines.size() / 2) + 1;
  for (const std::string& text :
       {packed(lines), packed(lines.substr(0, half)) + packed(lines.substr(half))}) {
    const ReadRequests read = requests_of(text);
    ASSERT_TRUE(read.status.ok()) << read.status.message();
    EXPECT_EQ(keys_of(read), keys_of(requests_of(lines)));
  }
}

TEST(CacheReader, EveryCutOfAZstdFrameIsAnError) {
  const std::string frame = packed(many_lines(300));
  for (std::size_t length = 4; length < frame.size(); ++length) {
    const ReadRequests read = requests_of(std::string_view{frame}.substr(0, length));
    ASSERT_FALSE(read.status.ok()) << length;
    EXPECT_EQ(read.status.code(), Code::corrupt_data);
    EXPECT_THAT(read.status.message(), HasSubstr("the file ends within a zstd frame"));
  }
}

TEST(CacheReader, ADamagedZstdFrameIsAnError) {
  std::string frame = packed(many_lines(300)) + "0,1,1\n";
  EXPECT_THAT(requests_of(frame).status.message(), HasSubstr("a damaged zstd frame: "));
  EXPECT_THAT(requests_of(frame).status.message(), StartsWith("t:"));
}
#endif

}  // namespace
}  // namespace forebay::trace
