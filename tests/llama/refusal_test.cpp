#include "llama/support.hpp"

namespace forebay::llama {
namespace {

using namespace literals;
using testing::continue_greedily;
using testing::Line;
using testing::read_prompt;
using testing::small_options;

struct Refusal : testing::WithOwnedBuffers {
  // Tokens that `count` more greedy steps give after `tokens`, with nothing in the way.
  static std::vector<Token> undisturbed(const std::vector<Token>& tokens, std::size_t count) {
    Line line;
    auto engine = Engine::load(small_options(), line.budgets()).value();
    EXPECT_TRUE(read_prompt(*engine, tokens, 128).ok());
    return continue_greedily(*engine, count).value();
  }
};

TEST_F(Refusal, KvOverItsBudgetIsRefusedBeforeTheDecodeAndTheEngineGoesOn) {
  Line line;
  auto loaded = Engine::load(small_options(1024, 128), line.budgets());
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  Engine& engine = **loaded;
  std::string text = "Words to begin with:";
  for (int i = 0; i < 110; ++i) text += " one two";
  const auto tokens = engine.tokenize(text).value();
  ASSERT_TRUE(read_prompt(engine, tokens, 128).ok());
  const Bytes before = engine.kv_committed();
  ASSERT_TRUE(line.kv.set_limit(before).ok());

  // KV comes some cells at a time; those that are committed are still used.
  std::vector<Token> generated;
  Status refused;
  while (engine.cells_used() < 300) {
    auto more = continue_greedily(engine, 1);
    if (!more) {
      refused = more.status();
      break;
    }
    generated.push_back((*more)[0]);
  }
  ASSERT_EQ(refused.code(), Code::memory_refused) << refused.message();
  ASSERT_NE(refused.refusal(), nullptr);
  EXPECT_EQ(refused.refusal()->budget, "process/kv");
  EXPECT_EQ(refused.refusal()->used, before);
  const auto shape = read_gguf_shape(testing::model_file()).value();
  EXPECT_EQ(engine.cells_used(), before / kv_bytes_per_token(shape, KvType::f16, KvType::f16));
  EXPECT_EQ(engine.kv_committed(), before);
  EXPECT_EQ(line.kv.stats().used, before);

  ASSERT_TRUE(line.kv.set_limit(Bytes::unlimited()).ok());
  const auto after = continue_greedily(engine, 8).value();
  generated.insert(generated.end(), after.begin(), after.end());
  EXPECT_EQ(generated, undisturbed(tokens, generated.size()));
}

TEST_F(Refusal, AFullContextSaysSoWithItsNumbers) {
  Line line;
  auto loaded = Engine::load(small_options(256, 256), line.budgets());
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  Engine& engine = **loaded;
  ASSERT_TRUE(read_prompt(engine, std::vector<Token>(250, 100), 256).ok());
  const Status status = engine.decode(testing::rows_of(std::vector<Token>(7, 100), 250));
  EXPECT_EQ(status.code(), Code::memory_refused);
  EXPECT_EQ(status.message(), "the context is full: 250 of 256 cells are used, 7 more are needed");
  EXPECT_TRUE(engine.decode(testing::rows_of(std::vector<Token>(6, 100), 250)).ok());
}

// Each of the owners in turn has one byte too little for the load.
TEST_F(Refusal, ALoadThatDoesNotFitNamesTheOwnerAndLeavesNothing) {
  Line open;
  auto engine = Engine::load(small_options(), open.budgets());
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  for (Budget Line::*const owner : {&Line::weights, &Line::compute, &Line::output}) {
    Line line;
    const Bytes needed = (open.*owner).stats().used;
    ASSERT_TRUE((line.*owner).set_limit(needed - 1_B).ok());
    auto refused = Engine::load(small_options(), line.budgets());
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.status().code(), Code::memory_refused) << refused.status().message();
    ASSERT_NE(refused.status().refusal(), nullptr);
    EXPECT_EQ(refused.status().refusal()->budget, (line.*owner).path());
    EXPECT_TRUE(line.used().is_zero());
    ASSERT_TRUE((line.*owner).set_limit(needed).ok());
    EXPECT_TRUE(Engine::load(small_options(), line.budgets()).ok());
  }
}

// What a run reached under a line.
struct Reached {
  Status status;
  std::vector<Token> generated;
  Bytes peak;
};

Reached run_under(Bytes limit) {
  Line line(limit);
  Reached reached;
  {
    auto engine = Engine::load(small_options(512, 64), line.budgets());
    reached.status = engine.status();
    if (engine.ok()) {
      const auto tokens = (*engine)->tokenize("A short story about rain:").value();
      reached.status = read_prompt(**engine, tokens, 64);
      while (reached.status.ok() && reached.generated.size() < 20) {
        auto next = continue_greedily(**engine, 1);
        reached.status = next.status();
        if (next.ok()) reached.generated.push_back((*next)[0]);
      }
    }
    reached.peak = line.process.stats().peak;
  }
  EXPECT_TRUE(line.used().is_zero());
  EXPECT_LE(reached.peak, limit);
  return reached;
}

TEST_F(Refusal, UnderEveryLineARunWorksOrIsRefusedCleanly) {
  const Reached whole = run_under(Bytes::unlimited());
  ASSERT_TRUE(whole.status.ok()) << whole.status.message();
  // Fine steps where compute, output and KV are taken; coarse ones through the weights.
  int refused = 0;
  Bytes limit = whole.peak;
  EXPECT_TRUE(run_under(limit).status.ok());
  while (limit > 13_MiB) {
    limit -= limit > whole.peak - 12_MiB ? 377_KiB : 12_MiB + 1_KiB;
    const Reached reached = run_under(limit);
    ASSERT_EQ(reached.status.code(), Code::memory_refused)
        << to_string(limit) << ": " << reached.status.message();
    ASSERT_NE(reached.status.refusal(), nullptr);
    EXPECT_TRUE(
        std::equal(reached.generated.begin(), reached.generated.end(), whole.generated.begin()));
    ++refused;
  }
  EXPECT_GT(refused, 30);
}

TEST_F(Refusal, GrowthPastTheFirstCellsIsRefusedUnderTheLineOfTheWholeProcess) {
  Line open;
  auto probe = Engine::load(small_options(1024, 128), open.budgets());
  ASSERT_TRUE(probe.ok());
  const Bytes loaded = open.used();
  ASSERT_TRUE(read_prompt(**probe, std::vector<Token>(128, 100), 128).ok());
  const Bytes step = open.used() - loaded;

  Line line(loaded + step * 2);
  auto engine = Engine::load(small_options(1024, 128), line.budgets());
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  const Status status = read_prompt(**engine, std::vector<Token>(640, 100), 128);
  EXPECT_EQ(status.code(), Code::memory_refused);
  EXPECT_EQ((*engine)->cells_used(), 256U);  // two batches; the third is refused
  EXPECT_LE(line.process.stats().peak, loaded + step * 2);
}

}  // namespace
}  // namespace forebay::llama
