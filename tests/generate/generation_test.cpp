#include "llama/generation.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "generate/scripted_engine.hpp"

namespace forebay::llama {
namespace {

using forebay::testing::ScriptedEngine;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::int32_t kPromptTokens = 3;

LoopLimits limits_for(std::uint32_t positions) {
  return {.max_tokens = positions,
          .max_parallel_tokens = 4,
          .max_cache_tokens = 1000,
          .kv_per_token = Bytes{1024},
          .batch_tokens = 2,
          .selection_threshold = 0.2};
}

LoopOutcome run(ScriptedEngine& engine, const LoopLimits& limits, const LoopHooks& hooks = {}) {
  const std::vector<Token> prompt(kPromptTokens, 1);
  return run_generation(engine, prompt, limits, hooks);
}

std::string text_of(const GenerateStep& step) {
  std::string text;
  for (const ParallelToken& token : step.tokens) text += (token.pruned ? "-" : "") + token.text;
  return text;
}

TEST(Generation, ReadsThePromptInBatchesAndAsksOnlyForTheLastLogits) {
  ScriptedEngine engine;
  run(engine, limits_for(1));
  ASSERT_EQ(engine.decodes.size(), 2U);  // 3 tokens by 2; the last position decodes nothing
  EXPECT_EQ(engine.decodes[0].size(), 2U);
  EXPECT_EQ(engine.decodes[1].size(), 1U);
  EXPECT_FALSE(engine.decodes[0][1].wants_logits);
  EXPECT_TRUE(engine.decodes[1][0].wants_logits);
  EXPECT_EQ(engine.decodes[1][0].position, 2);
}

TEST(Generation, TokensOverTheThresholdShareOnePosition) {
  ScriptedEngine engine;
  engine.next[2] = {{4, 0.5}, {7, 0.3}, {9, 0.1}};
  const LoopOutcome outcome = run(engine, limits_for(2));
  ASSERT_EQ(outcome.steps.size(), 2U);
  EXPECT_EQ(text_of(outcome.steps[0]), "eh");
  EXPECT_NEAR(outcome.steps[0].tokens[0].probability, 0.5, 1e-5);
  const std::vector<Row>& rows = engine.decodes.back();
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].token, 7);  // the most probable token is the last row, and predicts
  EXPECT_EQ(rows[1].token, 4);
  EXPECT_EQ(rows[0].position, 3);
  EXPECT_EQ(rows[1].position, 3);
  EXPECT_FALSE(rows[0].wants_logits);
  EXPECT_TRUE(rows[1].wants_logits);
}

TEST(Generation, ThresholdOneIsGreedy) {
  ScriptedEngine engine;
  engine.next[2] = {{4, 0.5}, {7, 0.5}};
  LoopLimits limits = limits_for(2);
  limits.selection_threshold = 1.0;
  EXPECT_EQ(text_of(run(engine, limits).steps[0]), "e");  // the first of equals
}

TEST(Generation, ASetOverTheParallelLimitIsTrimmedToItsTop) {
  ScriptedEngine engine;
  engine.next[2] = {{4, 0.4}, {7, 0.3}, {9, 0.25}};
  LoopLimits limits = limits_for(2);
  limits.max_parallel_tokens = 2;
  const LoopOutcome outcome = run(engine, limits);
  EXPECT_EQ(text_of(outcome.steps[0]), "eh-j");
  EXPECT_EQ(outcome.trims, 1U);
  EXPECT_EQ(engine.decodes.back().size(), 2U);
}

TEST(Generation, OfManyPrunedTokensTheMostProbableAreKept) {
  ScriptedEngine engine;
  engine.wide_vocabulary = true;  // 200 tokens, all alike
  LoopLimits limits = limits_for(2);
  limits.selection_threshold = 0.001;
  const LoopOutcome outcome = run(engine, limits);
  EXPECT_EQ(outcome.steps[0].tokens.size(), 4U + 32U);
  EXPECT_EQ(outcome.trims, 2U);
}

TEST(Generation, ASetThatTheBudgetRefusesIsTrimmedUntilItFits) {
  ScriptedEngine engine;
  engine.next[2] = {{4, 0.4}, {7, 0.3}, {9, 0.25}};
  engine.cells_that_fit = kPromptTokens + 1;
  const LoopOutcome outcome = run(engine, limits_for(3));
  EXPECT_EQ(text_of(outcome.steps[0]), "e-h-j");
  EXPECT_EQ(outcome.trims, 1U);
  EXPECT_EQ(outcome.stop, StopReason::cache_full);  // at the second position
  EXPECT_EQ(outcome.steps.size(), 2U);              // whose token is kept all the same
  ASSERT_NE(outcome.outcome.refusal(), nullptr);
  EXPECT_EQ(outcome.outcome.refusal()->budget, "process/kv");
}

