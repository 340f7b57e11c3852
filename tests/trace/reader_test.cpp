#include "trace/reader.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace forebay::trace {
namespace {

using std::chrono::microseconds;
using std::chrono::seconds;
using testing::HasSubstr;

struct Owned {
  Record record;
  std::string tag;
};

std::vector<Owned> records_of(std::string_view text) {
  auto reader = Reader::over(text, "t");
  EXPECT_TRUE(reader.ok()) << reader.status().message();
  std::vector<Owned> records;
  while (reader.ok()) {
    Record record;
    const auto more = reader->next(record);
    EXPECT_TRUE(more.ok()) << more.status().message();
    if (!more.ok() || !*more) break;
    records.push_back({record, std::string{record.tag}});
  }
  return records;
}

const std::string kHeader = std::string{kRmmHeader} + "\n";

TEST(TraceReader, ReadsALogOfRmm) {
  const auto records = records_of(kHeader +
                                  "12,10:00:00.000000,allocate,0x7f00,4096,0x0\n"
                                  "12,10:00:01.000250,allocate failure,(nil),99,(nil)\n"
                                  "13,10:00:02.000000,free,0x7F00,4096,7\n");
  ASSERT_EQ(records.size(), 3U);
  EXPECT_EQ(records[0].record.kind, Record::Kind::allocate);
  EXPECT_EQ(records[0].record.id, 0x7f00U);
  EXPECT_EQ(records[0].record.bytes, Bytes{4096});
  EXPECT_EQ(records[1].record.kind, Record::Kind::failed);
  EXPECT_EQ(records[1].record.time, seconds{1} + microseconds{250});
  EXPECT_EQ(records[2].record.kind, Record::Kind::free);
  EXPECT_EQ(records[2].record.stream, 7U);
  EXPECT_TRUE(records[2].record.has_bytes);
}

TEST(TraceReader, ReadsAColonBeforeTheMicroseconds) {
  const auto records = records_of(kHeader +
                                  "12,10:00:00:000000,allocate,0x7f00,4096,0x0\n"
                                  "12,10:00:01:000250,free,0x7f00,4096,0x0\n");
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(records[1].record.time, seconds{1} + microseconds{250});
}

TEST(TraceReader, ReadsJsonLines) {
  const auto records = records_of(
      "{\"t\":0.5,\"op\":\"alloc\",\"id\":7,\"bytes\":4096,\"stream\":2,\"tag\":\"k\\\"v\"}\n"
      " { \"op\" : \"free\" , \"id\" : 7 } \n");
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(records[0].record.id, 7U);
  EXPECT_EQ(records[0].record.bytes, Bytes{4096});
  EXPECT_EQ(records[0].record.stream, 2U);
  EXPECT_EQ(records[0].tag, "k\\\"v");
  EXPECT_EQ(records[1].record.kind, Record::Kind::free);
  EXPECT_FALSE(records[1].record.has_bytes);
  EXPECT_FALSE(records[1].record.has_stream);
}

TEST(TraceReader, TellsTheFormatByTheFirstLine) {
  EXPECT_EQ(Reader::over(kHeader, "t")->format(), Format::rmm_csv);
  EXPECT_EQ(Reader::over("\n \n{}", "t")->format(), Format::json_lines);
  EXPECT_EQ(Reader::over("\xEF\xBB\xBF" + kHeader, "t")->format(), Format::rmm_csv);
}

TEST(TraceReader, TakesLineEndsAsTheyCome) {
  const std::string line = R"({"op":"alloc","id":1,"bytes":1})";
  EXPECT_EQ(records_of(line).size(), 1U);
  EXPECT_EQ(records_of(line + "\r\n\r\n").size(), 1U);
  EXPECT_EQ(records_of(line + "\n\n\n" + line).size(), 2U);
}

TEST(TraceReader, ReadsLinesThatCrossItsWindow) {
  std::string text;
  constexpr int kLines = 20000;
  for (int i = 0; i < kLines; ++i) {
    text += fmt::format("{{\"op\":\"alloc\",\"id\":{},\"bytes\":1,\"tag\":\"{:{}}\"}}\n", i, "",
                        i % 97);
  }
  const auto records = records_of(text);
  ASSERT_EQ(records.size(), static_cast<std::size_t>(kLines));
  for (std::size_t i = 0; i < records.size(); ++i) {
    EXPECT_EQ(records[i].record.id, i);
    EXPECT_EQ(records[i].tag.size(), i % 97);
  }
}

TEST(TraceReader, TimeGoesOnPastMidnightAndNeverBack) {
  const auto records = records_of(kHeader +
                                  "1,23:59:59:000000,allocate,0x1,1,0\n"
                                  "1,00:00:01:000000,allocate,0x2,1,0\n"
                                  "2,00:00:00:500000,allocate,0x3,1,0\n"
                                  "1,00:00:02:000000,allocate,0x4,1,0\n");
  ASSERT_EQ(records.size(), 4U);
  EXPECT_EQ(records[0].record.time, seconds{0});
  EXPECT_EQ(records[1].record.time, seconds{2});
  EXPECT_EQ(records[2].record.time, seconds{2});  // written late by another thread
  EXPECT_EQ(records[3].record.time, seconds{3});
}

TEST(TraceReader, LinesLateAcrossMidnightAddNoDay) {
  std::string text = kHeader + "1,23:59:58.000000,allocate,0x1,1,0\n";
  for (int i = 0; i < 100; ++i) {
    text += "1,00:00:01.000000,allocate,0x2,1,0\n2,23:59:59.000000,allocate,0x3,1,0\n";
  }
  const auto records = records_of(text + "1,00:00:02.000000,allocate,0x4,1,0\n");
  ASSERT_EQ(records.size(), 202U);
  EXPECT_EQ(records[1].record.time, seconds{3});
  EXPECT_EQ(records[2].record.time, seconds{3});  // late: time stands still
  EXPECT_EQ(records.back().record.time, seconds{4});
}

TEST(TraceReader, TimeIsSinceTheFirstLineThatHasIt) {
  const auto records = records_of(
      "{\"op\":\"alloc\",\"id\":1,\"bytes\":1}\n"
      "{\"t\":1700000000.5,\"op\":\"alloc\",\"id\":2,\"bytes\":1}\n"
      "{\"t\":1700000002.0,\"op\":\"alloc\",\"id\":3,\"bytes\":1}\n"
      "{\"op\":\"free\",\"id\":3}\n");
  ASSERT_EQ(records.size(), 4U);
  EXPECT_EQ(records[0].record.time, seconds{0});
  EXPECT_EQ(records[1].record.time, seconds{0});
  EXPECT_EQ(records[2].record.time, std::chrono::milliseconds{1500});
  EXPECT_EQ(records[3].record.time, std::chrono::milliseconds{1500});
}

TEST(TraceReader, RefusesWhatIsNoRegularFile) {
  const auto missing = Reader::open("no/such/file");
  EXPECT_EQ(missing.status().code(), Code::not_found);
  EXPECT_EQ(missing.status().message(), "no/such/file: no such trace");
  EXPECT_THAT(Reader::open("/").status().message(), HasSubstr("is no regular file"));
  // A pipe must be refused at once, not waited for.
  const std::string pipe = testing::TempDir() + "forebay_trace_pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THAT(Reader::open(pipe).status().message(), HasSubstr("is no regular file"));
  std::filesystem::remove(pipe);
}

// Whatever a writer writes comes back, in both formats.
TEST(TraceReader, ReadsBackWhatWasWritten) {
  const bool held = rc::check("JSON lines", [] {
    const auto size = *rc::gen::inRange<std::uint64_t>(0, kMaxBlock.count() + 1);
    const auto id = *rc::gen::arbitrary<std::uint64_t>();
    const auto stream = *rc::gen::arbitrary<std::uint64_t>();
    const bool frees = *rc::gen::arbitrary<bool>();
    const auto tag =
        *rc::gen::container<std::string>(rc::gen::elementOf(std::string{"aZ _-{},:.\t/"}));
    std::string clean = tag;
    std::erase(clean, '\t');
    const auto records = records_of(
        fmt::format("{{\"tag\":\"{}\",\"op\":\"{}\",\"id\":{},\"stream\":{},\"bytes\":{}}}", clean,
                    frees ? "free" : "alloc", id, stream, size));
    RC_ASSERT(records.size() == 1U);
    RC_ASSERT(records[0].record.id == id);
    RC_ASSERT(records[0].record.bytes == Bytes{size});
    RC_ASSERT(records[0].record.stream == stream);
    RC_ASSERT(records[0].tag == clean);
    RC_ASSERT((records[0].record.kind == Record::Kind::free) == frees);
  });
  EXPECT_TRUE(held);
  const bool held_too = rc::check("RMM CSV", [] {
    const auto size = *rc::gen::inRange<std::uint64_t>(0, kMaxBlock.count() + 1);
    const auto pointer = *rc::gen::arbitrary<std::uint64_t>();
    const auto stream = *rc::gen::arbitrary<std::uint64_t>();
    const auto records = records_of(
        kHeader + fmt::format("1,01:02:03:000004,free,{:#x},{},{:#x}\n", pointer, size, stream));
    RC_ASSERT(records.size() == 1U);
    RC_ASSERT(records[0].record.id == pointer);
    RC_ASSERT(records[0].record.bytes == Bytes{size});
    RC_ASSERT(records[0].record.stream == stream);
  });
  EXPECT_TRUE(held_too);
}

}  // namespace
}  // namespace forebay::trace
