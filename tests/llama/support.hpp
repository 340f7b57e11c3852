// What the engine's tests share: the model, a tree of budgets, decoding by greed.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "forebay/budget.hpp"
#include "forebay/llama.hpp"
#include "support/model_file.hpp"

namespace forebay::llama::testing {

using forebay::test::model_file;

// What a dry run says of a run.
Result<ComputeNeed> measure(const std::filesystem::path& model, const RunShape& run);

// Resident bytes of this process.
Bytes resident();

// A line with one budget for each owner below it.
struct Line {
  explicit Line(Bytes limit = Bytes::unlimited());
  EngineBudgets budgets() { return {weights, kv, compute, output}; }
  Bytes used() const { return process.stats().used; }

  Budget process;
  Budget weights, kv, compute, output;
};

// Options for the model above: one thread, a small run.
EngineOptions small_options(std::uint32_t context = 1024, std::uint32_t batch = 128,
                            std::uint32_t parallel = 4);

// Rows of a text from `first` on; only the last one wants logits.
std::vector<Row> rows_of(const std::vector<Token>& tokens, std::int32_t first = 0);

Token most_likely(std::span<const float> logits);

// Reads the tokens in batches; the logits are then those of the last. Stops at an error.
Status read_prompt(Engine& engine, const std::vector<Token>& tokens, std::size_t batch);
// Takes the most likely token `count` times, the first from the present logits.
Result<std::vector<Token>> continue_greedily(Engine& engine, std::size_t count);

// Skips the test where there is no model.
class WithModel : public ::testing::Test {
 protected:
  void SetUp() override {
    if (model_file().empty()) GTEST_SKIP() << "no model; run scripts/setup.sh";
  }
};

// Also where this llama.cpp was found without the headers that owning its buffers takes.
class WithOwnedBuffers : public WithModel {
 protected:
  void SetUp() override {
    WithModel::SetUp();
    if (FOREBAY_TEST_OWNED_BUFFERS == 0) GTEST_SKIP() << "buffers of this llama.cpp are not owned";
  }
};

}  // namespace forebay::llama::testing
