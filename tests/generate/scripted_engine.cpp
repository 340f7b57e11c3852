#include "generate/scripted_engine.hpp"

#include <cmath>

namespace forebay::testing {

Status ScriptedEngine::decode(std::span<const llama::Row> rows) {
  if (fail_decode && decode_calls++ == fail_decode->first) return fail_decode->second;
  if (cells_ + rows.size() > cells_that_fit) {
    return Status{Refusal{.budget = "process/kv",
                          .asked = Bytes{rows.size() * 1024},
                          .used = Bytes{cells_ * 1024ULL},
                          .limit = Bytes{cells_that_fit * 1024ULL},
                          .reclaimed = {},
                          .holders = {},
                          .advice = {}}};
  }
  cells_ += static_cast<std::uint32_t>(rows.size());
  decodes.emplace_back(rows.begin(), rows.end());

  if (wide_vocabulary) {
    logits_.assign(200, 0.0F);
    logits_[kEnd] = -100.0F;
    return {};
  }
  std::map<llama::Token, double> probabilities{{1, 1.0}};
  if (const auto scripted = next.find(rows.back().position); scripted != next.end()) {
    probabilities = scripted->second;
  }
  double rest = 1.0;
  for (const auto& [token, p] : probabilities) rest -= p;
  probabilities[15] += std::max(rest, 0.0);
  logits_.assign(kVocabulary, -100.0F);
  for (const auto& [token, p] : probabilities) {
    if (p > 0) logits_[static_cast<std::size_t>(token)] = static_cast<float>(std::log(p));
  }
  return {};
}

std::span<const float> ScriptedEngine::logits(std::uint32_t) const { return logits_; }

}  // namespace forebay::testing
