// The plan of one run of generate(): made from the GGUF header, the prompt's tokens and a dry
// run, before any weight is read.
#pragma once

#include <vector>

#include "forebay/generate.hpp"

namespace forebay::llama {

struct RunPlan {
  TokenPlan plan;
  std::vector<Token> prompt;       // empty if the weights alone are over the line
  std::uint32_t cache_tokens = 0;  // KV cells that the run may use
};

// Error: invalid_argument, naming the option.
Status check_options(const GenerateOptions& options);

// `process`: resident bytes before anything is loaded. A plan that does not fit is a plan.
// Errors: of the model's file; memory_refused if the cache cannot hold the prompt.
Result<RunPlan> plan_run(const GenerateOptions& options, Bytes process);

}  // namespace forebay::llama
