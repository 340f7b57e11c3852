// An Engine whose logits are written by the test: no model, no llama.cpp.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "forebay/llama.hpp"

namespace forebay::testing {

class ScriptedEngine final : public llama::Engine {
 public:
  static constexpr llama::Token kEnd = 0;  // ends generation
  static constexpr std::uint32_t kVocabulary = 16;

  // After the rows of `position` are decoded, the next position's probabilities are these
  // (the rest of the mass is on token 15). Default: token 1 for sure.
  std::map<std::int32_t, std::map<llama::Token, double>> next;
  // All of 200 tokens equally probable, whatever `next` says.
  bool wide_vocabulary = false;
  // Cells that fit; a decode past it is refused as a budget would.
  std::uint32_t cells_that_fit = 1000;
  // If set, the n-th decode (from 0) returns this status.
  std::optional<std::pair<int, Status>> fail_decode;

  std::vector<std::vector<llama::Row>> decodes;  // those that succeeded
  int decode_calls = 0;

  Result<std::vector<llama::Token>> tokenize(std::string_view text) const override {
    return std::vector<llama::Token>(text.size(), 1);
  }
  std::string piece(llama::Token token) const override {
    return std::string(1, static_cast<char>('a' + token));
  }
  bool ends_generation(llama::Token token) const override { return token == kEnd; }
  std::uint32_t vocabulary() const noexcept override { return kVocabulary; }
  Result<std::string> apply_chat_template(std::string_view text) const override {
    return std::string{text};
  }
  Status decode(std::span<const llama::Row> rows) override;
  std::span<const float> logits(std::uint32_t i) const override;
  std::uint32_t cells_used() const noexcept override { return cells_; }
  std::uint32_t context_tokens() const noexcept override { return 1000; }
  Bytes kv_committed() const noexcept override { return Bytes{cells_ * 1024ULL}; }
  bool owns_buffers() const noexcept override { return true; }
  std::string_view ownership_note() const noexcept override { return {}; }

 private:
  std::uint32_t cells_ = 0;
  std::vector<float> logits_;
};

}  // namespace forebay::testing
