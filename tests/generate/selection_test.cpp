#include "llama/selection.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace forebay::llama {
namespace {

// Softmax the slow way, in double.
std::vector<double> softmax(const std::vector<float>& logits) {
  const double maximum = *std::max_element(logits.begin(), logits.end());
  std::vector<double> p;
  for (const float logit : logits) p.push_back(std::exp(static_cast<double>(logit) - maximum));
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& value : p) value /= sum;
  return p;
}

TEST(SelectTokens, GivesTheMostProbableFirst) {
  const std::vector<float> logits{1.0F, 3.0F, 2.9F, -5.0F};
  const auto set = select_tokens(logits, 0.2);
  ASSERT_EQ(set.size(), 2U);
  EXPECT_EQ(set[0].token, 1);
  EXPECT_EQ(set[1].token, 2);
}

TEST(SelectTokens, AlwaysHasTheMostProbableOne) {
  const std::vector<float> flat(1000, 0.0F);
  const auto set = select_tokens(flat, 0.9);
  ASSERT_EQ(set.size(), 1U);
  EXPECT_EQ(set[0].token, 0);
  EXPECT_NEAR(set[0].probability, 0.001, 1e-8);
}

TEST(SelectTokens, KnowsHowManyCanBeOverAThreshold) {
  EXPECT_EQ(most_selectable(1.0), 1U);
  EXPECT_EQ(most_selectable(0.5), 2U);
  EXPECT_EQ(most_selectable(0.1), 10U);
  EXPECT_EQ(most_selectable(0.3), 3U);
}

RC_GTEST_PROP(SelectTokens, AgreesWithASoftmaxInDouble, ()) {
  const auto size = *rc::gen::inRange(1, 3000);
  const auto raw = *rc::gen::container<std::vector<int>>(static_cast<std::size_t>(size),
                                                         rc::gen::inRange(-4000, 2000));
  std::vector<float> logits;
  for (const int value : raw) logits.push_back(static_cast<float>(value) / 100.0F);
  const double threshold = *rc::gen::inRange(1, 100) / 100.0;

  const auto set = select_tokens(logits, threshold);
  const auto p = softmax(logits);
  RC_ASSERT(set[0].token == std::max_element(logits.begin(), logits.end()) - logits.begin());
  RC_ASSERT(set.size() <= std::max(1U, most_selectable(threshold * 0.9999)));
  std::vector<bool> chosen(logits.size());
  for (const Candidate& c : set) {
    const auto i = static_cast<std::size_t>(c.token);
    RC_ASSERT(!chosen[i]);
    chosen[i] = true;
    RC_ASSERT(std::abs(c.probability - p[i]) <= 1e-5 * p[i]);
  }
  RC_ASSERT(std::is_sorted(set.begin(), set.end(), [](const auto& a, const auto& b) {
    return a.probability > b.probability;
  }));
  for (std::size_t i = 0; i < p.size(); ++i) {
    if (p[i] > threshold * 1.0001) RC_ASSERT(chosen[i]);
    if (p[i] < threshold * 0.9999) RC_ASSERT(!chosen[i] || set[0].token == static_cast<int>(i));
  }
}

}  // namespace
}  // namespace forebay::llama
