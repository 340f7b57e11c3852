// The parts that formats are made of: documents, moments, sums.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/folder.hpp"
#include "telemetry/formats.hpp"
#include "telemetry/holdings.hpp"
#include "telemetry/json.hpp"
#include "telemetry/pickle.hpp"

namespace forebay::detail {
namespace {

using testing::TestFolder;

// What `write` makes of a document of this kind.
template <typename Kind, typename Write>
std::string written(Write write) {
  const TestFolder folder;
  auto file = AtomicFile::create(folder / "out");
  Output out{*file};
  Kind document{out};
  write(document);
  EXPECT_TRUE(out.status().ok());
  EXPECT_TRUE(file->commit().ok());
  return folder.read("out");
}

// A pickle's opcodes, without the bytes around them.
std::string opcodes(const std::string& pickle) {
  EXPECT_TRUE(pickle.starts_with(std::string("\x80\x04\x95", 3)));
  EXPECT_TRUE(pickle.ends_with('.'));
  return pickle.substr(11, pickle.size() - 12);
}

std::string pickled_number(std::uint64_t value) {
  return opcodes(written<PickleDocument>([&](PickleDocument& document) {
    document.number(value);
    document.finish();
  }));
}

TEST(Pickle, NumbersTakeTheShortestFormThatKeepsThemPositive) {
  using namespace std::string_literals;
  EXPECT_EQ(pickled_number(0), "K\0"s);
  EXPECT_EQ(pickled_number(255), "K\xff"s);
  EXPECT_EQ(pickled_number(256), "M\0\x01"s);
  EXPECT_EQ(pickled_number(65535), "M\xff\xff"s);
  EXPECT_EQ(pickled_number(65536), "J\0\0\x01\0"s);
  EXPECT_EQ(pickled_number(0x7fff'ffff), "J\xff\xff\xff\x7f"s);
  EXPECT_EQ(pickled_number(0x8000'0000), "\x8a\x05\0\0\0\x80\0"s);
  EXPECT_EQ(pickled_number(0x7fff'ffff'ffff'ffff), "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"s);
  EXPECT_EQ(pickled_number(UINT64_MAX), "\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\0"s);
}

TEST(Pickle, RememberedValueIsWrittenAgainByReference) {
  const std::string pickle = opcodes(written<PickleDocument>([](PickleDocument& document) {
    document.begin_list();
    for (int i = 0; i < 2; ++i) {
      if (document.recall(0)) continue;
      document.word("x");
      document.remember(0);
    }
    document.word("x");
    document.end_list();
    document.finish();
  }));
  using namespace std::string_literals;
  EXPECT_EQ(pickle, "](\x8c\x01x\x94\x94h\x01h\0e"s);
}

TEST(Pickle, LongListGoesOutInBatches) {
  const std::string pickle = opcodes(written<PickleDocument>([](PickleDocument& document) {
    document.begin_list();
    for (int i = 0; i < 2500; ++i) document.boolean(true);
    document.end_list();
    document.finish();
  }));
  EXPECT_EQ(std::count(pickle.begin(), pickle.end(), 'e'), 3);
  EXPECT_EQ(std::count(pickle.begin(), pickle.end(), '('), 3);
}

TEST(Pickle, TextIsCutWhereACharacterEnds) {
  const std::string pickle = opcodes(written<PickleDocument>([](PickleDocument& document) {
    document.text(std::string((1 << 20) - 1, 'a') + "\xC3\xA9 and more");
    document.finish();
  }));
  // After so long a text a frame ends, and the next one has its header of 9 bytes.
  EXPECT_EQ(pickle.size(), 5U + (1 << 20) - 1 + 9);
  EXPECT_EQ(pickle[5 + (1 << 20) - 2], 'a');
}

std::string json_text(std::string_view text) {
  return written<JsonDocument>([&](JsonDocument& document) { document.text(text); });
}

TEST(Json, TextIsEscapedAndAlwaysUtf8) {
  EXPECT_EQ(json_text("a\"b\\c\n\x01"), R"("a\"b\\c\u000a\u0001")");
  EXPECT_EQ(json_text("caf\xC3\xA9 \xF0\x9F\x92\xA7"), "\"caf\xC3\xA9 \xF0\x9F\x92\xA7\"");
  EXPECT_EQ(json_text("\xC3(\xED\xA0\x80"), R"("\\xc3(\\xed\\xa0\\x80")");
}

TEST(Json, NumbersThatAreNoneAreZero) {
  EXPECT_EQ(written<JsonDocument>([](JsonDocument& document) {
              document.begin_list();
              document.real(std::numeric_limits<double>::quiet_NaN());
              document.real(std::numeric_limits<double>::infinity());
              document.real(0.25);
              document.pair(1, UINT64_MAX);
              document.end_list();
            }),
            "[0,0,0.25,[1,18446744073709551615]]");
}

TEST(Moments, AreReadFromIso8601) {
  EXPECT_EQ(parse_utc("1970-01-01T00:00:00Z"), 0);
  EXPECT_EQ(parse_utc("2024-05-06T07:08:09.123456Z"), 1714979289123456000);
  EXPECT_EQ(parse_utc("2024-05-06T07:08:09.1Z"), 1714979289100000000);
  for (const char* bad : {"", "2024", "2024-13-06T07:08:09Z", "2024-05-06 07:08:09Z",
                          "2024-05-06T27:08:09Z", "2024-05-06T07:08:09", "yesterday"}) {
    EXPECT_FALSE(parse_utc(bad).has_value()) << bad;
  }
}

TEST(Moments, OfTheSteadyClockAreCountedFromTheSnapshots) {
  Snapshot snapshot;
  snapshot.taken_at = "2024-05-06T07:08:09Z";
  snapshot.clock_seconds = 100;
  EXPECT_EQ(utc_of(snapshot, 98.5), 1714979287500000000);
  snapshot.taken_at = "";
  EXPECT_EQ(utc_of(snapshot, 98.5), 98500000000);
  EXPECT_EQ(utc_of(snapshot, -1), 0);
}

TEST(Rounding, TermsAddUpToTheRoundedSum) {
  Rounding rounding;
  std::int64_t sum = 0;
  for (int i = 0; i < 1000; ++i) sum += rounding.next(0.3);
  EXPECT_EQ(sum, 300);
}

TEST(Holdings, AreAddedUpByPlaceAndHolderMostBytesFirst) {
  Snapshot snapshot;
  const auto add = [&](std::uint32_t stack, std::uint32_t tag, double bytes) {
    snapshot.blocks.push_back(
        {.tag = tag, .stack = stack, .weight_bytes = bytes, .weight_blocks = 1});
  };
  add(1, 0, 10);
  add(2, 0, 25);
  add(1, 0, 10);
  add(1, 1, 5);
  const auto holdings = holdings_of(snapshot);
  ASSERT_EQ(holdings.size(), 3U);
  EXPECT_EQ(holdings[0].stack, 2U);
  EXPECT_EQ(holdings[1].bytes, 20);
  EXPECT_EQ(holdings[1].blocks, 2);
  EXPECT_EQ(holdings[2].tag, 1U);
}

}  // namespace
}  // namespace forebay::detail
