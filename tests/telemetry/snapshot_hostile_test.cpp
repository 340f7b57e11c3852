// What a snapshot's reader answers to files that are none, or lie.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <zstd.h>

#include <nlohmann/json.hpp>

#include "support/folder.hpp"
#include "telemetry/snapshot_json.hpp"
#include "telemetry/snapshot_samples.hpp"

namespace forebay {
namespace {

using detail::parse_snapshot;
using detail::snapshot_json;
using testing::small_snapshot;
using testing::TestFolder;

constexpr Bytes kMost{64ULL << 20};

void expect_refused(std::string_view text, const std::string& message,
                    Code code = Code::corrupt_data, Bytes most = kMost) {
  const Result<Snapshot> read = parse_snapshot(text, "file", most);
  ASSERT_FALSE(read.ok()) << message;
  EXPECT_EQ(read.status().code(), code) << read.status().message();
  EXPECT_NE(read.status().message().find(message), std::string::npos)
      << read.status().message() << "\nexpected: " << message;
  EXPECT_EQ(read.status().message().find('\n'), std::string::npos);
  EXPECT_LT(read.status().message().size(), 400U);
}

const std::string& sample() {
  static const std::string text = snapshot_json(small_snapshot());
  return text;
}

// The sample with one piece of it replaced.
std::string with(const std::string& piece, const std::string& other) {
  std::string text = sample();
  const std::size_t at = text.find(piece);
  EXPECT_NE(at, std::string::npos) << piece;
  return text.replace(at, piece.size(), other);
}

std::string compressed(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

TEST(SnapshotReader, NamesFileKeyAndPositionOfWhatIsWrong) {
  expect_refused(with("\"pid\":4711", "\"pid\":\"x\""),
                 "file: pid: expected a whole number (at byte ");
  expect_refused(with("\"bytes\":[209715200,", "\"bytes\":[209715200,-"),
                 "file: blocks.bytes[1]: -314572800 is not allowed; allowed: a whole number of at "
                 "most 18446744073709551615");
  expect_refused(with("\"pressure\":\"high\"", "\"pressure\":\"low\""),
                 "file: budgets[1].pressure: no pressure; allowed: normal, high, critical");
  expect_refused(with("\"complete\":true", "\"complete\":1"), "complete: expected true or false");
  expect_refused(with("\"grade\":\"sampled\"", "\"grade\":7"), "grade: expected a text");
}

TEST(SnapshotReader, RefusesWhatIsNoSnapshot) {
  expect_refused("", "expected an object, and the file ends");
  expect_refused("[]", "expected an object");
  expect_refused("{}", "");
  expect_refused("{\"pid\":1}", "expected the key format");
  expect_refused("{\"format\":\"other\",\"version\":1}", "this is no snapshot of Forebay's");
  expect_refused(
      "\x7F"
      "ELF",
      "expected an object");
  expect_refused(std::string(1000, '['), "expected an object");
}

TEST(SnapshotReader, RefusesAnotherVersion) {
  expect_refused(with("\"version\":1", "\"version\":2"), "version: 2 is not allowed; allowed: 1");
  expect_refused(with("\"version\":1", "\"version\":0"), "version: 0 is not allowed; allowed: 1");
}

TEST(SnapshotReader, RefusesKeysThatAreMissingOrThereTwice) {
  expect_refused(with("\"pid\":4711", "\"pid\":1,\"pid\":2"), "pid: is there twice");
  expect_refused(with("\"pid\":4711", "\"pod\":4711"), "pid is missing");
  expect_refused(with("\"peak_bytes\"", "\"peek_bytes\""), "budgets[0]: peak_bytes is missing");
  expect_refused(with("\"used_bytes\":1048576", "\"hits_total\":1"), "hits_total: is there twice");
  expect_refused(with("\"weight_bytes\"", "\"weight\""), "blocks: weight_bytes is missing");
  expect_refused(with("\"age_seconds\"", "\"bytes\""), "blocks.bytes: is there twice");
}

TEST(SnapshotReader, PassesOverKeysThatItDoesNotKnow) {
  const std::string text =
      with("\"pid\":4711",
           "\"later\":{\"a\":[1,{\"b\":[]},\"\\u0041\",null,true,-1.5e-3],\"c\":{}},"
           "\"pid\":4711,\"even later\":[[[]]]");
  const Result<Snapshot> read = parse_snapshot(text, "file");
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_TRUE(*read == small_snapshot());
}

TEST(SnapshotReader, TakesJsonHoweverItIsLaidOut) {
  const auto json = nlohmann::ordered_json::parse(sample());
  for (const std::string& text : {json.dump(4), json.dump(-1, ' ', true)}) {
    const Result<Snapshot> read = parse_snapshot(text, "file");
    ASSERT_TRUE(read.ok()) << read.status().message();
    EXPECT_TRUE(*read == small_snapshot());
  }
}

TEST(SnapshotReader, RefusesColumnsOfUnequalLength) {
  expect_refused(with("\"weight_blocks\":[1,", "\"weight_blocks\":["),
                 "blocks.weight_blocks: has 3 elements");
  expect_refused(with("\"weight_blocks\":[1,", "\"weight_blocks\":[1,1,"),
                 "blocks.weight_blocks[4]: has 5");
}

TEST(SnapshotReader, RefusesReferencesToWhatIsNotThere) {
  expect_refused(with("\"tag\":[1,1,1,2]", "\"tag\":[1,1,3,2]"),
                 "file: blocks[2].tag: 3 is not allowed; tags has 3 elements");
  expect_refused(with("\"stack\":[1,1,2,0]", "\"stack\":[1,1,4,0]"), "blocks[2].stack: 4");
  expect_refused(with("\"source\":[0,0,0,1]", "\"source\":[0,0,0,2]"), "blocks[3].source: 2");
  expect_refused(with("[[0,1],", "[[0,3],"), "stacks[0]: 3 is not allowed; frames has 3 elements");
  expect_refused(with("\"function\":[1,2,0]", "\"function\":[1,3,0]"), "frames[1].function: 3");
  expect_refused(with("\"module\":[1,1,0]", "\"module\":[1,2,0]"), "frames[1].module: 2");
  expect_refused(with("\"pool\":[0]", "\"pool\":[1]"), "segments[0].pool: 1");
  expect_refused(with("\"kind\":[0,1,0]", "\"kind\":[0,2,0]"), "events[1].kind: 2");
  expect_refused(with("\"tag\":[2,0,2]", "\"tag\":[2,0,4]"), "events[2].tag: 4");
}

TEST(SnapshotReader, RefusesNumbersThatAreNone) {
  for (const char* const number : {"01", "1.", ".5", "+1", "1e", "-", "--1", "1e999", "nan", "0x10",
                                   "1e-999", "1.0.0", "Infinity"}) {
    expect_refused(with("\"clock_seconds\":1234.5", fmt::format("\"clock_seconds\":{}", number)),
                   "clock_seconds: ");
  }
  expect_refused(with("\"pid\":4711", "\"pid\":9223372036854775808"), "pid: 9223372036854775808");
  expect_refused(with("\"resident_bytes\":2147483648", "\"resident_bytes\":18446744073709551616"),
                 "resident_bytes");
  expect_refused(with("\"resident_bytes\":2147483648", "\"resident_bytes\":1.5"), "resident_bytes");
  expect_refused(with("\"thread\":[4712", "\"thread\":[4294967296"), "events.rows.thread[0]");
  expect_refused(with("\"pid\":4711", "\"pid\":" + std::string(1000, '1')),
                 "expected a whole number");
  expect_refused(with("\"weight_bytes\":[", "\"weight_bytes\":[-1e-300,"), "");
}

TEST(SnapshotReader, RefusesTextThatIsNone) {
  for (const char* const text : {"\\x", "\\u12", "\\ud800", "\\ud800\\u0041", "\\udc00", "\x01",
                                 "\xFF", "\xC0\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80"}) {
    expect_refused(with("\"asked\"", fmt::format("\"{}\"", text)), "reason: ");
  }
  expect_refused(with("\"asked\"", "\"" + std::string(2 << 20, 'x') + "\""),
                 "reason: a text of more than 1 MiB");
  const auto pair = parse_snapshot(with("\"asked\"", "\"\\ud83d\\ude00\\u00e9\\n\""), "file");
  ASSERT_TRUE(pair.ok()) << pair.status().message();
  EXPECT_EQ(pair->reason, "\xF0\x9F\x98\x80\xC3\xA9\n");
}

TEST(SnapshotReader, RefusesWeightsBelowNothing) {
  expect_refused(with("\"weight_blocks\":[1,", "\"weight_blocks\":[-1,"),
                 "blocks[0]: a weight below 0");
}

TEST(SnapshotReader, EveryFileThatEndsEarlySaysSo) {
  for (std::size_t size = 0; size < sample().size() - 2; ++size) {  // the line's end may be missing
    const Result<Snapshot> read = parse_snapshot(sample().substr(0, size), "file", kMost);
    ASSERT_FALSE(read.ok()) << size;
    ASSERT_EQ(read.status().code(), Code::corrupt_data);
    ASSERT_NE(read.status().message().find("ends"), std::string::npos) << read.status().message();
  }
  const std::string packed = compressed(sample());
  for (std::size_t size = 4; size < packed.size(); ++size) {
    ASSERT_FALSE(parse_snapshot(packed.substr(0, size), "file", kMost).ok()) << size;
  }
}

TEST(SnapshotReader, RefusesWhatComesAfterTheSnapshot) {
  expect_refused(sample() + "x", "there is more after the snapshot");
  expect_refused(sample() + sample(), "there is more after the snapshot");
  expect_refused(compressed(sample()) + compressed("{}"), "there is more after the snapshot");
}

TEST(SnapshotReader, DepthHasAnEnd) {
  expect_refused(with("\"pid\":4711", "\"deep\":" + std::string(1 << 20, '[')),
                 "more than 64 levels deep");
}

TEST(SnapshotReader, MemoryHasAnEnd) {
  const std::string text = snapshot_json(testing::large_snapshot(20'000, 1000));
  EXPECT_TRUE(parse_snapshot(text, "file", kMost).ok());
  expect_refused(text, "needs more than 1 MiB of memory", Code::memory_refused, Bytes{1 << 20});
  expect_refused(text, "needs more than 0 B of memory", Code::memory_refused, Bytes{});
}

TEST(SnapshotReader, ALongNameInManyFramesCountsInEachOfThem) {
  Snapshot snapshot;
  snapshot.stacks.resize(100);
  for (auto& stack : snapshot.stacks) stack.resize(100, {0, 1, std::string(100'000, 'f')});
  const std::string text = snapshot_json(snapshot);
  EXPECT_LT(text.size(), 200'000U) << "a GB of text once read";
  expect_refused(text, "needs more than 64 MiB of memory", Code::memory_refused);
}

TEST(SnapshotReader, ABombEndsAtItsFirstMegabytes) {
  const std::string spaces(64 << 20, ' ');
  std::string bomb = compressed("{\"format\":\"forebay snapshot\"," + spaces);
  EXPECT_LT(bomb.size(), 100'000U);
  expect_refused(bomb, "more than 64 KiB of white space");
  bomb = compressed(with("\"pid\":4711", "\"x\":[" + std::string(16 << 20, '1') + "]"));
  expect_refused(bomb, "expected a value");
  std::string zeroes;
  for (int i = 0; i < 4'000'000; ++i) zeroes += "0,";
  bomb = compressed(with("\"blocks\":{\"address\":[", "\"blocks\":{\"address\":[" + zeroes));
  expect_refused(bomb, "needs more than 64 MiB of memory", Code::memory_refused);
  bomb = compressed(with("\"pid\":4711", "\"later\":[" + zeroes + "0],\"pid\":1"));
  expect_refused(bomb, "needs more than 1 MiB of memory", Code::memory_refused, Bytes{1 << 20});
}

std::string repeated(std::string_view piece, std::size_t count) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i) text += piece;
  return text;
}

TEST(SnapshotReader, AListHasAsManyElementsAsATrackerCanGive) {
  const auto more = [](const std::string& key, const std::string& piece, std::size_t count) {
    return compressed(with(key + "[", key + "[" + repeated(piece, count)));
  };
  expect_refused(more("\"stacks\":", "[],", 1U << 19), "more than 524288 of them");
  expect_refused(more("\"functions\":", "\"\",", 1U << 20), "more than 1048576 of them",
                 Code::corrupt_data, Bytes{1ULL << 30});
  const std::string tag =
      "{\"tag\":\"\",\"owner\":\"\",\"live_bytes\":0,\"live_blocks\":0,"
      "\"allocated_bytes_total\":0,\"allocations_total\":0},";
  expect_refused(more("\"tags\":", tag, 8192), "more than 8192 of them");
  const std::string module = "{\"path\":\"\",\"build_id\":\"\",\"base\":0},";
  expect_refused(more("\"modules\":", module, 1U << 16), "more than 65536 of them");
}

TEST(SnapshotReader, ASmallFileMayNotBecomeMuchUnlessTheCallerSaysSo) {
  const std::string bomb = compressed(
      with("\"blocks\":{\"address\":[", "\"blocks\":{\"address\":[" + repeated("0,", 2'000'000)));
  ASSERT_LT(bomb.size(), 20'000U);
  const TestFolder folder;
  folder.write("bomb", bomb);
  const Status refused = read_snapshot(folder / "bomb").status();
  EXPECT_EQ(refused.code(), Code::memory_refused) << refused.message();
  EXPECT_NE(refused.message().find("needs more than 64."), std::string::npos) << refused.message();
  EXPECT_EQ(parse_snapshot(bomb, "bomb").status().message().substr(0, 24),
            "bomb: needs more than 64");
  EXPECT_EQ(read_snapshot(folder / "bomb", Bytes{1ULL << 30}).status().code(), Code::corrupt_data)
      << "read, and its columns differ";
}

TEST(SnapshotReader, AMillionBlocksAreReadByDefault) {
  const TestFolder folder;
  const Snapshot large = testing::large_snapshot(1'000'000, 1000);
  ASSERT_TRUE(write_snapshot(large, folder / "large.zst").ok());
  const Result<Snapshot> read = read_snapshot(folder / "large.zst");
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(read->blocks.size(), 1'000'000U);
}

TEST(SnapshotReader, AWeightThatIsNoNumberOfBytesIsRefused) {
  Snapshot snapshot = small_snapshot();
  const std::string message = "blocks[1]: a weight below 0 or above 2^63 is not allowed";
  for (const double bad : {-1.0, 9.3e18, 1e308}) {
    snapshot.blocks[1].weight_bytes = bad;
    expect_refused(snapshot_json(snapshot), message);
    snapshot.blocks[1].weight_bytes = 1;
    snapshot.blocks[1].weight_blocks = bad;
    expect_refused(snapshot_json(snapshot), message);
    snapshot.blocks[1].weight_blocks = 1;
  }
  snapshot.blocks[1].weight_bytes = 9223372036854775808.0;
  EXPECT_TRUE(parse_snapshot(snapshot_json(snapshot), "file").ok());
}

TEST(SnapshotReader, RefusesACompressedFileThatIsDamaged) {
  const std::string packed = compressed(sample());
  std::size_t refused = 0;
  for (std::size_t at = 4; at < packed.size(); ++at) {
    std::string damaged = packed;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    const Result<Snapshot> read = parse_snapshot(damaged, "file", kMost);
    refused += read.ok() ? 0 : 1;
  }
  EXPECT_GT(refused, packed.size() / 2);
  expect_refused("\x28\xB5\x2F\xFD", "zstd");
  // A frame that wants a window of 2 GiB.
  expect_refused(std::string{"\x28\xB5\x2F\xFD\x00\xA8\x01\x00\x00", 9},
                 "zstd: Frame requires too much memory");
}

TEST(SnapshotReader, AFileThatIsNotThereOrNoneIsSaid) {
  const TestFolder folder;
  EXPECT_EQ(read_snapshot(folder / "no").status().code(), Code::not_found);
  EXPECT_EQ(read_snapshot(folder.path()).status().code(), Code::invalid_argument);
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0600), 0);
  EXPECT_EQ(read_snapshot(folder / "fifo").status().code(), Code::invalid_argument);
  EXPECT_EQ(read_snapshot("/dev/zero").status().code(), Code::invalid_argument);
  folder.write("bad\n.json", "{");
  const Status bad = read_snapshot(folder / "bad\n.json").status();
  EXPECT_EQ(bad.code(), Code::corrupt_data);
  EXPECT_NE(bad.message().find("bad\\x0a.json: "), std::string::npos) << bad.message();
}

}  // namespace
}  // namespace forebay
