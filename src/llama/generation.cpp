#include "llama/generation.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "llama/selection.hpp"

namespace forebay::llama {
namespace {

// Of the tokens that were pruned at a position, the report keeps this many: a low threshold
// would otherwise put the whole vocabulary into it, position after position.
constexpr std::uint32_t kMostPrunedKept = 32;

class Loop {
 public:
  Loop(Engine& engine, const LoopLimits& limits, const LoopHooks& hooks)
      : engine_(engine), limits_(limits), hooks_(hooks) {}

  LoopOutcome run(std::span<const Token> prompt) {
    if (read_prompt(prompt)) {
      if (hooks_.prompt_done) hooks_.prompt_done();
      for (std::uint32_t position = 0; position < limits_.max_tokens; ++position) {
        if (!generate_one(position, static_cast<std::int32_t>(prompt.size()))) break;
      }
    }
    return std::move(outcome_);
  }

 private:
  bool end(StopReason reason, Status status = {}) {
    outcome_.stop = reason;
    outcome_.outcome = std::move(status);
    return false;
  }

  bool end_refused(Status status) {
    switch (status.code()) {
      case Code::memory_refused:
        return end(StopReason::cache_full, std::move(status));
      case Code::interrupted:
        return end(StopReason::interrupted, std::move(status));
      default:
        return end(StopReason::failed, std::move(status));
    }
  }

  bool stop_wanted() const { return hooks_.stop && hooks_.stop(); }

  // False if the run must end; the outcome says why.
  bool after_decode() {
    Status status = hooks_.after_decode ? hooks_.after_decode() : Status{};
    return status.ok() || end(StopReason::line_reached, std::move(status));
  }

  Status cache_limit_refusal(std::size_t rows) {
    ++outcome_.cache_denials;
    const std::uint64_t used = engine_.cells_used();
    return Status{Refusal{.budget = "process/kv",
                          .asked = limits_.kv_per_token * rows,
                          .used = limits_.kv_per_token * used,
                          .limit = limits_.kv_per_token * limits_.max_cache_tokens,
                          .reclaimed = {},
                          .holders = {},
                          .advice = {fmt::format("--max-cache-tokens {} or more",
                                                 used + rows + positions_left())}}}
        .with_context(fmt::format("{} of {} tokens used", used, limits_.max_cache_tokens));
  }

  std::uint64_t positions_left() const {
    return limits_.max_tokens -
           std::min<std::size_t>(limits_.max_tokens, outcome_.steps.size() + 1);
  }

  Status decode(std::span<const Row> rows) {
    if (engine_.cells_used() + rows.size() > limits_.max_cache_tokens) {
      return cache_limit_refusal(rows.size());
    }
    return engine_.decode(rows);
  }

  bool read_prompt(std::span<const Token> prompt) {
    std::vector<Row> rows;
    for (std::size_t begin = 0; begin < prompt.size(); begin += rows.size()) {
      if (stop_wanted()) return end(StopReason::interrupted);
      rows.clear();
      const std::size_t count = std::min<std::size_t>(limits_.batch_tokens, prompt.size() - begin);
      for (std::size_t i = begin; i < begin + count; ++i) {
        rows.push_back({prompt[i], static_cast<std::int32_t>(i), i + 1 == prompt.size()});
      }
      if (Status status = decode(rows); !status.ok()) {
        return end_refused(status.with_context("reading the prompt"));
      }
      if (!after_decode()) return false;
    }
    return true;
  }

  // The set at a position: its tokens over the parallel limit are pruned, and so is an end
  // token that is not the most probable: it ends its own branch, not the text.
  GenerateStep choose(std::uint32_t position) {
    GenerateStep step{position, {}};
    std::uint32_t kept = 0;
    std::uint32_t pruned = 0;
    for (const Candidate& c : select_tokens(engine_.logits(0), limits_.selection_threshold)) {
      const bool branch_ends = kept > 0 && engine_.ends_generation(c.token);
      const bool over = kept >= limits_.max_parallel_tokens;
      trimmed_ = trimmed_ || (over && !branch_ends);
      kept += branch_ends || over ? 0U : 1U;
      if ((branch_ends || over) && ++pruned > kMostPrunedKept) continue;
      step.tokens.push_back({c.token, engine_.piece(c.token), c.probability, branch_ends || over});
    }
    return step;
  }

  // Rows of the set's surviving tokens, least probable first: the last row, whose logits
  // predict the next position, is the most probable token's.
  static std::vector<Row> rows_of(const GenerateStep& step, std::int32_t prompt_tokens) {
    const std::int32_t position = prompt_tokens + static_cast<std::int32_t>(step.position);
    std::vector<Row> rows;
    for (auto token = step.tokens.rbegin(); token != step.tokens.rend(); ++token) {
      if (!token->pruned) rows.push_back({token->token, position, false});
    }
    rows.back().wants_logits = true;
    return rows;
  }

  // Decodes the set; while it does not fit, trims the least probable token.
  Status decode_trimming(GenerateStep& step, std::int32_t prompt_tokens) {
    for (;;) {
      const std::vector<Row> rows = rows_of(step, prompt_tokens);
      Status status = decode(rows);
      if (status.code() != Code::memory_refused || rows.size() == 1) return status;
      const auto least = std::find_if(step.tokens.rbegin(), step.tokens.rend(),
                                      [](const ParallelToken& token) { return !token.pruned; });
      least->pruned = true;
      trimmed_ = true;
    }
  }

  bool generate_one(std::uint32_t position, std::int32_t prompt_tokens) {
    if (stop_wanted()) return end(StopReason::interrupted);
    trimmed_ = false;
    GenerateStep step = choose(position);
    if (engine_.ends_generation(step.tokens.front().token)) return end(StopReason::end_of_text);

    // The last position's successor is never asked for: its tokens need no cells.
    const bool last = position + 1 == limits_.max_tokens;
    Status status = last ? Status{} : decode_trimming(step, prompt_tokens);
    if (trimmed_) ++outcome_.trims;
    if (hooks_.on_step) hooks_.on_step(step);
    outcome_.steps.push_back(std::move(step));
    if (!status.ok()) return end_refused(std::move(status));
    return last || after_decode();
  }

  Engine& engine_;
  const LoopLimits& limits_;
  const LoopHooks& hooks_;
  LoopOutcome outcome_;
  bool trimmed_ = false;  // the set at the present position
};

}  // namespace

LoopOutcome run_generation(Engine& engine, std::span<const Token> prompt, const LoopLimits& limits,
                           const LoopHooks& hooks) {
  return Loop{engine, limits, hooks}.run(prompt);
}

}  // namespace forebay::llama