TEST(Generation, StopsAtTheCacheLimitInTokensBeforeDecoding) {
  ScriptedEngine engine;
  LoopLimits limits = limits_for(10);
  limits.max_cache_tokens = kPromptTokens + 2;
  const LoopOutcome outcome = run(engine, limits);
  EXPECT_EQ(outcome.stop, StopReason::cache_full);
  EXPECT_EQ(outcome.outcome.code(), Code::memory_refused);
  EXPECT_THAT(outcome.outcome.message(), HasSubstr("5 of 5 tokens used"));
  ASSERT_NE(outcome.outcome.refusal(), nullptr);
  EXPECT_EQ(outcome.outcome.refusal()->limit, Bytes{5 * 1024});
  EXPECT_THAT(outcome.outcome.refusal()->advice, ElementsAre("--max-cache-tokens 13 or more"));
  EXPECT_EQ(engine.cells_used(), 5U);
  EXPECT_EQ(outcome.steps.size(), 3U);
  EXPECT_EQ(outcome.cache_denials, 1U);
}

TEST(Generation, APromptOverTheCacheLimitIsRefusedWithNothingGenerated) {
  ScriptedEngine engine;
  LoopLimits limits = limits_for(10);
  limits.max_cache_tokens = 2;
  const LoopOutcome outcome = run(engine, limits);
  EXPECT_EQ(outcome.stop, StopReason::cache_full);
  EXPECT_TRUE(outcome.steps.empty());
  EXPECT_THAT(outcome.outcome.message(), HasSubstr("reading the prompt"));
}

TEST(Generation, EndsAtTheModelsEndTokenWithoutAStepForIt) {
  ScriptedEngine engine;
  engine.next[3] = {{ScriptedEngine::kEnd, 0.9}};
  const LoopOutcome outcome = run(engine, limits_for(10));
  EXPECT_EQ(outcome.stop, StopReason::end_of_text);
  EXPECT_TRUE(outcome.outcome.ok());
  EXPECT_EQ(outcome.steps.size(), 1U);
}

TEST(Generation, AnEndTokenThatIsNotTheMostProbableEndsOnlyItsBranch) {
  ScriptedEngine engine;
  engine.next[2] = {{4, 0.4}, {ScriptedEngine::kEnd, 0.35}, {7, 0.25}};
  LoopLimits limits = limits_for(2);
  limits.max_parallel_tokens = 2;
  const LoopOutcome outcome = run(engine, limits);
  EXPECT_EQ(outcome.stop, StopReason::max_tokens);
  EXPECT_EQ(text_of(outcome.steps[0]), "e-ah");
  EXPECT_EQ(outcome.trims, 0U);  // nothing was over the limit
  EXPECT_EQ(engine.decodes.back().size(), 2U);
}

TEST(Generation, AnEndTokenBelowTheThresholdDoesNotEndIt) {
  ScriptedEngine engine;
  engine.next[3] = {{5, 0.85}, {ScriptedEngine::kEnd, 0.15}};
  EXPECT_EQ(run(engine, limits_for(4)).stop, StopReason::max_tokens);
}

TEST(Generation, StopsBetweenPositionsWhenAsked) {
  ScriptedEngine engine;
  int asked = 0;
  LoopHooks hooks;
  hooks.stop = [&] { return ++asked > 4; };  // 2 prompt batches, 2 positions
  const LoopOutcome outcome = run(engine, limits_for(10), hooks);
  EXPECT_EQ(outcome.stop, StopReason::interrupted);
  EXPECT_EQ(outcome.steps.size(), 2U);
}

TEST(Generation, EndsWhenTheLineIsReachedKeepingWhatThereIs) {
  ScriptedEngine engine;
  int decodes = 0;
  LoopHooks hooks;
  hooks.after_decode = [&] {
    return ++decodes == 4 ? Status{Code::memory_refused, "process: full"} : Status{};
  };
  const LoopOutcome outcome = run(engine, limits_for(10), hooks);
  EXPECT_EQ(outcome.stop, StopReason::line_reached);
  EXPECT_EQ(outcome.steps.size(), 2U);
  EXPECT_EQ(outcome.outcome.message(), "process: full");
}

// Every decode of a run, made to fail in turn: the run ends there, with what it had.
TEST(Generation, AnyFailingDecodeEndsTheRunWithItsReason) {
  for (const Code code : {Code::io_error, Code::interrupted}) {
    for (int n = 0; n < 6; ++n) {
      ScriptedEngine engine;
      engine.fail_decode = {n, Status{code, "scripted"}};
      const LoopOutcome outcome = run(engine, limits_for(5));
      EXPECT_EQ(outcome.stop,
                code == Code::io_error ? StopReason::failed : StopReason::interrupted);
      EXPECT_THAT(outcome.outcome.message(), HasSubstr("scripted"));
      EXPECT_EQ(outcome.steps.size(), n < 2 ? 0U : static_cast<std::size_t>(n - 1));
      EXPECT_EQ(engine.decodes.size(), static_cast<std::size_t>(n));
    }
  }
}

TEST(Generation, TellsEachStepInOrder) {
  ScriptedEngine engine;
  std::vector<std::uint32_t> told;
  LoopHooks hooks;
  hooks.on_step = [&](const GenerateStep& step) { told.push_back(step.position); };
  run(engine, limits_for(4), hooks);
  EXPECT_THAT(told, ElementsAre(0, 1, 2, 3));
}

}  // namespace
}  // namespace forebay::llama
