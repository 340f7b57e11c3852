#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "forebay/model.hpp"
#include "kv/gguf_cursor.hpp"
#include "kv/gguf_shape.hpp"
#include "kv/make_gguf.hpp"
#include "support/model_file.hpp"

namespace forebay {
namespace {

using test::make_gguf;
using test::ModelRecipe;
using testing::HasSubstr;

ModelRecipe smollm2_recipe() {
  ModelRecipe recipe;
  recipe.name = "SmolLM2's shape";
  recipe.layers = 30;
  recipe.heads = 9;
  recipe.kv_heads = 3;
  recipe.head_dim = 64;
  recipe.embedding = 576;
  recipe.feed_forward = 1536;
  recipe.vocabulary = 49152;
  recipe.context = 8192;
  recipe.tokenizer = test::Tokenizer::bpe;
  return recipe;
}

Result<ModelShape> parse(const test::MadeGguf& made) {
  return parse_gguf_shape(made.header, made.file_size, "made.gguf");
}

void expect_smollm2(const ModelShape& shape) {
  EXPECT_EQ(shape.architecture, "llama");
  EXPECT_EQ(shape.layers, 30U);
  EXPECT_EQ(shape.heads, 9U);
  EXPECT_EQ(shape.kv_heads, 3U);
  EXPECT_EQ(shape.head_dim_k, 64U);
  EXPECT_EQ(shape.head_dim_v, 64U);
  EXPECT_EQ(shape.embedding, 576U);
  EXPECT_EQ(shape.feed_forward, 1536U);
  EXPECT_EQ(shape.vocabulary, 49152U);
  EXPECT_EQ(shape.context_trained, 8192U);
  EXPECT_EQ(kv_bytes_per_token(shape, KvType::f16, KvType::f16), Bytes{23040});
  EXPECT_EQ(kv_bytes_per_token(shape, KvType::q8_0, KvType::q8_0), Bytes{12240});
  EXPECT_EQ(kv_bytes_per_token(shape, KvType::q4_0, KvType::q4_0), Bytes{6480});
}

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "forebay-gguf-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

TEST(Gguf, ReadsTheShapeOfAMadeModel) {
  const auto made = make_gguf(smollm2_recipe());
  const auto shape = parse(made);
  ASSERT_TRUE(shape) << shape.status().message();
  expect_smollm2(*shape);
  EXPECT_EQ(shape->name, "SmolLM2's shape");
  EXPECT_EQ(shape->weights, made.weights);
}

TEST(Gguf, ReadsTheRealModel) {
  const auto file = test::model_file();
  if (file.empty()) GTEST_SKIP() << "no model; run scripts/setup.sh";
  const auto shape = read_gguf_shape(file);
  ASSERT_TRUE(shape) << shape.status().message();
  expect_smollm2(*shape);
  EXPECT_EQ(shape->weights, Bytes{96576768});
}

TEST(Gguf, AFileAndItsHeaderInMemoryGiveTheSameShape) {
  const TemporaryFolder folder;
  const auto made = test::write_gguf({}, folder / "model.gguf");
  const auto from_file = read_gguf_shape(folder / "model.gguf");
  const auto from_memory = parse(made);
  ASSERT_TRUE(from_file) << from_file.status().message();
  ASSERT_TRUE(from_memory) << from_memory.status().message();
  EXPECT_EQ(from_file->weights, from_memory->weights);
  EXPECT_EQ(from_file->vocabulary, from_memory->vocabulary);
  EXPECT_EQ(from_file->vocabulary, ModelRecipe{}.vocabulary);
}

TEST(Gguf, TheSameSeedWritesTheSameFile) {
  const TemporaryFolder folder;
  const auto bytes = [&](std::string_view name, std::uint64_t seed) {
    ModelRecipe recipe;
    recipe.seed = seed;
    test::write_gguf(recipe, folder / name);
    std::ifstream in{folder / name, std::ios::binary};
    return std::string{std::istreambuf_iterator<char>{in}, {}};
  };
  EXPECT_EQ(bytes("a", 7), bytes("b", 7));
  EXPECT_NE(bytes("a", 7), bytes("c", 8));
}

TEST(Gguf, WeightsCountEachTensorAsItIsStored) {
  for (const std::uint32_t type :
       {test::kTensorF32, test::kTensorF16, test::kTensorQ8_0, test::kTensorQ4_0}) {
    ModelRecipe recipe;
    recipe.matrix_type = type;
    recipe.tied_embeddings = false;
    const auto made = make_gguf(recipe);
    const auto shape = parse(made);
    ASSERT_TRUE(shape) << shape.status().message();
    EXPECT_EQ(shape->weights, made.weights);
    EXPECT_LE(shape->weights, Bytes{made.file_size - made.header.size()});
  }
}

TEST(Gguf, PerLayerHeadsCountAsTheLargest) {
  ModelRecipe recipe;
  recipe.layers = 3;
  recipe.kv_heads_by_layer = {1, 4, 2};
  const auto shape = parse(make_gguf(recipe));
  ASSERT_TRUE(shape) << shape.status().message();
  EXPECT_EQ(shape->kv_heads, 4U);
}

TEST(Gguf, PerLayerHeadsMustBeOneALayer) {
  ModelRecipe recipe;
  recipe.layers = 3;
  recipe.kv_heads_by_layer = {1, 4, 2, 2};
  const auto shape = parse(make_gguf(recipe));
  ASSERT_FALSE(shape);
  EXPECT_EQ(
      shape.status().message(),
      "made.gguf: key 'llama.attention.head_count_kv' has 4 elements; allowed: 3, one a layer");
}

TEST(Gguf, HeadLengthsFollowFromTheEmbeddingWhereTheyAreNotSaid) {
  test::GgufWriter out;
  out.preamble(0, 6).u32("qwen.block_count", 2).u32("qwen.embedding_length", 96);
  out.u32("qwen.attention.head_count", 3).u32("qwen.feed_forward_length", 10);
  out.u32("qwen.vocab_size", 11).string("general.architecture", "qwen");  // last: two passes
  const auto shape = parse_gguf_shape(out.bytes(), out.bytes().size(), "made.gguf");
  ASSERT_TRUE(shape) << shape.status().message();
  EXPECT_EQ(shape->head_dim_k, 32U);
  EXPECT_EQ(shape->head_dim_v, 32U);
  EXPECT_EQ(shape->kv_heads, 3U) << "as many as query heads";
  EXPECT_EQ(shape->context_trained, 0U) << "unknown";
  EXPECT_EQ(shape->name, "qwen") << "a model without a name is called by its architecture";
}

TEST(Gguf, VersionTwoIsRead) {
  auto made = make_gguf({});
  made.header[4] = 2;
  EXPECT_TRUE(parse(made));
}

TEST(Gguf, AnAbsentFileIsNotFound) {
  const auto shape = read_gguf_shape("/nonexistent/model.gguf");
  ASSERT_FALSE(shape);
  EXPECT_EQ(shape.status().code(), Code::not_found);
  EXPECT_THAT(shape.status().message(), HasSubstr("/nonexistent/model.gguf: No such file"));
}

TEST(Gguf, WhatIsNotARegularFileIsRefusedWithoutWaiting) {
  const TemporaryFolder folder;
  const auto fifo = folder / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  for (const std::filesystem::path& path : {fifo, std::filesystem::path{"/"}}) {
    const auto shape = read_gguf_shape(path);
    ASSERT_FALSE(shape);
    EXPECT_EQ(shape.status().code(), Code::io_error);
    EXPECT_THAT(shape.status().message(), HasSubstr("not a regular file; allowed: a GGUF file"));
  }
}

TEST(Gguf, AFileNameWithANewlineStaysOneLine) {
  const auto shape = read_gguf_shape("/nonexistent/a\nb");
  ASSERT_FALSE(shape);
  EXPECT_EQ(shape.status().message().find('\n'), std::string::npos);
}

TEST(Gguf, APrefixOfTheFileIsEnoughIfItHoldsTheHeader) {
  auto made = make_gguf({});
  EXPECT_TRUE(parse(made));
  made.header.resize(made.header.size() / 2);
  const auto shape = parse(made);
  ASSERT_FALSE(shape);
  EXPECT_EQ(shape.status().code(), Code::invalid_argument) << "the file is not to blame";
  EXPECT_THAT(shape.status().message(), HasSubstr("only the first"));
}

TEST(Gguf, SizesThatContradictTheHeaderAreRefused) {
  const auto larger = parse_gguf_shape("GGUF....", 7, "made.gguf");
  ASSERT_FALSE(larger);
  EXPECT_EQ(larger.status().code(), Code::invalid_argument);
  const auto huge = parse_gguf_shape("GGUF", UINT64_MAX, "made.gguf");
  ASSERT_FALSE(huge);
  EXPECT_EQ(huge.status().code(), Code::invalid_argument);
}

// Serves bytes until its n-th read, which fails.
class FailingSource final : public gguf::ByteSource {
 public:
  FailingSource(std::string_view bytes, int good_reads) : memory_(bytes), left_(good_reads) {}
  Result<std::size_t> read(std::uint64_t offset, char* to, std::size_t length) override {
    if (left_-- == 0) return Status{Code::io_error, "Input/output error"};
    return memory_.read(offset, to, std::min<std::size_t>(length, 512));
  }

 private:
  gguf::MemorySource memory_;
  int left_;
};

TEST(Gguf, AReadErrorAtAnyPlaceIsReportedOnce) {
  const auto made = make_gguf({});
  int failures = 0;
  for (int good_reads = 0;; ++good_reads) {
    FailingSource source{made.header, good_reads};
    gguf::Cursor cursor{source, made.file_size, "made.gguf"};
    const auto shape = gguf::read_shape(cursor);
    if (shape) break;
    ASSERT_EQ(shape.status().code(), Code::io_error);
    ASSERT_EQ(shape.status().message(), "made.gguf: Input/output error");
    ++failures;
  }
  EXPECT_GT(failures, 10);
}

}  // namespace
}  // namespace forebay
