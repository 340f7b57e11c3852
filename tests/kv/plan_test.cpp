#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>

#include "forebay/model.hpp"
#include "kv/shapes.hpp"

namespace forebay {
namespace {

using namespace forebay::literals;
using test::smollm2;
using testing::Contains;
using testing::HasSubstr;

PlanRequest request_below(Bytes line) {
  PlanRequest request;
  request.shape = smollm2();
  request.line = line;
  request.process = 6_MiB;
  return request;
}

TokenPlan planned(const PlanRequest& request) {
  const auto plan = plan_tokens(request);
  EXPECT_TRUE(plan) << plan.status().message();
  return *plan;
}

// The need of one exact run, asked through the public door: nothing is left to choose.
Bytes need_of(PlanRequest request, const RunShape& run) {
  request.run = run;
  request.parallel = run.parallel_tokens;
  request.line = Bytes::unlimited();
  return planned(request).need.total();
}

TEST(Plan, WithAmpleRoomGivesTheTrainedContextAndTheWholeParallelSet) {
  const TokenPlan plan = planned(request_below(2_GiB));
  EXPECT_TRUE(plan.fits);
  EXPECT_EQ(plan.run.context_tokens, 8192U);
  EXPECT_EQ(plan.run.parallel_tokens, 50U);
  EXPECT_EQ(plan.run.batch_tokens, 128U);
  EXPECT_EQ(plan.max_context_tokens, 8192U);
  EXPECT_EQ(plan.max_parallel_tokens, 50U);
  EXPECT_EQ(plan.kv_per_token, 23040_B);
  EXPECT_EQ(plan.need.weights, smollm2().weights);
  EXPECT_EQ(plan.need.kv, 180_MiB + 240_KiB);
  EXPECT_EQ(plan.need.output, Bytes{50ULL * 49152 * 4});
  EXPECT_FALSE(plan.need.measured);
  EXPECT_LE(plan.need.total(), plan.line);
}

TEST(Plan, UnderATightLineGivesLessContext) {
  const TokenPlan plan = planned(request_below(200_MiB));
  EXPECT_TRUE(plan.fits);
  EXPECT_LT(plan.run.context_tokens, 8192U);
  EXPECT_GE(plan.run.context_tokens, 1024U);
  EXPECT_THAT(plan.notes, Contains(HasSubstr("the line limits the context to")));
}

TEST(Plan, ARequestedContextIsKeptAndRoundedUp) {
  PlanRequest request = request_below(1_GiB);
  request.run.context_tokens = 1000;
  const TokenPlan plan = planned(request);
  EXPECT_EQ(plan.run.context_tokens, 1024U);
  EXPECT_EQ(plan.max_context_tokens, 8192U) << "what would fit beside the same parallel set";
  EXPECT_THAT(plan.notes, Contains("context rounded up from 1000 to 1024 tokens"));
}

TEST(Plan, ARequestedParallelSetIsKept) {
  PlanRequest request = request_below(1_GiB);
  request.parallel = 3;
  EXPECT_EQ(planned(request).run.parallel_tokens, 3U);
}

TEST(Plan, ABatchHoldsTheParallelSet) {
  PlanRequest request = request_below(1_GiB);
  request.run.batch_tokens = 16;
  EXPECT_EQ(planned(request).run.parallel_tokens, 16U) << "a set of our choice obeys the batch";
  request.parallel = 40;
  const TokenPlan plan = planned(request);
  EXPECT_EQ(plan.run.batch_tokens, 40U) << "a set that was asked for raises it";
  EXPECT_THAT(plan.notes, Contains(HasSubstr("batch raised from 16 to 40 tokens")));
}

TEST(Plan, ContextsBeyondTrainingAreNotedNotRefused) {
  PlanRequest request = request_below(4_GiB);
  request.run.context_tokens = 16384;
  const TokenPlan plan = planned(request);
  EXPECT_TRUE(plan.fits);
  EXPECT_EQ(plan.run.context_tokens, 16384U);
  EXPECT_THAT(plan.notes, Contains(HasSubstr("more than the model was trained for, 8192")));
}

TEST(Plan, AModelThatDoesNotSayItsContextGetsACap) {
  PlanRequest request = request_below(64_GiB);
  request.shape.context_trained = 0;
  const TokenPlan plan = planned(request);
  EXPECT_EQ(plan.run.context_tokens, 32768U);
  EXPECT_THAT(plan.notes, Contains(HasSubstr("does not say its context")));
}

TEST(Plan, TheBatchGivesWayBeforeTheRunIsRefused) {
  PlanRequest request = request_below(1_GiB);
  request.run.context_tokens = 8192;
  request.parallel = 1;
  const Bytes whole = planned(request).need.total();
  request.line = whole - 1_MiB;
  const TokenPlan plan = planned(request);
  EXPECT_TRUE(plan.fits);
  EXPECT_LT(plan.run.batch_tokens, 512U);
  EXPECT_THAT(plan.notes, Contains(HasSubstr("batch lowered from 128 to")));
}

TEST(Plan, TheProcessCountsAgainstTheLine) {
  PlanRequest request = request_below(2_GiB);
  const Bytes before = planned(request).need.total();
  request.process += 10_MiB;
  EXPECT_EQ(planned(request).need.total(), before + 10_MiB);
}

TEST(Plan, AMeterReplacesTheEstimate) {
  PlanRequest request = request_below(2_GiB);
  int calls = 0;
  request.compute = [&](const RunShape& run) -> Result<ComputeNeed> {
    ++calls;
    return ComputeNeed{Bytes{1000} * run.batch_tokens, Bytes{10} * run.parallel_tokens};
  };
  const TokenPlan plan = planned(request);
  EXPECT_TRUE(plan.need.measured);
  EXPECT_EQ(plan.need.compute, Bytes{128000});
  EXPECT_EQ(plan.need.output, Bytes{500});
  EXPECT_LT(calls, 40) << "a dry run costs milliseconds; a plan must not need hundreds";
  EXPECT_THAT(plan.notes, testing::Not(Contains(HasSubstr("estimate"))));
}

TEST(Plan, AMeterThatFailsAtAnyCallFailsThePlan) {
  PlanRequest request = request_below(200_MiB);
  int failures = 0;
  for (int good = 0;; ++good) {
    int left = good;
    request.compute = [&](const RunShape& run) -> Result<ComputeNeed> {
      if (left-- == 0) return Status{Code::unsupported, "no dry run here"};
      return ComputeNeed{Bytes{30000} * run.batch_tokens, Bytes{400000} * run.parallel_tokens};
    };
    const auto plan = plan_tokens(request);
    if (plan) break;
    ASSERT_EQ(plan.status().code(), Code::unsupported);
    ++failures;
  }
  EXPECT_GT(failures, 10);
}

TEST(Plan, NumbersThatOverflowAreRefused) {
  PlanRequest request = request_below(1_GiB);
  request.shape.weights = Bytes{UINT64_MAX - 1};
  EXPECT_EQ(plan_tokens(request).status().code(), Code::invalid_argument);
  request = request_below(1_GiB);
  request.shape.layers = request.shape.kv_heads = 65536;
  request.shape.head_dim_k = request.shape.head_dim_v = 65536;
  request.run.context_tokens = 1U << 31;
  EXPECT_EQ(plan_tokens(request).status().code(), Code::invalid_argument);
}

TEST(Plan, AdvisesNoQuantizedKvWhereHeadsAreNoWholeBlocks) {
  PlanRequest request = request_below(512_MiB);
  request.shape.head_dim_k = request.shape.head_dim_v = 48;
  request.compute = [](const RunShape& run) -> Result<ComputeNeed> {
    if (run.kv_k == KvType::f16) return ComputeNeed{1_MiB, 1_MiB};
    return Status{Code::unsupported, "block size 32 does not divide 48"};
  };
  for (const PlanAlternative& alternative : planned(request).alternatives) {
    EXPECT_THAT(alternative.change, testing::Not(HasSubstr("kv-type")));
  }
}

TEST(Plan, AnAlternativeThatTheEngineCannotDoIsLeftOut) {
  PlanRequest request = request_below(512_MiB);
  request.compute = [](const RunShape& run) -> Result<ComputeNeed> {
    if (run.kv_k == KvType::q4_0) return Status{Code::unsupported, "no q4_0 here"};
    return ComputeNeed{1_MiB, 1_MiB};
  };
  std::vector<std::string> changes;
  for (const auto& alternative : planned(request).alternatives)
    changes.push_back(alternative.change);
  EXPECT_THAT(changes, Contains("--kv-type q8_0"));
  EXPECT_THAT(changes, testing::Not(Contains("--kv-type q4_0")));
}

TEST(Plan, KvIsPlannedForTheCellsThatFillInWholeSteps) {
  PlanRequest request = request_below(512_MiB);
  request.run.context_tokens = 512;
  request.run.kv_tokens = 33;
  EXPECT_EQ(planned(request).need.kv, Bytes{23040} * 64 + 240_KiB);
  request.run.kv_tokens = 0;
  EXPECT_EQ(planned(request).need.kv, Bytes{23040} * 512 + 240_KiB);
}

TEST(Plan, AlternativesSayWhatEachChangeNeeds) {
  PlanRequest request = request_below(512_MiB);
  request.run.batch_tokens = 512;
  const TokenPlan plan = planned(request);
  std::vector<std::string> changes;
  for (const PlanAlternative& alternative : plan.alternatives) {
    changes.push_back(alternative.change);
    EXPECT_LT(alternative.need.total(), plan.need.total());
    EXPECT_TRUE(alternative.fits);
  }
  EXPECT_THAT(changes,
              testing::ElementsAre("--kv-type q8_0", "--kv-type q4_0", "--max-cache-tokens 4096",
                                   "--max-parallel-tokens 1", "--batch-tokens 128"));
  EXPECT_EQ(plan.alternatives[0].need.kv, Bytes{12240} * 8192 + 240_KiB);
  EXPECT_EQ(plan.alternatives[2].context_tokens, 4096U);
  EXPECT_EQ(plan.alternatives[2].need.kv, 90_MiB + 240_KiB);
}

// --- refusals --------------------------------------------------------------------------

TEST(PlanRefusal, APlanThatFitsIsNotRefused) {
  EXPECT_TRUE(refusal_of(planned(request_below(1_GiB))).ok());
}

TEST(PlanRefusal, CarriesTheAccountAndTheSmallestLine) {
  const TokenPlan plan = planned(request_below(64_MiB));
  EXPECT_FALSE(plan.fits);
  EXPECT_EQ(plan.run.context_tokens, kContextGranule);
  EXPECT_EQ(plan.run.parallel_tokens, 1U);
  EXPECT_EQ(plan.max_context_tokens, 0U);
  EXPECT_EQ(plan.max_parallel_tokens, 0U);
  const Status status = refusal_of(plan);
  ASSERT_EQ(status.code(), Code::memory_refused);
  const Refusal* refusal = status.refusal();
  ASSERT_NE(refusal, nullptr);
  EXPECT_EQ(refusal->asked, plan.smallest_line);
  EXPECT_EQ(refusal->limit, 64_MiB);
  ASSERT_EQ(refusal->holders.size(), 5U);
  EXPECT_EQ(refusal->holders[0].name, "weights");
  Bytes held;
  for (const Holder& holder : refusal->holders) held += holder.used;
  EXPECT_EQ(held, plan.need.total());
  EXPECT_THAT(refusal->advice, Contains(HasSubstr("--max-memory-gb 0.")));
}

// The number behind a flag in a line of advice.
double number_after(const std::string& text, const std::string& flag) {
  return std::stod(text.substr(text.find(flag) + flag.size()));
}

TEST(PlanRefusal, TheAdvisedLineWorks) {
  PlanRequest request = request_below(64_MiB);
  const Status status = refusal_of(planned(request));
  const double gigabytes = number_after(status.refusal()->advice.back(), "--max-memory-gb ");
  request.line = Bytes{static_cast<std::uint64_t>(gigabytes * (1 << 30))};
  EXPECT_TRUE(planned(request).fits);
}

TEST(PlanRefusal, AContextThatIsTooLargeIsAnsweredWithOneThatFits) {
  PlanRequest request = request_below(200_MiB);
  request.run.context_tokens = 8192;
  const TokenPlan plan = planned(request);
  EXPECT_FALSE(plan.fits);
  EXPECT_EQ(plan.run.context_tokens, 8192U) << "the smallest run keeps what was asked for";
  const auto shorter = std::find_if(plan.alternatives.begin(), plan.alternatives.end(),
                                    [](const PlanAlternative& alternative) {
                                      return alternative.change.starts_with("--max-cache-tokens");
                                    });
  ASSERT_NE(shorter, plan.alternatives.end());
  EXPECT_TRUE(shorter->fits);
  EXPECT_LE(shorter->need.total(), request.line);
  request.run.context_tokens = shorter->context_tokens;
  EXPECT_TRUE(planned(request).fits);
  request.run = plan.run;
  request.run.context_tokens = shorter->context_tokens + kContextGranule;
  request.parallel = plan.run.parallel_tokens;
  EXPECT_FALSE(planned(request).fits) << "it was the largest";
}

TEST(PlanRefusal, AParallelSetThatIsTooLargeIsAnsweredWithOneThatFits) {
  PlanRequest request = request_below(150_MiB);
  request.run.context_tokens = 256;
  request.parallel = 1000;
  const TokenPlan plan = planned(request);
  ASSERT_FALSE(plan.fits);
  const Status status = refusal_of(plan);
  EXPECT_THAT(status.refusal()->advice, Contains(HasSubstr("--max-parallel-tokens ")));
  request.parallel =
      static_cast<std::uint32_t>(number_after(status.message(), "--max-parallel-tokens "));
  EXPECT_TRUE(planned(request).fits);
}

TEST(PlanRefusal, WhereNoSingleChangeIsEnoughAllOfThemAreTried) {
  PlanRequest request = request_below(130_MiB);
  request.run.context_tokens = 8192;
  request.parallel = 255;
  const TokenPlan plan = planned(request);
  ASSERT_FALSE(plan.fits);
  ASSERT_FALSE(plan.alternatives.empty());
  EXPECT_EQ(plan.alternatives.back().change,
            "--kv-type q4_0 --max-cache-tokens 256 --max-parallel-tokens 1 --batch-tokens 32");
  EXPECT_TRUE(plan.alternatives.back().fits);
}

// --- properties ------------------------------------------------------------------------

PlanRequest any_request() {
  PlanRequest request;
  ModelShape& s = request.shape;
  s.layers = *rc::gen::inRange(1U, 81U);
  s.kv_heads = *rc::gen::inRange(1U, 17U);
  s.heads = s.kv_heads * *rc::gen::inRange(1U, 9U);
  s.head_dim_k = s.head_dim_v = *rc::gen::element(32U, 64U, 128U);
  s.embedding = *rc::gen::inRange(64U, 8193U);
  s.feed_forward = *rc::gen::inRange(64U, 30000U);
  s.vocabulary = *rc::gen::inRange(256U, 160000U);
  s.context_trained = *rc::gen::inRange(0U, 40000U);
  s.weights = Bytes{*rc::gen::inRange<std::uint64_t>(0, 8ULL << 30)};
  request.process = Bytes{*rc::gen::inRange<std::uint64_t>(0, 64ULL << 20)};
  request.run.batch_tokens = *rc::gen::element(1U, 32U, 100U, 512U, 2048U);
  request.run.kv_k = request.run.kv_v =
      *rc::gen::element(KvType::f16, KvType::bf16, KvType::q8_0, KvType::q4_0);
  if (*rc::gen::arbitrary<bool>()) request.run.context_tokens = *rc::gen::inRange(1U, 20000U);
  if (*rc::gen::arbitrary<bool>()) request.parallel = *rc::gen::inRange(1U, 300U);
  request.line = Bytes{*rc::gen::inRange<std::uint64_t>(1, 16ULL << 30)};
  return request;
}

template <typename Property>
void hold(Property property) {
  EXPECT_TRUE(rc::check(property));
}

TEST(PlanProperty, WhatFitsIsBelowTheLineAndWhatDoesNotIsAbove) {
  hold([] {
    const PlanRequest request = any_request();
    const TokenPlan plan = planned(request);
    RC_ASSERT(plan.fits == (plan.need.total() <= request.line));
    RC_ASSERT(plan.fits == (request.line >= plan.smallest_line));
    RC_ASSERT(plan.run.context_tokens % kContextGranule == 0U);
    RC_ASSERT(plan.run.parallel_tokens <= plan.run.batch_tokens);
    if (request.parallel) RC_ASSERT(plan.run.parallel_tokens == *request.parallel);
    if (request.run.context_tokens != 0) {
      RC_ASSERT(plan.run.context_tokens >= request.run.context_tokens);
      RC_ASSERT(plan.run.context_tokens < request.run.context_tokens + kContextGranule);
    }
  });
}

TEST(PlanProperty, TheNeedOfAPlanIsTheNeedOfItsRun) {
  hold([] {
    const PlanRequest request = any_request();
    const TokenPlan plan = planned(request);
    RC_ASSERT(need_of(request, plan.run) == plan.need.total());
  });
}

TEST(PlanProperty, OneGranuleMoreOrOneLaneMoreDoesNotFit) {
  hold([] {
    const PlanRequest request = any_request();
    const TokenPlan plan = planned(request);
    RC_PRE(plan.fits);
    RunShape more = plan.run;
    more.context_tokens = plan.max_context_tokens;
    RC_ASSERT(need_of(request, more) <= request.line);
    more.context_tokens += kContextGranule;
    const std::uint32_t trained = request.shape.context_trained;
    const std::uint32_t bound = std::max(trained == 0 ? 32768U : trained, plan.run.context_tokens);
    if (plan.max_context_tokens < bound) RC_ASSERT(need_of(request, more) > request.line);

    RunShape wider = plan.run;
    wider.parallel_tokens = plan.max_parallel_tokens;
    RC_ASSERT(need_of(request, wider) <= request.line);
    wider.parallel_tokens += 1;
    const std::uint32_t most = std::min({50U, plan.run.batch_tokens, plan.run.context_tokens});
    if (plan.max_parallel_tokens < most) RC_ASSERT(need_of(request, wider) > request.line);
  });
}

TEST(PlanProperty, AContextOfItsChoiceIsTheLargestForItsBatchAndParallelSet) {
  hold([] {
    PlanRequest request = any_request();
    request.run.context_tokens = 0;
    const TokenPlan plan = planned(request);
    RC_PRE(plan.fits);
    RC_ASSERT(plan.run.context_tokens == plan.max_context_tokens);
  });
}

TEST(PlanProperty, AHigherLineNeverFitsLess) {
  hold([] {
    PlanRequest request = any_request();
    const TokenPlan low = planned(request);
    request.line += Bytes{*rc::gen::inRange<std::uint64_t>(0, 1ULL << 30)};
    const TokenPlan high = planned(request);
    RC_ASSERT(high.smallest_line == low.smallest_line);
    RC_ASSERT(!low.fits || high.fits);
    if (low.fits && request.parallel && low.run.batch_tokens == high.run.batch_tokens) {
      RC_ASSERT(high.max_context_tokens >= low.max_context_tokens);
    }
  });
}

TEST(PlanProperty, TheSmallestLineFitsAndOneByteLessDoesNot) {
  hold([] {
    PlanRequest request = any_request();
    const Bytes smallest = planned(request).smallest_line;
    request.line = smallest;
    const TokenPlan at = planned(request);
    RC_ASSERT(at.fits);
    RC_ASSERT(at.need.total() <= smallest);
    request.line = smallest - 1_B;
    RC_ASSERT(!planned(request).fits);
  });
}

TEST(PlanProperty, AlternativesNeedLessAndSayTruthfullyWhetherTheyFit) {
  hold([] {
    const PlanRequest request = any_request();
    const TokenPlan plan = planned(request);
    for (const PlanAlternative& alternative : plan.alternatives) {
      RC_ASSERT(alternative.need.total() < plan.need.total());
      RC_ASSERT(alternative.fits == (alternative.need.total() <= request.line));
    }
  });
}

TEST(PlanProperty, ARefusalNamesEachOwnerAndALineThatWorks) {
  hold([] {
    PlanRequest request = any_request();
    request.line = Bytes{*rc::gen::inRange<std::uint64_t>(1, 1ULL << 28)};
    const TokenPlan plan = planned(request);
    RC_PRE(!plan.fits);
    const Status status = refusal_of(plan);
    RC_ASSERT(status.code() == Code::memory_refused);
    RC_ASSERT(status.refusal()->holders.size() == 5U);
    const double gigabytes = number_after(status.refusal()->advice.back(), "--max-memory-gb ");
    RC_ASSERT(gigabytes * (1 << 30) >= static_cast<double>(plan.smallest_line.count()) - 1);
  });
}

}  // namespace
}  // namespace forebay
