#include "generate_output.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace forebay::app {
namespace {

using namespace literals;
using testing::HasSubstr;

GenerateReport report() {
  GenerateReport report;
  report.text = " blue";
  report.steps = {{0, {{7, " blue", 0.5, false}, {9, " gr\xc3", 0.25, true}}}};
  report.stop = StopReason::max_tokens;
  report.prompt_tokens = 3;
  report.generate_seconds = 0.5;
  report.tokens_per_second = 2;
  report.line = 1_GiB;
  report.peak = 512_MiB;
  report.resident_peak = 300_MiB;
  report.line_held = true;
  report.trims = 1;
  report.denials = 2;
  report.owners = {{"weights", 90_MiB, 92_MiB}, {"other", 9_MiB, 10_MiB}};
  report.stages = {{"start", std::chrono::milliseconds{1500}, 1_MiB, 2_MiB, 1_GiB, 3_MiB}};
  report.engine = "an engine";
  return report;
}

RunContext context() { return {"m.gguf", 42, 1, {1_GiB, 2_GiB, "1 GiB as asked"}}; }

TEST(GenerateJson, CarriesWhatScriptsRelyOn) {
  const Json object = json_of(report(), context());
  EXPECT_EQ(object["text"], " blue");
  EXPECT_EQ(object["tokens_generated"], 1);
  EXPECT_EQ(object["tokens_per_second"], 2.0);
  EXPECT_EQ(object["line_bytes"], (1_GiB).count());
  EXPECT_EQ(object["peak_bytes"], (512_MiB).count());
  EXPECT_EQ(object["peak_rss_bytes"], (300_MiB).count());
  EXPECT_EQ(object["line_held"], true);
  EXPECT_EQ(object["trims"], 1);
  EXPECT_EQ(object["denials"], 2);
  EXPECT_EQ(object["owners"]["weights"]["peak_bytes"], (92_MiB).count());
  EXPECT_EQ(object["stages"][0]["name"], "start");
  EXPECT_EQ(object["stages"][0]["seconds"], 1.5);
  EXPECT_EQ(object["stages"][0]["used_bytes"], (1_MiB).count());
  EXPECT_EQ(object["stages"][0]["peak_bytes"], (2_MiB).count());
  EXPECT_EQ(object["steps"][0]["tokens"][1]["probability"], 0.25);
  EXPECT_EQ(object["steps"][0]["tokens"][1]["pruned"], true);
  EXPECT_EQ(object["stop"], "max_tokens");
  EXPECT_FALSE(object.contains("error"));
  EXPECT_THAT(printed(object), HasSubstr("gr\xef\xbf\xbd"));  // half a character
}

TEST(GenerateJson, SaysWhyARunEndedEarly) {
  GenerateReport early = report();
  early.outcome = Status{Code::memory_refused, "kv: full"};
  const Json object = json_of(early, context());
  EXPECT_EQ(object["error"], "kv: full");
  EXPECT_EQ(object["code"], "memory_refused");
  EXPECT_EQ(object["text"], " blue");
}

TEST(GenerateReport, ShowsLineOwnersAndCounts) {
  const std::string text = generate_report(report(), context(), Painter{false});
  EXPECT_THAT(text, HasSubstr("  generated   1 token in 0.50 s: 2.0 tokens/s\n"));
  EXPECT_THAT(text, HasSubstr("  line        1 GiB (as asked)\n"));
  EXPECT_THAT(text, HasSubstr("  line held:  yes\n"));
  EXPECT_THAT(text,
              HasSubstr("  peak        512 MiB accounted (50 % of the line), 300 MiB resident\n"));
  EXPECT_THAT(text, HasSubstr("  trims       1\n  denials     2\n"));
  EXPECT_THAT(text, HasSubstr("  weights      90 MiB  92 MiB          9 %\n"));
}

TEST(StageLine, IsOneAlignedLine) {
  EXPECT_EQ(stage_line(report().stages[0]),
            "    1.50 s  start           used     1 MiB  peak     2 MiB  line     1 GiB  "
            "resident     3 MiB\n");
}

}  // namespace
}  // namespace forebay::app
