// Writes GGUF files for tests: byte by byte (to break them), or a whole small model of a
// given shape that llama.cpp loads and runs, tokenizer included.
//
// The models are random: they decode, deterministically for a seed, into nonsense.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "forebay/bytes.hpp"

namespace forebay::test {

// Numbers of the format, spelled here a second time on purpose: the tests must not share a
// mistake with the reader.
inline constexpr std::uint32_t kU8 = 0, kI32 = 5, kU32 = 4, kF32 = 6, kBool = 7, kText = 8,
                               kArray = 9, kU64 = 10;
inline constexpr std::uint32_t kTensorF32 = 0, kTensorF16 = 1, kTensorQ4_0 = 2, kTensorQ8_0 = 8;

// Appends the pieces of a header; whatever is asked for, valid or not.
class GgufWriter {
 public:
  GgufWriter& number32(std::uint32_t value);
  GgufWriter& number64(std::uint64_t value);
  GgufWriter& real(float value);
  GgufWriter& text(std::string_view text);
  GgufWriter& raw(std::string_view bytes);

  GgufWriter& preamble(std::uint64_t tensors, std::uint64_t values, std::uint32_t version = 3);
  GgufWriter& key(std::string_view key, std::uint32_t type);
  GgufWriter& u32(std::string_view name, std::uint32_t value);
  GgufWriter& f32(std::string_view name, float value);
  GgufWriter& boolean(std::string_view name, bool value);
  GgufWriter& string(std::string_view name, std::string_view value);
  GgufWriter& array(std::string_view name, std::uint32_t element, std::uint64_t count);
  GgufWriter& tensor(std::string_view name, const std::vector<std::uint64_t>& dimensions,
                     std::uint32_t type, std::uint64_t offset);
  GgufWriter& pad(std::uint64_t alignment);

  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

enum class Tokenizer {
  none,           // a vocabulary without texts
  sentencepiece,  // control tokens, 256 byte tokens, made-up words
  bpe,            // as GPT-2: byte letters, made-up merges
};

struct ModelRecipe {
  std::string name = "made for tests";
  std::string architecture = "llama";
  std::uint32_t layers = 2;
  std::uint32_t heads = 4;
  std::uint32_t kv_heads = 2;
  std::uint32_t head_dim = 32;
  std::uint32_t embedding = 128;  // llama.cpp's llama wants heads x head_dim or a key_length
  std::uint32_t feed_forward = 256;
  std::uint32_t vocabulary = 320;
  std::uint32_t context = 512;
  std::uint32_t matrix_type = kTensorF16;  // f32, f16, q8_0 or q4_0
  bool tied_embeddings = true;             // no output matrix of its own
  Tokenizer tokenizer = Tokenizer::sentencepiece;
  std::uint64_t seed = 1;
  std::vector<std::uint32_t> kv_heads_by_layer;  // an array instead of kv_heads
};

struct MadeGguf {
  std::string header;  // padded to where the weights start
  std::uint64_t file_size = 0;
  Bytes weights;  // sum of the tensors, without padding
};

// The header that write_gguf writes, without a file.
MadeGguf make_gguf(const ModelRecipe& recipe);

enum class Weights { random, hole };  // a hole reads as zeros and takes no disk

// Error: throws std::runtime_error; a test cannot go on without its file.
MadeGguf write_gguf(const ModelRecipe& recipe, const std::filesystem::path& file,
                    Weights weights = Weights::random);

}  // namespace forebay::test
