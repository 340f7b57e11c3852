// Which tokens form the parallel set at a position.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "forebay/llama.hpp"

namespace forebay::llama {

struct Candidate {
  Token token = 0;
  double probability = 0;
};

// All tokens whose softmax probability is at least `threshold`, most probable first (the
// lower id of equals); the most probable one always, and at threshold 1.0 only that one.
// REQUIRES: logits not empty; 0 < threshold <= 1. Cost: two passes, about 1 ns a logit.
std::vector<Candidate> select_tokens(std::span<const float> logits, double threshold);

// Sum of exp(logit - maximum); in a file of its own, built to be vectorised.
double sum_of_exponentials(std::span<const float> logits, float maximum) noexcept;

}  // namespace forebay::llama
