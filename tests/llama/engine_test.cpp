#include <algorithm>

#include "llama/reference.hpp"
#include "llama/support.hpp"

namespace forebay::llama {
namespace {

using testing::continue_greedily;
using testing::Line;
using testing::most_likely;
using testing::read_prompt;
using testing::small_options;

struct EngineTest : testing::WithModel {};

std::string long_text() {
  std::string text = "A list of things to remember:";
  for (int i = 1; i <= 70; ++i)
    text += "\n" + std::to_string(i) + ". item " + std::to_string(i * i);
  return text;
}

class SameTokens : public testing::WithModel, public ::testing::WithParamInterface<std::string> {};

TEST_P(SameTokens, AsPlainLlamaCpp) {
  const auto expected = testing::decode_greedily(testing::model_file(), GetParam(), 48, 2048);
  Line line;
  auto engine = Engine::load(small_options(2048, 512, 4), line.budgets());
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  const auto tokens = (*engine)->tokenize(GetParam()).value();
  ASSERT_EQ(tokens, expected.prompt);
  ASSERT_TRUE(read_prompt(**engine, tokens, 512).ok());
  const auto logits = (*engine)->logits(0);
  EXPECT_TRUE(
      std::equal(logits.begin(), logits.end(), expected.logits.begin(), expected.logits.end()));
  EXPECT_EQ(continue_greedily(**engine, 48).value(), expected.generated);
}

INSTANTIATE_TEST_SUITE_P(Prompts, SameTokens,
                         ::testing::Values("Once upon a time", "The capital of France is",
                                           "<|im_start|>user\nWhy is the sky blue?<|im_end|>\n"
                                           "<|im_start|>assistant\n",
                                           long_text()));

struct OwnedEngineTest : testing::WithOwnedBuffers {};

TEST_F(OwnedEngineTest, OwnsItsBuffers) {
  Line line;
  auto engine = Engine::load(small_options(), line.budgets());
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  EXPECT_TRUE((*engine)->owns_buffers());
  EXPECT_EQ((*engine)->ownership_note(), "");
}

TEST_F(EngineTest, TellsTokensTextAndTheChatTemplate) {
  Line line;
  auto loaded = Engine::load(small_options(), line.budgets());
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  Engine& engine = **loaded;
  EXPECT_EQ(engine.vocabulary(), 49152U);
  EXPECT_EQ(engine.context_tokens(), 1024U);
  std::string text;
  const auto tokens = engine.tokenize("Hello, wörld").value();
  for (const Token token : tokens) text += engine.piece(token);
  EXPECT_EQ(text, "Hello, wörld");
  EXPECT_EQ(engine.piece(-1), "");
  EXPECT_EQ(engine.piece(1 << 30), "");
  const auto prompt = engine.apply_chat_template("Hi").value();
  EXPECT_NE(prompt.find("<|im_start|>user\nHi<|im_end|>"), std::string::npos) << prompt;
  const auto end = engine.tokenize("<|im_end|>").value();
  ASSERT_EQ(end.size(), 1U);
  EXPECT_TRUE(engine.ends_generation(end[0]));
  EXPECT_FALSE(engine.ends_generation(engine.tokenize("Hi").value()[0]));
  EXPECT_FALSE(engine.ends_generation(-1));
}

TEST_F(EngineTest, APromptReadInSmallBatchesGivesTheSameWords) {
  Line line;
  auto one = Engine::load(small_options(1024, 256), line.budgets());
  auto many = Engine::load(small_options(1024, 16), line.budgets());
  ASSERT_TRUE(one.ok() && many.ok());
  const auto tokens = (*one)->tokenize("The three laws of robotics, in short, are these.").value();
  ASSERT_TRUE(read_prompt(**one, tokens, 256).ok());
  ASSERT_TRUE(read_prompt(**many, tokens, 5).ok());
  EXPECT_EQ(continue_greedily(**one, 16).value(), continue_greedily(**many, 16).value());
}

TEST_F(EngineTest, RowsAtOnePositionDecodeAndGiveLogitsEach) {
  Line line;
  auto loaded = Engine::load(small_options(), line.budgets());
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  Engine& engine = **loaded;
  const auto tokens = engine.tokenize("My favourite colour is").value();
  ASSERT_TRUE(read_prompt(engine, tokens, 128).ok());
  const auto position = static_cast<std::int32_t>(tokens.size());
  const std::vector<Token> set = engine.tokenize(" red green blue").value();
  ASSERT_GE(set.size(), 3U);
  std::vector<Row> rows;
  for (std::size_t i = 0; i < 3; ++i)
    rows.push_back({.token = set[i], .position = position, .wants_logits = i != 1});
  ASSERT_TRUE(engine.decode(rows).ok());
  EXPECT_EQ(engine.cells_used(), tokens.size() + 3);
  EXPECT_EQ(engine.logits(0).size(), engine.vocabulary());
  EXPECT_EQ(engine.logits(1).size(), engine.vocabulary());
  EXPECT_TRUE(engine.logits(2).empty());
  const Row next{.token = set[0], .position = position + 1, .wants_logits = true};
  EXPECT_TRUE(engine.decode({&next, 1}).ok());
}

TEST_F(EngineTest, RefusesMoreOutputsThanItHasRoomFor) {
  Line line;
  auto loaded = Engine::load(small_options(1024, 128, 2), line.budgets());
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  const std::vector<Row> rows(3, Row{.token = 100, .position = 0, .wants_logits = true});
  const Status status = (*loaded)->decode(rows);
  EXPECT_EQ(status.code(), Code::invalid_argument);
  EXPECT_NE(status.message().find("parallel_tokens = 2"), std::string::npos) << status.message();
  EXPECT_EQ((*loaded)->cells_used(), 0U);
  EXPECT_TRUE((*loaded)->decode(std::span(rows).first(2)).ok());
}

TEST_F(EngineTest, RefusesRowsThatLlamaCppWouldNotTake) {
  Line line;
  auto loaded = Engine::load(small_options(1024, 8), line.budgets());
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  Engine& engine = **loaded;
  const auto code = [&](std::vector<Row> rows) { return engine.decode(rows).code(); };
  EXPECT_EQ(code({}), Code::invalid_argument);
  EXPECT_EQ(code(std::vector<Row>(9)), Code::invalid_argument);
  EXPECT_EQ(code({{.token = 5, .position = 1}}), Code::invalid_argument);  // a gap
  EXPECT_EQ(code({{.token = 5, .position = -1}}), Code::invalid_argument);
  EXPECT_EQ(code({{.token = -1, .position = 0}}), Code::invalid_argument);
  EXPECT_EQ(code({{.token = 49152, .position = 0}}), Code::invalid_argument);
  EXPECT_EQ(code({{.token = 5, .position = 0}, {.token = 5, .position = 2}}),
            Code::invalid_argument);
  EXPECT_EQ(code({{.token = 5, .position = 0}, {.token = 5, .position = 1}}), Code::ok);
  EXPECT_EQ(code({{.token = 5, .position = 1}}), Code::invalid_argument);  // taken already
  EXPECT_EQ(code({{.token = 5, .position = 2}}), Code::ok);
  EXPECT_TRUE(engine.logits(0).empty());  // nobody asked for any
}

TEST_F(EngineTest, TwoThreadsGiveTheSameTokens) {
  Line line;
  EngineOptions options = small_options();
  auto one = Engine::load(options, line.budgets());
  options.threads = 2;
  auto two = Engine::load(options, line.budgets());
  ASSERT_TRUE(one.ok() && two.ok());
  // Few tokens: on a machine with other work, threads that wait for each other are slow.
  const auto tokens = (*one)->tokenize("Water boils at").value();
  ASSERT_TRUE(read_prompt(**one, tokens, 128).ok());
  ASSERT_TRUE(read_prompt(**two, tokens, 128).ok());
  EXPECT_EQ(continue_greedily(**one, 2).value(), continue_greedily(**two, 2).value());
}

TEST_F(EngineTest, StopsWhenAskedAndGoesOnAsIfNothingHappened) {
  Line line;
  bool stop = false;
  EngineOptions options = small_options();
  options.should_stop = [&] { return stop; };
  auto stopped = Engine::load(options, line.budgets());
  auto plain = Engine::load(small_options(), line.budgets());
  ASSERT_TRUE(stopped.ok() && plain.ok());
  const auto tokens = (*plain)->tokenize("The quick brown fox").value();
  ASSERT_TRUE(read_prompt(**stopped, tokens, 128).ok());
  ASSERT_TRUE(read_prompt(**plain, tokens, 128).ok());
  const Token next = most_likely((*plain)->logits(0));
  const Row row{
      .token = next, .position = static_cast<std::int32_t>(tokens.size()), .wants_logits = true};
  stop = true;
  EXPECT_EQ((*stopped)->decode({&row, 1}).code(), Code::interrupted);
  EXPECT_EQ((*stopped)->cells_used(), tokens.size());
  EXPECT_TRUE((*stopped)->logits(0).empty());
  stop = false;
  ASSERT_TRUE((*stopped)->decode({&row, 1}).ok());
  ASSERT_TRUE((*plain)->decode({&row, 1}).ok());
  EXPECT_EQ(continue_greedily(**stopped, 8).value(), continue_greedily(**plain, 8).value());
}

TEST_F(EngineTest, LoadingStopsWhenProgressSaysSo) {
  Line line;
  EngineOptions options = small_options();
  int calls = 0;
  options.on_progress = [&](float) { return ++calls < 3; };
  EXPECT_EQ(Engine::load(options, line.budgets()).status().code(), Code::interrupted);
  options.on_progress = [](float) -> bool { throw std::runtime_error("from the user"); };
  EXPECT_EQ(Engine::load(options, line.budgets()).status().code(), Code::interrupted);
  EXPECT_TRUE(line.used().is_zero());
  float last = 0;
  options.on_progress = [&](float share) {
    EXPECT_GE(share, last);
    last = share;
    return true;
  };
  EXPECT_TRUE(Engine::load(options, line.budgets()).ok());
  EXPECT_EQ(last, 1.0F);
}

TEST_F(EngineTest, OneAfterTheOtherLeavesNothingCharged) {
  Line line;
  std::vector<Token> first;
  for (int i = 0; i < 2; ++i) {
    auto engine = Engine::load(small_options(), line.budgets());
    ASSERT_TRUE(engine.ok()) << engine.status().message();
    ASSERT_TRUE(read_prompt(**engine, (*engine)->tokenize("Paris is").value(), 128).ok());
    const auto tokens = continue_greedily(**engine, 8).value();
    if (i == 0) first = tokens;
    EXPECT_EQ(tokens, first);
    engine->reset();
    EXPECT_TRUE(line.used().is_zero());
  }
}

TEST_F(EngineTest, LogLinesGoToTheSink) {
  std::vector<std::string> lines;
  set_log_sink([&](std::string_view line) { lines.emplace_back(line); });
  Line line;
  const auto engine = Engine::load(small_options(), line.budgets());
  set_log_sink(nullptr);
  EXPECT_TRUE(engine.ok());
  EXPECT_TRUE(std::any_of(lines.begin(), lines.end(), [](const std::string& text) {
    return text.find("KV buffer size") != std::string::npos;
  }));
  EXPECT_NE(version().find("llama.cpp"), std::string::npos);
  EXPECT_NE(version().find("ggml 0."), std::string::npos) << version();
}

}  // namespace
}  // namespace forebay::llama
