#include "llama/selection.hpp"

#include <algorithm>
#include <cmath>

#include "forebay/check.hpp"

namespace forebay::llama {

std::vector<Candidate> select_tokens(std::span<const float> logits, double threshold) {
  FOREBAY_CHECK(!logits.empty() && threshold > 0 && threshold <= 1, "select_tokens' contract");
  const auto best = std::max_element(logits.begin(), logits.end());  // the first of equals
  const double sum = sum_of_exponentials(logits, *best);
  const auto probability = [&](float logit) {
    return std::exp(static_cast<double>(logit) - static_cast<double>(*best)) / sum;
  };

  std::vector<Candidate> set{{static_cast<Token>(best - logits.begin()), probability(*best)}};
  if (threshold >= 1.0) return set;
  const auto cut = static_cast<float>(static_cast<double>(*best) + std::log(threshold * sum));
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] >= cut && static_cast<Token>(i) != set[0].token) {
      set.push_back({static_cast<Token>(i), probability(logits[i])});
    }
  }
  std::stable_sort(set.begin() + 1, set.end(), [](const Candidate& a, const Candidate& b) {
    return a.probability > b.probability;
  });
  return set;
}

}  // namespace forebay::llama
