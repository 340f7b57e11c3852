#include "report.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "command.hpp"

namespace forebay::app {
namespace {

using namespace literals;
using testing::HasSubstr;
using testing::Not;

PlanContext context() {
  PlanContext context;
  context.shape = {.name = "tiny",
                   .architecture = "llama",
                   .layers = 2,
                   .heads = 4,
                   .kv_heads = 2,
                   .head_dim_k = 16,
                   .head_dim_v = 16,
                   .embedding = 64,
                   .feed_forward = 128,
                   .vocabulary = 96,
                   .context_trained = 2048,
                   .weights = 10_MiB};
  context.line = {100_MiB, 1_GiB, "100 MiB as asked"};
  return context;
}

TokenPlan plan() {
  TokenPlan plan;
  plan.fits = true;
  plan.run = {.context_tokens = 512, .batch_tokens = 64, .parallel_tokens = 1};
  plan.need = {.weights = 10_MiB, .kv = 4_MiB, .compute = 3_MiB, .output = 2_MiB, .other = 1_MiB};
  plan.line = 100_MiB;
  plan.kv_per_token = 256_B;
  plan.max_context_tokens = 2048;
  plan.max_parallel_tokens = 7;
  plan.smallest_line = 16_MiB;
  plan.alternatives = {{"--kv-type q8_0", plan.need, 512, true}};
  plan.notes = {"a note"};
  return plan;
}

Status refusal() {
  return Status{Refusal{.budget = "process/kv",
                        .asked = 5_MiB,
                        .used = 6_MiB,
                        .limit = 8_MiB,
                        .reclaimed = {},
                        .holders = {{"process/kv/a", 4_MiB, 1_MiB}, {"process/kv/b", 2_MiB, {}}},
                        .advice = {"--kv-type q8_0", "a shorter prompt"}}};
}

TEST(Json, OfAPlanCarriesEveryPart) {
  const Json object = json_of(plan(), context());
  EXPECT_EQ(object["fits"], true);
  EXPECT_EQ(object["weights_bytes"], (10_MiB).count());
  EXPECT_EQ(object["kv_bytes"], (4_MiB).count());
  EXPECT_EQ(object["compute_bytes"], (3_MiB).count());
  EXPECT_EQ(object["output_bytes"], (2_MiB).count());
  EXPECT_EQ(object["other_bytes"], (1_MiB).count());
  EXPECT_EQ(object["total_bytes"], (20_MiB).count());
  EXPECT_EQ(object["kv_bytes_per_token"], 256);
  EXPECT_EQ(object["kv_bytes_per_token_per_layer"], 128);
  EXPECT_EQ(object["context_tokens"], 512);
  EXPECT_EQ(object["max_parallel_tokens"], 7);
  EXPECT_EQ(object["smallest_line_bytes"], (16_MiB).count());
  EXPECT_EQ(object["line_bytes"], (100_MiB).count());
  EXPECT_EQ(object["measured"], false);
  EXPECT_EQ(object["alternatives"][0]["change"], "--kv-type q8_0");
  EXPECT_EQ(object["alternatives"][0]["total_bytes"], (20_MiB).count());
  EXPECT_EQ(object["notes"][0], "a note");
}

TEST(Json, OfARefusalCarriesTheAccount) {
  const Json object = json_of(refusal());
  EXPECT_EQ(object["code"], "memory_refused");
  EXPECT_EQ(object["budget"], "process/kv");
  EXPECT_EQ(object["asked_bytes"], (5_MiB).count());
  EXPECT_EQ(object["used_bytes"], (6_MiB).count());
  EXPECT_EQ(object["limit_bytes"], (8_MiB).count());
  EXPECT_EQ(object["holders"][1]["name"], "process/kv/b");
  EXPECT_EQ(object["holders"][0]["reclaimable_bytes"], (1_MiB).count());
  EXPECT_EQ(object["advice"].size(), 2U);
}

TEST(Json, OfAnotherFailureHasNoAccount) {
  const Json object = json_of(Status{Code::not_found, "x: not there"});
  EXPECT_EQ(object["error"], "x: not there");
  EXPECT_EQ(object["code"], "not_found");
  EXPECT_EQ(object.size(), 2U);
}

TEST(Json, ReplacesBytesThatAreNoText) {
  EXPECT_EQ(printed(Json{{"text", "a\xff"}}), "{\n  \"text\": \"a\xef\xbf\xbd\"\n}\n");
}

TEST(PlanReport, SaysEachThingOnce) {
  const std::string text = plan_report(plan(), context(), Painter{false});
  EXPECT_THAT(text,
              HasSubstr("  kv cache    4 MiB   4 %  512 tokens x 256 B (128 B a layer, f16)\n"));
  EXPECT_THAT(text, HasSubstr("  total      20 MiB  20 %\n"));
  EXPECT_THAT(text, HasSubstr("  line      100 MiB        as asked\n"));
  EXPECT_THAT(text, HasSubstr("estimated, 1 token at one position\n"));
  EXPECT_THAT(text, HasSubstr("  --kv-type q8_0  20 MiB  512 tokens  fits\n"));
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
}

TEST(PlanReport, DoesNotShowWhatAHostileModelNameHides) {
  PlanContext hostile = context();
  hostile.shape.name = "a\x1b]0;b\n";
  EXPECT_THAT(plan_report(plan(), hostile, Painter{false}), testing::StartsWith("a\\x1b]0;b\\n\n"));
}

TEST(FailureReport, ShowsTheAccountOfARefusalAsATable) {
  EXPECT_EQ(failure_report(refusal(), Painter{false}),
            "forebay: process/kv: asked 5 MiB, 2 MiB free (6 MiB used of 8 MiB)\n"
            "  held by  process/kv/a  4 MiB  1 MiB reclaimable\n"
            "           process/kv/b  2 MiB\n"
            "  try      --kv-type q8_0\n"
            "           a shorter prompt\n");
}

TEST(FailureReport, IsOneLineForAnythingElse) {
  EXPECT_EQ(failure_report(Status{Code::io_error, "x: cannot read"}, Painter{false}),
            "forebay: x: cannot read\n");
}

TEST(PercentOf, RoundsButNeverToNothing) {
  EXPECT_EQ(percent_of(29_MiB, 100_MiB), "29 %");
  EXPECT_EQ(percent_of(1_B, 1_GiB), "<1 %");
  EXPECT_EQ(percent_of(0_B, 1_GiB), "0 %");
  EXPECT_EQ(percent_of(1_B, Bytes::unlimited()), "-");
}

TEST(ReasonOf, LeavesTheSizeOut) {
  EXPECT_EQ(reason_of({1_GiB, 2_GiB, "1 GiB as asked"}), "as asked");
  EXPECT_EQ(reason_of({1_GiB, 2_GiB, "1 GiB, which is 50 %"}), "which is 50 %");
  EXPECT_EQ(reason_of({1_GiB, 2_GiB, "1 GiB"}), "");
}

TEST(ExitOf, SaysTheSameAsTheStatus) {
  EXPECT_EQ(exit_of(Status{}), Exit::done);
  EXPECT_EQ(exit_of(refusal()), Exit::memory_refused);
  EXPECT_EQ(exit_of(Status{Code::interrupted, "x"}), Exit::interrupted);
  EXPECT_EQ(exit_of(Status{Code::corrupt_data, "x"}), Exit::bad_input);
}

}  // namespace
}  // namespace forebay::app
