// Writes the seed corpus of gguf_fuzz into a folder: small valid headers and the lies that
// other readers of the format have fallen for.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "kv/make_gguf.hpp"

namespace {

using forebay::test::GgufWriter;
using forebay::test::ModelRecipe;
using forebay::test::Tokenizer;

class Seeds {
 public:
  explicit Seeds(std::filesystem::path folder) : folder_(std::move(folder)) {
    std::filesystem::create_directories(folder_);
  }
  void add(const std::string& name, const std::string& bytes) const {
    std::ofstream{folder_ / name, std::ios::binary} << bytes;
  }

 private:
  std::filesystem::path folder_;
};

GgufWriter minimal(std::uint64_t tensors, std::uint64_t more_values) {
  GgufWriter out;
  out.preamble(tensors, 6 + more_values).string("general.architecture", "llama");
  out.u32("llama.block_count", 2).u32("llama.embedding_length", 64);
  out.u32("llama.attention.head_count", 2).u32("llama.feed_forward_length", 128);
  out.u32("llama.vocab_size", 100);
  return out;
}

void add_valid(const Seeds& seeds) {
  ModelRecipe recipe;
  recipe.layers = 1;
  recipe.tokenizer = Tokenizer::none;
  seeds.add("valid", forebay::test::make_gguf(recipe).header);
  recipe.kv_heads_by_layer = {2};
  recipe.tied_embeddings = false;
  recipe.matrix_type = forebay::test::kTensorQ8_0;
  seeds.add("valid_per_layer", forebay::test::make_gguf(recipe).header);
  recipe = {};
  recipe.layers = 1;
  recipe.vocabulary = 259;
  seeds.add("valid_sentencepiece", forebay::test::make_gguf(recipe).header);
  auto whole = minimal(1, 1);
  whole.u32("general.alignment", 64).tensor("t", {8}, forebay::test::kTensorF32, 0).pad(64);
  seeds.add("valid_with_weights", whole.raw(std::string(32, 'w')).bytes());
}

void add_lies(const Seeds& seeds) {
  using namespace forebay::test;
  seeds.add("dimension_product",
            minimal(1, 0).tensor("t", {1ULL << 40, 1ULL << 40}, kTensorF32, 0).bytes());
  seeds.add("alignment_wrap", minimal(0, 1).u32("general.alignment", 0xffffffff).bytes());
  seeds.add("array_length", minimal(0, 1).array("x", kText, 1ULL << 63).bytes());
  seeds.add("element_type", minimal(0, 1).array("tokenizer.ggml.tokens", kF32, 1).real(1).bytes());
  seeds.add("dimensions", minimal(1, 0).text("t").number32(5).bytes());
  seeds.add("nested", minimal(0, 1).array("x", kArray, 2).number32(kU8).number64(1).bytes());
  seeds.add("big_endian", GgufWriter{}.preamble(0, 0, 0x03000000).bytes());
  seeds.add("counts", GgufWriter{}.preamble(~0ULL, ~0ULL).bytes());
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", arguments[0]);
    return 2;
  }
  const Seeds seeds{arguments[1]};
  add_valid(seeds);
  add_lies(seeds);
  return 0;
}
