// The loop of generate(), over any Engine, so that tests can script one.
#pragma once

#include <span>

#include "forebay/generate.hpp"
#include "forebay/llama.hpp"

namespace forebay::llama {

// What the loop needs to know of the world around the engine.
struct LoopLimits {
  std::uint32_t max_tokens = 0;           // positions
  std::uint32_t max_parallel_tokens = 1;  // rows a position
  std::uint32_t max_cache_tokens = 0;     // KV cells
  Bytes kv_per_token;                     // of all layers, for the words of a refusal
  std::uint32_t batch_tokens = 1;         // rows of one decode
  double selection_threshold = 1.0;
};

struct LoopHooks {
  // After each decode: ok, or why the run must end now (the line is reached).
  std::function<Status()> after_decode;
  std::function<void(const GenerateStep&)> on_step;
  std::function<void()> prompt_done;
  std::function<bool()> stop;  // the user wants it to end
};

struct LoopOutcome {
  std::vector<GenerateStep> steps;
  StopReason stop = StopReason::max_tokens;
  Status outcome;
  std::uint64_t trims = 0;
  std::uint64_t cache_denials = 0;  // growth refused by max_cache_tokens, not by a budget
};

// Reads the prompt, then generates position after position. REQUIRES: prompt not empty.
LoopOutcome run_generation(Engine& engine, std::span<const Token> prompt, const LoopLimits& limits,
                           const LoopHooks& hooks);

}  // namespace forebay::llama
