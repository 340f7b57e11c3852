#include "llama/support.hpp"

namespace forebay::llama {
namespace {

using namespace literals;
using testing::Line;
using testing::read_prompt;
using testing::resident;
using testing::small_options;

struct Memory : testing::WithOwnedBuffers {
  static ModelShape shape() { return read_gguf_shape(testing::model_file()).value(); }
};

TEST_F(Memory, AContextTakesNoKvBeforeTheFirstToken) {
  Line line;
  // The first load of a process pays for much that stays: tokenizer pages, heap.
  ASSERT_TRUE(Engine::load(small_options(256), line.budgets()).ok());
  auto small = Engine::load(small_options(256, 128), line.budgets());
  ASSERT_TRUE(small.ok());
  const Bytes before = resident();
  const Bytes weights = line.weights.stats().used;
  auto engine = Engine::load(small_options(8192, 512, 8), line.budgets());
  ASSERT_TRUE(engine.ok()) << engine.status().message();
#if defined(__SANITIZE_ADDRESS__)
  const Bytes tokenizer = 64_MiB;
#else
  const Bytes tokenizer = 24_MiB;  // its own copy, next to that of `small`
#endif
  EXPECT_LE(saturating_sub(resident(), before), weights + tokenizer + 16_MiB);
  EXPECT_TRUE((*engine)->kv_committed().is_zero());
  EXPECT_TRUE(line.kv.stats().used.is_zero());
}

TEST_F(Memory, KvFollowsTheTokens) {
  Line line;
  auto loaded = Engine::load(small_options(1024, 256), line.budgets());
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  Engine& engine = **loaded;
  const Bytes per_token = kv_bytes_per_token(shape(), KvType::f16, KvType::f16);
  // The first batch also touches compute and output; growth is measured after it.
  ASSERT_TRUE(read_prompt(engine, std::vector<Token>(256, 100), 256).ok());
  EXPECT_EQ(engine.kv_committed(), per_token * 256);
  const Bytes before = resident();
  for (std::int32_t position = 256; position < 1024; position += 256)
    ASSERT_TRUE(engine.decode(testing::rows_of(std::vector<Token>(256, 100), position)).ok());
  EXPECT_EQ(engine.kv_committed(), per_token * 1024);
  EXPECT_EQ(line.kv.stats().used, engine.kv_committed());
  const Bytes grown = saturating_sub(resident(), before);
  EXPECT_GE(grown, fraction_of(per_token * 768, 0.97));
  EXPECT_LE(grown, per_token * 768 + 4_MiB);
}

TEST_F(Memory, QuantizedKvTakesWhatTheFormulaSays) {
  for (const KvType type : {KvType::q8_0, KvType::q4_0, KvType::bf16}) {
    Line line;
    EngineOptions options = small_options(256, 128);
    options.run.kv_k = type;
    options.run.kv_v = type;
    auto engine = Engine::load(options, line.budgets());
    ASSERT_TRUE(engine.ok()) << engine.status().message();
    // The whole context: rows of every tensor then end where the next begin, in whole pages.
    ASSERT_TRUE(read_prompt(**engine, std::vector<Token>(256, 100), 128).ok());
    const Bytes formula = kv_bytes_per_token(shape(), type, type) * 256;
    EXPECT_GE((*engine)->kv_committed(), formula) << to_string(type);
    EXPECT_LE((*engine)->kv_committed(), formula + 4_KiB) << to_string(type);
  }
}

TEST_F(Memory, WithoutFlashAttentionKvIsCommittedWholeAndStillDecodes) {
  Line line;
  EngineOptions options = small_options(512, 64);
  options.flash_attention = false;
  const Bytes whole = kv_bytes_per_token(shape(), KvType::f16, KvType::f16) * 512;
  {
    auto engine = Engine::load(options, line.budgets());
    ASSERT_TRUE(engine.ok()) << engine.status().message();
    EXPECT_EQ((*engine)->kv_committed(), whole);
    ASSERT_TRUE(read_prompt(**engine, std::vector<Token>(300, 100), 64).ok());
    EXPECT_EQ((*engine)->kv_committed(), whole);
  }
  ASSERT_TRUE(line.kv.set_limit(whole - 1_B).ok());
  const Status refused = Engine::load(options, line.budgets()).status();
  EXPECT_EQ(refused.code(), Code::memory_refused);
  EXPECT_TRUE(line.used().is_zero());
}

TEST_F(Memory, MeasureSaysWhatALoadCharges) {
  const std::vector<RunShape> runs = {
      {.context_tokens = 512, .batch_tokens = 64, .parallel_tokens = 1},
      {.context_tokens = 2048, .batch_tokens = 512, .parallel_tokens = 8},
      {.context_tokens = 8192, .batch_tokens = 128, .parallel_tokens = 50},
      {.context_tokens = 1024,
       .batch_tokens = 256,
       .parallel_tokens = 4,
       .kv_k = KvType::q8_0,
       .kv_v = KvType::q8_0}};
  for (const RunShape& run : runs) {
    const auto need = testing::measure(testing::model_file(), run);
    ASSERT_TRUE(need.ok()) << need.status().message();
    Line line;
    EngineOptions options = small_options();
    options.run = run;
    auto engine = Engine::load(options, line.budgets());
    ASSERT_TRUE(engine.ok()) << engine.status().message();
    EXPECT_EQ(line.compute.stats().used, need->compute);
    EXPECT_EQ(line.output.stats().used, need->output);
    EXPECT_EQ(line.weights.stats().used, shape().weights);
  }
}

TEST_F(Memory, MeasureReadsNoWeights) {
  const RunShape run{.context_tokens = 8192, .batch_tokens = 512, .parallel_tokens = 8};
  ASSERT_TRUE(testing::measure(testing::model_file(), run).ok());
  const Bytes before = resident();
  ASSERT_TRUE(testing::measure(testing::model_file(), run).ok());
#if defined(__SANITIZE_ADDRESS__)
  const Bytes most = shape().weights;  // freed heap stays resident in the quarantine
#else
  const Bytes most = 2_MiB;
#endif
  EXPECT_LT(saturating_sub(resident(), before), most);
}

// Decoding at full width takes no more compute or output than was charged at load.
TEST_F(Memory, NothingIsChargedLaterExceptKv) {
  Line line;
  auto loaded = Engine::load(small_options(1024, 128, 8), line.budgets());
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  Engine& engine = **loaded;
  const Bytes compute = line.compute.stats().used;
  const Bytes output = line.output.stats().used;
  std::int32_t position = 0;
  for (const std::size_t rows : {128U, 1U, 8U, 3U, 64U}) {
    std::vector<Row> batch(rows);
    for (std::size_t i = 0; i < rows; ++i)
      batch[i] = {.token = 200, .position = position++, .wants_logits = i < 8};
    ASSERT_TRUE(engine.decode(batch).ok());
    std::vector<Row> set(8, Row{.token = 300, .position = position++, .wants_logits = true});
    ASSERT_TRUE(engine.decode(set).ok());
  }
  EXPECT_EQ(line.compute.stats().peak, compute);
  EXPECT_EQ(line.output.stats().peak, output);
}

}  // namespace
}  // namespace forebay::llama
