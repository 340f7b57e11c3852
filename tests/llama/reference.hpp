// llama.cpp by itself, through its public API only: what our engine is compared with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace forebay::llama::testing {

struct Reference {
  std::vector<std::int32_t> prompt;     // the text's tokens
  std::vector<std::int32_t> generated;  // the most likely ones after it
  std::vector<float> logits;            // after the last prompt token
};

// Greedy decoding with llama.cpp's default parameters, one thread; the prompt is read in
// batches of 512.
Reference decode_greedily(const std::filesystem::path& model, const std::string& text,
                          std::size_t count, std::uint32_t context);

}  // namespace forebay::llama::testing
