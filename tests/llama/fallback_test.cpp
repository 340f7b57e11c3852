// The engine where llama.cpp's buffers cannot be owned.
#include "llama/support.hpp"

namespace forebay::llama {
namespace {

using namespace literals;
using testing::continue_greedily;
using testing::Line;
using testing::read_prompt;
using testing::small_options;

struct Fallback : testing::WithModel {
  static EngineOptions options() {
    EngineOptions options = small_options();
    options.own_buffers = false;
    return options;
  }
};

TEST_F(Fallback, SaysSoAndGivesTheSameTokens) {
  Line line;
  auto owned = Engine::load(small_options(), line.budgets());
  auto other = Engine::load(options(), line.budgets());
  ASSERT_TRUE(owned.ok() && other.ok()) << other.status().message();
  EXPECT_FALSE((*other)->owns_buffers());
  EXPECT_NE((*other)->ownership_note(), "");
  const auto tokens = (*owned)->tokenize("Rivers flow to").value();
  ASSERT_TRUE(read_prompt(**owned, tokens, 128).ok());
  ASSERT_TRUE(read_prompt(**other, tokens, 128).ok());
  EXPECT_EQ(continue_greedily(**owned, 12).value(), continue_greedily(**other, 12).value());
}

TEST_F(Fallback, ChargesTheSameBytesWithKvWhole) {
  Line owned_line;
  Line line;
  auto owned = Engine::load(small_options(), owned_line.budgets());
  auto other = Engine::load(options(), line.budgets());
  ASSERT_TRUE(owned.ok() && other.ok()) << other.status().message();
  EXPECT_EQ(line.weights.stats().used, owned_line.weights.stats().used);
  EXPECT_EQ(line.compute.stats().used, owned_line.compute.stats().used);
  EXPECT_EQ(line.output.stats().used, owned_line.output.stats().used);
  const auto shape = read_gguf_shape(testing::model_file()).value();
  EXPECT_EQ(line.kv.stats().used, kv_bytes_per_token(shape, KvType::f16, KvType::f16) * 1024);
  EXPECT_EQ((*other)->kv_committed(), line.kv.stats().used);
  other->reset();
  EXPECT_TRUE(line.used().is_zero());
}

TEST_F(Fallback, IsRefusedBeforeLlamaCppAllocates) {
  Line open;
  auto engine = Engine::load(options(), open.budgets());
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  for (Budget Line::*const owner : {&Line::weights, &Line::kv, &Line::compute, &Line::output}) {
    Line line;
    ASSERT_TRUE((line.*owner).set_limit((open.*owner).stats().used - 1_B).ok());
    const Status status = Engine::load(options(), line.budgets()).status();
    EXPECT_EQ(status.code(), Code::memory_refused) << status.message();
    ASSERT_NE(status.refusal(), nullptr);
    EXPECT_EQ(status.refusal()->budget, (line.*owner).path());
    EXPECT_TRUE(line.used().is_zero());
  }
}

}  // namespace
}  // namespace forebay::llama
