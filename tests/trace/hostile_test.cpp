// Traces that lie, break off or attack: each is answered with one clear line.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "trace/decoder.hpp"

namespace forebay::trace {
namespace {

using testing::HasSubstr;

const std::string kHeader = std::string{kRmmHeader} + "\n";

Status outcome(std::string_view text) {
  auto reader = Reader::over(text, "t");
  if (!reader.ok()) return reader.status();
  return survey(std::move(*reader), {}).status();
}

// What is said of a trace; it must be one line with its place.
std::string refused(std::string_view text) {
  const Status status = outcome(text);
  EXPECT_EQ(status.code(), Code::invalid_argument) << text;
  EXPECT_TRUE(status.message().starts_with("t:")) << status.message();
  EXPECT_EQ(status.message().find('\n'), std::string::npos) << status.message();
  EXPECT_LT(status.message().size(), 400U);
  return status.message();
}

std::string alloc(std::uint64_t id, std::uint64_t bytes) {
  return fmt::format("{{\"op\":\"alloc\",\"id\":{},\"bytes\":{}}}\n", id, bytes);
}

TEST(HostileTrace, NamesLineKeyValueAndWhatIsAllowed) {
  EXPECT_EQ(refused(alloc(1, 1) + "{\"op\":\"alloc\",\"id\":2,\"bytes\":-1}\n"),
            "t:2: bytes: -1 is not allowed; allowed: a whole number from 0 to 281474976710656");
  EXPECT_EQ(refused(kHeader + "1,00:00:00:000000,fre,0x1,1,0\n"),
            "t:2: Action: fre is not allowed; allowed: allocate, free, allocate failure");
  EXPECT_EQ(refused(kHeader + "1,1:00:00.000000,free,0x1,1,0\n"),
            "t:2: Time: 1:00:00.000000 is not allowed; allowed: HH:MM:SS.uuuuuu");
}

TEST(HostileTrace, RefusesWhatIsNoTrace) {
  EXPECT_EQ(refused(""), "t: the trace is empty; allowed: at least one allocation");
  EXPECT_THAT(refused("\x7f"
                      "ELF\x02\x01"),
              HasSubstr("begins no trace"));
  EXPECT_THAT(refused("Thread,Time,Action,Pointer,Size\n"), HasSubstr("allowed: the header"));
  EXPECT_THAT(refused(std::string(100, '\0')), HasSubstr("begins no trace"));
}

TEST(HostileTrace, RefusesValuesOfOtherKinds) {
  for (const char* const pair :
       {"\"id\":1.5", "\"id\":-1", "\"id\":\"1\"", "\"id\":true", "\"id\":null", "\"id\":1e3",
        "\"id\":18446744073709551616", "\"id\":0x10", "\"id\":[1]", "\"id\":{}", "\"id\":"}) {
    EXPECT_THAT(refused(fmt::format("{{\"op\":\"alloc\",\"bytes\":1,{}}}", pair)),
                HasSubstr("t:1: id: "))
        << pair;
  }
  for (const char* const time : {"-1", "1e10", "nan", "\"1\"", "inf"}) {
    EXPECT_THAT(refused(fmt::format("{{\"op\":\"free\",\"id\":1,\"t\":{}}}", time)),
                HasSubstr("t:1: t: "))
        << time;
  }
  EXPECT_THAT(refused("{\"op\":\"malloc\",\"id\":1}"), HasSubstr("op: \"malloc\" is not allowed"));
  EXPECT_THAT(refused("{\"op\":\"alloc\",\"id\":1,\"bytes\":1,\"tag\":\"\xff\"}"),
              HasSubstr("tag: "));
}

TEST(HostileTrace, RefusesBrokenObjects) {
  for (const char* const line :
       {"{", "{\"op\"", "{\"op\":\"alloc\"", "{\"op\":\"alloc\",}", "{\"op\":\"alloc\" \"id\":1}",
        "{\"op\":\"free\",\"id\":1}}", "{\"op\":\"free\",\"id\":1} {", "{op:1}", "{\"op",
        "{\"tag\":\"\\x\"}", "{\"tag\":\"\\", "{'op':'free'}"}) {
    refused(line);
  }
  EXPECT_THAT(refused("{\"op\":\"free\",\"id\":1,\"id\":2}"), HasSubstr("id: given twice"));
  EXPECT_THAT(refused("{\"op\":\"alloc\",\"id\":1,\"byte\":2}"),
              HasSubstr("byte: unknown key; did you mean 'bytes'?"));
  EXPECT_THAT(refused("{\"op\":\"alloc\",\"id\":1}"), HasSubstr("bytes: not given"));
  EXPECT_THAT(refused("{\"op\":\"alloc\",\"bytes\":1}"), HasSubstr("id: not given"));
  EXPECT_THAT(refused("{\"id\":1,\"bytes\":1}"), HasSubstr("op: not given"));
}

TEST(HostileTrace, RefusesBrokenLogLines) {
  for (const char* const line : {"1,00:00:00:000000,free,0x1,1",
                                 "1,00:00:00:000000,free,0x1,1,0,0",
                                 ",,,,,",
                                 "x,00:00:00:000000,free,0x1,1,0",
                                 "1,24:00:00:000000,free,0x1,1,0",
                                 "1,00:60:00:000000,free,0x1,1,0",
                                 "1,00:00:00,000000,free,0x1,1,0",
                                 "1,00:00:00-000000,free,0x1,1,0",
                                 "1,00.00:00.000000,free,0x1,1,0",
                                 "1,00:00:00.00000,free,0x1,1,0",
                                 "1,00:00:00.0000000,free,0x1,1,0",
                                 "1,00:00:00:00000x,free,0x1,1,0",
                                 "1,00:00:00:000000,free,1,1,0",
                                 "1,00:00:00:000000,free,0x,1,0",
                                 "1,00:00:00:000000,free,0x11111111111111111,1,0",
                                 "1,00:00:00:000000,free,0x1,-1,0",
                                 "1,00:00:00:000000,free,0x1,281474976710657,0",
                                 "1,00:00:00:000000,free,0x1,1,s",
                                 "1,00:00:00:000000,allocate,(nil),1,0",
                                 "1,-1:00:00:000000,free,0x1,1,0"}) {
    EXPECT_THAT(refused(kHeader + line), HasSubstr("t:2: ")) << line;
  }
}

TEST(HostileTrace, RefusesATimeFarFromTheFirst) {
  const auto at = [](std::uint64_t id, const char* time) {
    return fmt::format("{{\"t\":{},\"op\":\"alloc\",\"id\":{},\"bytes\":1}}\n", time, id);
  };
  EXPECT_TRUE(outcome(at(1, "1.7e9") + at(2, "2.7e9")).ok());
  EXPECT_EQ(refused(at(1, "1.7e9") + at(2, "2.7e9") + at(3, "2700000001")),
            "t:3: t: 1000000001 s from the first line; allowed: at most 1000000000 s, 31 years");
  EXPECT_THAT(refused(at(1, "9e9") + at(2, "0")), HasSubstr("t:2: t: -9000000000 s from"));
}

// Days that only go on, and days that only go back: neither may overflow.
TEST(HostileTrace, RefusesALogOfTooManyDays) {
  for (const auto& [first, second] : {std::pair{"00", "11"}, std::pair{"22", "11"}}) {
    const bool forward = std::string_view{first} == "00";
    std::string text = kHeader;
    for (int i = 0; i < 12000; ++i) {
      for (const char* const hour : {first, second, forward ? "22" : "00"}) {
        text += fmt::format("1,{}:00:00.000000,allocate failure,(nil),1,0\n", hour);
      }
    }
    EXPECT_THAT(refused(text), HasSubstr(forward ? ": Time: 10000" : ": Time: -10000"));
  }
}

TEST(HostileTrace, RefusesAFreeOfWhatIsNotLive) {
  EXPECT_EQ(refused("{\"op\":\"free\",\"id\":9}"),
            "t:1: id: 9 is freed and not live; allowed: the id of a live block");
  EXPECT_THAT(refused(alloc(1, 8) + "{\"op\":\"free\",\"id\":1}\n{\"op\":\"free\",\"id\":1}\n"),
              HasSubstr("t:3: id: 1 is freed and not live"));
  EXPECT_THAT(refused(kHeader + "1,00:00:00:000000,free,0xab,1,0\n"),
              HasSubstr("Pointer: 0xab is freed and not live"));
}

TEST(HostileTrace, RefusesABlockThatIsLiveTwice) {
  EXPECT_THAT(refused(alloc(1, 8) + alloc(1, 16)),
              HasSubstr("t:2: id: 1 is allocated again while it is live with 8 bytes"));
}

TEST(HostileTrace, RefusesAFreeOfAnotherSize) {
  EXPECT_THAT(refused(alloc(1, 8) + "{\"op\":\"free\",\"id\":1,\"bytes\":9}"),
              HasSubstr("id: 1 is freed with 9 bytes; allowed: the 8 that"));
}

TEST(HostileTrace, RefusesLiveBytesThatOverflow) {
  std::string text;
  for (std::uint64_t i = 0; i < 65535; ++i) text += alloc(i, kMaxBlock.count());
  EXPECT_TRUE(outcome(text).ok());
  text += alloc(65535, kMaxBlock.count());  // 2^64
  EXPECT_THAT(refused(text), HasSubstr("t:65536: id: 65535: 281474976710656 bytes make"));
}

TEST(HostileTrace, RefusesLinesWithoutEnd) {
  const std::string fits = "{\"op\":\"alloc\",\"id\":1,\"bytes\":1,\"tag\":\"";
  const std::string filler(kMaxLine - fits.size() - 2, 'x');
  EXPECT_TRUE(outcome(fits + filler + "\"}\n").ok());
  EXPECT_EQ(refused(fits + filler + "x\"}\n"), "t:1: a line of more than 65536 bytes");
  EXPECT_EQ(refused(std::string(10 << 20, '{')), "t:1: a line of more than 65536 bytes");
  EXPECT_EQ(refused(kHeader + std::string(10 << 20, ',')), "t:2: a line of more than 65536 bytes");
}

TEST(HostileTrace, RefusesStreamsWithoutEnd) {
  std::string text;
  for (std::size_t i = 0; i <= kMaxStreams; ++i) {
    text += fmt::format("{{\"op\":\"alloc\",\"id\":{0},\"bytes\":1,\"stream\":{0}}}\n", i);
  }
  EXPECT_THAT(refused(text), HasSubstr("t:4097: stream: 4096 is one more than allowed"));
}

TEST(HostileTrace, EscapesWhatWouldDriveATerminal) {
  const std::string message = refused("{\"op\":\"alloc\",\"id\":1,\"by\x1b[2J\":2}");
  EXPECT_EQ(message.find('\x1b'), std::string::npos) << message;
  EXPECT_EQ(refused("\x1b[2J\n").find('\x1b'), std::string::npos);
}

}  // namespace
}  // namespace forebay::trace
