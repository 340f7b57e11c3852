// generate(): text from a language model under one memory line (component forebay::llama).
//
// Plans before it loads, charges everything it uses to a tree of budgets under the line
// (weights, kv, compute, output; `heap`, by malloc's own count; and `other`: the rest that
// the kernel counts as resident),
// checks the KV budget before each growth, and reports what happened. Tokens whose
// probability is at least `selection_threshold` form a parallel set: they share one
// position and see each other (TEMPO). A set over its limit is trimmed to its most
// probable tokens. A threshold of 1.0 is greedy decoding.
//
// The next position is predicted from the row of the set's most probable token; the text ends
// when that token ends it. An end token that is less probable ends only its own branch.
//
// Thread safety: one call at a time per process is meant; hooks run on the calling thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "forebay/budget.hpp"
#include "forebay/governor.hpp"
#include "forebay/llama.hpp"
#include "forebay/model.hpp"
#include "forebay/status.hpp"

#pragma GCC visibility push(default)
namespace forebay {

struct GenerateOptions {
  std::filesystem::path model;
  std::string prompt;
  bool chat = false;                // wrap the prompt in the model's chat template
  Bytes line = Bytes::unlimited();  // see choose_line()
  double soft = 0.85;               // marks of the line, as in BudgetOptions
  double critical = 0.95;
  std::optional<std::uint32_t> max_cache_tokens;     // KV cells; empty: what the plan allows
  std::optional<std::uint32_t> max_parallel_tokens;  // a set's size; empty: from the plan
  std::uint32_t max_tokens = 100;                    // positions to generate
  double selection_threshold = 0.25;                 // (0, 1]
  KvType kv_type = KvType::f16;
  std::uint32_t batch_tokens = 512;  // prompt tokens decoded at once
  int threads = 1;
  std::uint32_t log_every = 32;  // positions between two entries of the stage log
};

// A token at a position, or one that was trimmed from the set there.
struct ParallelToken {
  llama::Token token = 0;
  std::string text;        // bytes as the model has them; maybe not whole UTF-8
  double probability = 0;  // softmax over the whole vocabulary, no temperature
  bool pruned = false;     // over the parallel limit or the budget, or the end of a branch
};

// One position: the most probable token first; of those that were pruned, at most 32.
struct GenerateStep {
  std::uint32_t position = 0;  // 0 = first generated
  std::vector<ParallelToken> tokens;
};

enum class StopReason {
  end_of_text,   // the model ended it
  max_tokens,    // as many as asked for
  cache_full,    // max_cache_tokens reached, or the KV budget refused one more
  line_reached,  // memory outside Forebay's buffers grew up to the line
  interrupted,   // a hook said stop
  failed,        // the engine failed; see outcome
};
std::string_view to_string(StopReason reason) noexcept;

struct OwnerUse {
  std::string name;  // weights, kv, compute, output, heap, other
  Bytes used;        // at the end
  Bytes peak;
};

struct GenerateReport {
  std::string text;  // the most probable token of each position
  std::vector<GenerateStep> steps;
  StopReason stop = StopReason::max_tokens;
  Status outcome;  // ok, or why it stopped early
  TokenPlan plan;  // what was planned before loading
  std::uint32_t prompt_tokens = 0;
  std::uint32_t cells_used = 0;  // KV cells at the end
  double prompt_seconds = 0;     // reading the prompt
  double generate_seconds = 0;   // all positions after it
  double tokens_per_second = 0;  // positions a second while generating
  Bytes line;
  Bytes peak;               // of the root budget: never above the line
  Bytes resident_at_start;  // of the process, when generate() began
  Bytes resident_peak;      // highest of the process so far
  bool line_held = false;   // neither peak was above the line
  // Growth of the resident peak since the start that lies with weights, kv, compute, output
  // or heap, as a share; the rest is in `other`. Above 1 where a charge is not all touched.
  double accounted_ratio = 0;
  std::uint64_t trims = 0;    // sets that were trimmed
  std::uint64_t denials = 0;  // reservations that a budget refused
  std::vector<OwnerUse> owners;
  std::vector<Stage> stages;
  std::string engine;  // llama.cpp's version, and how its memory is held
};

// All optional.
struct GenerateHooks {
  std::function<void(float)> on_load;             // share of the weights loaded, 0..1
  std::function<void(const TokenPlan&)> on_plan;  // before the weights load
  std::function<void(const Stage&)> on_stage;
  std::function<void(const GenerateStep&)> on_step;  // as each position is chosen
  std::function<bool()> stop;                        // true: stop now, with a report
};

// Errors, before anything is generated: memory_refused (the plan does not fit, or a budget
// refused while loading), not_found, corrupt_data, unsupported, invalid_argument. Whatever
// happens once the prompt is being read is in report.outcome; a run that is stopped, while it
// loads or later, has a report.
Result<GenerateReport> generate(const GenerateOptions& options, const GenerateHooks& hooks = {});

// The plan of that run, without making it. Errors: as generate's, but that a plan which does
// not fit is a plan; memory_refused only if the cache cannot hold the prompt.
Result<TokenPlan> plan_generation(const GenerateOptions& options);

}  // namespace forebay
#pragma GCC visibility pop
