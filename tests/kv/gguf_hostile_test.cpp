// Files that lie, end early or are not what they claim: each gives one clear line.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "forebay/model.hpp"
#include "kv/make_gguf.hpp"

namespace forebay {
namespace {

using test::GgufWriter;
using testing::EndsWith;
using testing::HasSubstr;

constexpr std::uint64_t kAmple = 1 << 20;  // a claimed file size with room for most lies

Status refused(const std::string& bytes, std::uint64_t file_size) {
  const auto shape = parse_gguf_shape(bytes, file_size, "bad.gguf");
  EXPECT_FALSE(shape);
  return shape.ok() ? Status{} : shape.status();
}

// Bytes are the whole file, padded with zeros to `size` where more is claimed.
Status refused(GgufWriter& out, std::uint64_t size = 0) {
  std::string bytes = out.bytes();
  if (size > bytes.size()) bytes.resize(size);
  return refused(bytes, bytes.size());
}

GgufWriter minimal(std::uint64_t tensors, std::uint64_t more_values) {
  GgufWriter out;
  out.preamble(tensors, 6 + more_values).string("general.architecture", "llama");
  out.u32("llama.block_count", 2).u32("llama.embedding_length", 64);
  out.u32("llama.attention.head_count", 2).u32("llama.feed_forward_length", 128);
  out.u32("llama.vocab_size", 100);
  return out;
}

// --- the published failures of other readers -------------------------------------------

TEST(GgufHostile, DimensionsWhoseProductOverflows) {
  auto out = minimal(1, 0);
  out.tensor("t", {1ULL << 40, 1ULL << 40}, test::kTensorF32, 0);
  const Status status = refused(out, kAmple);
  EXPECT_EQ(status.code(), Code::corrupt_data);
  EXPECT_EQ(status.message(),
            "bad.gguf: tensor 't': dimensions multiply to more than 9223372036854775807; "
            "1099511627776 times 1099511627776 so far");
}

TEST(GgufHostile, AnAlignmentThatWouldWrapOffsets) {
  for (const std::uint32_t alignment : {0U, 3U, 0xffffffffU, 0x80000000U, 1U << 21}) {
    auto out = minimal(0, 1);
    out.u32("general.alignment", alignment);
    const Status status = refused(out, kAmple);
    EXPECT_EQ(status.code(), Code::corrupt_data) << alignment;
    EXPECT_THAT(status.message(), HasSubstr("key 'general.alignment' is " +
                                            std::to_string(alignment) + "; allowed: "));
    EXPECT_THAT(status.message(), HasSubstr("1048576"));
  }
}

TEST(GgufHostile, AnArrayOfTwoToThe63) {
  for (const std::uint32_t element : {test::kU8, test::kU64, test::kText, test::kArray}) {
    auto out = minimal(0, 1);
    out.array("x", element, 1ULL << 63);
    const Status status = refused(out, kAmple);
    EXPECT_EQ(status.code(), Code::corrupt_data);
    EXPECT_THAT(status.message(),
                HasSubstr("bad.gguf: key 'x': array of 9223372036854775808 elements"));
    EXPECT_THAT(status.message(), HasSubstr("allowed: at most "));
  }
}

TEST(GgufHostile, AnArrayOfAnUnknownElementType) {
  for (const std::uint32_t element : {13U, 255U, 0xffffffffU}) {
    auto out = minimal(0, 1);
    out.array("x", element, 1);
    const Status status = refused(out, kAmple);
    EXPECT_EQ(status.code(), Code::corrupt_data);
    EXPECT_EQ(status.message(), "bad.gguf: key 'x': array of element type " +
                                    std::to_string(element) + "; allowed: 0 to 12");
  }
}

TEST(GgufHostile, AKnownKeyWithTheWrongElementType) {
  auto out = minimal(0, 1);
  out.array("tokenizer.ggml.tokens", test::kF32, 1).real(1);
  EXPECT_EQ(refused(out).message(),
            "bad.gguf: key 'tokenizer.ggml.tokens' has type f32; allowed: array of strings");
  auto heads = minimal(0, 1);
  heads.array("llama.attention.head_count_kv", test::kText, 1).text("2");
  EXPECT_EQ(refused(heads).message(),
            "bad.gguf: key 'llama.attention.head_count_kv' has type string; allowed: unsigned "
            "integer");
}

TEST(GgufHostile, MoreThanFourDimensions) {
  for (const std::uint32_t dimensions : {5U, 0xffffffffU}) {
    auto out = minimal(1, 0);
    out.text("t").number32(dimensions);
    const Status status = refused(out, kAmple);
    EXPECT_EQ(status.code(), Code::corrupt_data);
    EXPECT_EQ(status.message(), "bad.gguf: tensor 't': " + std::to_string(dimensions) +
                                    " dimensions; allowed: at most 4");
  }
}

// --- files that end early --------------------------------------------------------------

TEST(GgufHostile, AFileCutAtAnyByteIsRefusedWithOneLine) {
  test::ModelRecipe recipe;
  recipe.vocabulary = 259;
  const auto made = test::make_gguf(recipe);
  for (std::size_t cut = 0; cut < made.header.size(); ++cut) {
    const Status status = refused(made.header.substr(0, cut), cut);
    ASSERT_EQ(status.code(), Code::corrupt_data) << cut << ": " << status.message();
    ASSERT_THAT(status.message(), testing::StartsWith("bad.gguf: ")) << cut;
    ASSERT_EQ(status.message().find('\n'), std::string::npos) << cut;
  }
}

TEST(GgufHostile, WeightsThatAreCutNameTheFirstTensorWithoutItsBytes) {
  auto made = test::make_gguf({});
  ASSERT_TRUE(parse_gguf_shape(made.header, made.file_size, "bad.gguf"));
  const Status last = refused(made.header, made.file_size - 1);
  EXPECT_EQ(last.code(), Code::corrupt_data);
  EXPECT_EQ(last.message(), "bad.gguf: file ends at " + std::to_string(made.file_size - 1) +
                                ", tensor 'blk.1.ffn_down.weight' needs " +
                                std::to_string(made.file_size));
  const Status first = refused(made.header, made.header.size() + 5);
  EXPECT_THAT(first.message(), HasSubstr("tensor 'token_embd.weight' needs "));
}

TEST(GgufHostile, ATruncationNamesWhatWasBeingRead) {
  auto out = minimal(0, 1);
  out.key("some.key", test::kU64);
  const std::size_t size = out.bytes().size();
  EXPECT_EQ(refused(out).message(), "bad.gguf: file ends at " + std::to_string(size) +
                                        ", key 'some.key' needs " + std::to_string(size + 8));
}

// --- what is not GGUF, or not for us ---------------------------------------------------

TEST(GgufHostile, OtherMagics) {
  const Status zip = refused(std::string("PK\3\4............"), 16);
  EXPECT_EQ(zip.code(), Code::corrupt_data);
  EXPECT_EQ(zip.message(),
            "bad.gguf: not a GGUF file: starts with 'PK?"
            "?' (0x04034b50); allowed: 'GGUF'");
  EXPECT_EQ(refused("", 0).message(), "bad.gguf: file ends at 0, the magic needs 4");
}

TEST(GgufHostile, OtherVersions) {
  for (const std::uint32_t version : {0U, 1U, 4U, 0x10003U}) {
    GgufWriter out;
    out.preamble(0, 0, version);
    const Status status = refused(out);
    EXPECT_EQ(status.code(), Code::unsupported);
    EXPECT_EQ(status.message(),
              "bad.gguf: GGUF version " + std::to_string(version) + "; allowed: 2 or 3");
  }
}

TEST(GgufHostile, BigEndianFiles) {
  GgufWriter out;
  out.preamble(0, 0, 0x03000000);
  const Status status = refused(out);
  EXPECT_EQ(status.code(), Code::unsupported);
  EXPECT_THAT(status.message(), HasSubstr("version reads 0x3000000, as a big-endian file's does; "
                                          "allowed: little-endian GGUF of version 2 or 3"));
}

TEST(GgufHostile, ModelsInSeveralFiles) {
  auto out = minimal(0, 1);
  out.key("split.count", 2).raw(std::string_view{"\3\0", 2});
  const Status status = refused(out);
  EXPECT_EQ(status.code(), Code::unsupported);
  EXPECT_EQ(status.message(), "bad.gguf: key 'split.count' is 3; allowed: 1, a model in one file");
}

TEST(GgufHostile, UnknownTensorTypes) {
  for (const std::uint32_t type : {4U, 5U, 31U, 38U, 43U, 0xffffffffU}) {
    auto out = minimal(1, 0);
    out.tensor("blk.0.x", {32}, type, 0);
    const Status status = refused(out, kAmple);
    EXPECT_EQ(status.code(), Code::unsupported);
    EXPECT_EQ(status.message(), "bad.gguf: tensor 'blk.0.x' has type " + std::to_string(type) +
                                    "; allowed: the types of ggml 0.20, 0 to 42");
  }
}

// --- counts, lengths, depth ------------------------------------------------------------

TEST(GgufHostile, CountsThatTheFileCannotHold) {
  for (const std::uint64_t count : {1ULL << 20, 1ULL << 62, ~0ULL}) {
    GgufWriter tensors;
    tensors.preamble(count, 0);
    EXPECT_THAT(refused(tensors, 4096).message(),
                HasSubstr("tensor count is " + std::to_string(count) + "; allowed: at most 170"));
    GgufWriter values;
    values.preamble(0, count);
    EXPECT_THAT(refused(values, 4096).message(),
                HasSubstr("metadata count is " + std::to_string(count) + "; allowed: at most 290"));
  }
}

TEST(GgufHostile, AHeaderWithoutEndIsNotWalked) {
  auto out = minimal(0, 1);
  out.array("x", test::kU64, 1ULL << 36);
  const Status status = refused(out.bytes(), 1ULL << 40);
  EXPECT_EQ(status.code(), Code::corrupt_data);
  EXPECT_THAT(status.message(), HasSubstr("where key 'x' ends; allowed: 268435456 bytes"));
}

TEST(GgufHostile, KeysAndNamesThatAreTooLong) {
  GgufWriter key;
  key.preamble(0, 1).text(std::string(70000, 'k'));
  EXPECT_THAT(refused(key, kAmple).message(),
              EndsWith("is a text of 70000 bytes; allowed: at most 65535"));
  auto name = minimal(1, 0);
  name.text(std::string(65, 't'));
  EXPECT_THAT(refused(name, kAmple).message(),
              EndsWith("is a text of 65 bytes; allowed: at most 64"));
  GgufWriter beyond;
  beyond.preamble(0, 1).number64(~0ULL);
  EXPECT_THAT(refused(beyond, kAmple).message(), HasSubstr("file ends at 1048576, a metadata key"));
}

TEST(GgufHostile, ArraysNestedTooDeep) {
  const auto nested = [](int depth) {
    auto out = minimal(0, 1);
    out.array("x", test::kArray, 1);
    for (int i = 2; i < depth; ++i) out.number32(test::kArray).number64(1);
    out.number32(test::kU8).number64(1).raw("z");
    return out;
  };
  auto four = nested(4);
  EXPECT_TRUE(parse_gguf_shape(four.bytes(), four.bytes().size(), "good.gguf"));
  auto five = nested(5);
  EXPECT_EQ(refused(five).message(), "bad.gguf: key 'x': arrays nested 5 deep; allowed: at most 4");
  auto deep = nested(20000);
  EXPECT_EQ(refused(deep).code(), Code::corrupt_data);
}

TEST(GgufHostile, UnknownValueTypes) {
  auto out = minimal(0, 1);
  out.key("x", 13);
  EXPECT_EQ(refused(out, kAmple).message(), "bad.gguf: key 'x': value type 13; allowed: 0 to 12");
}

// --- tensors ---------------------------------------------------------------------------

TEST(GgufHostile, TensorsThatOverlapOrLeaveGaps) {
  for (const std::uint64_t offset : {0ULL, 96ULL, 1ULL << 63}) {
    auto out = minimal(2, 0);
    out.tensor("a", {10}, test::kTensorF32, 0).tensor("b", {10}, test::kTensorF32, offset);
    const Status status = refused(out, kAmple);
    EXPECT_EQ(status.code(), Code::corrupt_data);
    EXPECT_EQ(status.message(), "bad.gguf: tensor 'b' is at offset " + std::to_string(offset) +
                                    "; allowed: 64, right after the one before, aligned to 32");
  }
}

TEST(GgufHostile, DimensionsOfZeroAndBeyondSigned) {
  for (const std::uint64_t extent : {0ULL, 1ULL << 63}) {
    auto out = minimal(1, 0);
    out.tensor("t", {32, extent}, test::kTensorF32, 0);
    EXPECT_EQ(refused(out, kAmple).message(), "bad.gguf: tensor 't': dimension 1 is " +
                                                  std::to_string(extent) +
                                                  "; allowed: 1 to 9223372036854775807");
  }
}

TEST(GgufHostile, RowsThatAreNotWholeBlocks) {
  auto out = minimal(1, 0);
  out.tensor("t", {33}, test::kTensorQ8_0, 0);
  EXPECT_EQ(refused(out, kAmple).message(),
            "bad.gguf: tensor 't': rows of 33 elements; allowed for type q8_0: multiples of 32");
}

TEST(GgufHostile, TensorBytesThatOverflow) {
  auto f64 = minimal(1, 0);
  f64.tensor("t", {1ULL << 62}, 28, 0);
  EXPECT_EQ(refused(f64, kAmple).message(),
            "bad.gguf: tensor 't': 4611686018427387904 elements of type f64 overflow 2^64 bytes");
  auto sum = minimal(2, 0);
  sum.tensor("t", {1ULL << 60, 3}, test::kTensorF32, 0);
  sum.tensor("u", {1ULL << 60, 3}, test::kTensorF32, 3ULL << 62);
  EXPECT_THAT(refused(sum, kAmple).message(), HasSubstr("tensor 'u': "));
}

// --- keys that decide the shape --------------------------------------------------------

TEST(GgufHostile, EachMissingKeyIsNamed) {
  const std::vector<std::string> keys{"general.architecture",      "llama.block_count",
                                      "llama.embedding_length",    "llama.attention.head_count",
                                      "llama.feed_forward_length", "llama.vocab_size"};
  for (std::size_t missing = 0; missing < keys.size(); ++missing) {
    GgufWriter out;
    out.preamble(0, keys.size() - 1);
    for (std::size_t i = 0; i < keys.size(); ++i) {
      if (i == missing) continue;
      i == 0 ? out.string(keys[i], "llama") : out.u32(keys[i], 2);
    }
    const Status status = refused(out);
    EXPECT_EQ(status.code(), Code::corrupt_data);
    const std::string named =
        keys[missing] == "llama.vocab_size" ? "tokenizer.ggml.tokens" : keys[missing];
    EXPECT_EQ(status.message(),
              "bad.gguf: key '" + named + "' is missing; a language model must have it");
  }
}

TEST(GgufHostile, ValuesOutOfRange) {
  auto layers = minimal(0, 0);
  GgufWriter out;
  out.preamble(0, 2).string("general.architecture", "llama").u32("llama.block_count", 0);
  EXPECT_EQ(refused(out).message(), "bad.gguf: key 'llama.block_count' is 0; allowed: 1 to 4096");
  auto negative = minimal(0, 1);
  negative.key("llama.context_length", test::kI32).number32(0xfffffffe);
  EXPECT_EQ(refused(negative).message(),
            "bad.gguf: key 'llama.context_length' is -2; allowed: 0 or more");
  auto more_kv = minimal(0, 1);
  more_kv.u32("llama.attention.head_count_kv", 3);
  EXPECT_EQ(refused(more_kv).message(),
            "bad.gguf: key 'llama.attention.head_count_kv' is 3; allowed: 1 to 2, the query heads");
  auto text = minimal(0, 1);
  text.string("llama.context_length", "8192");
  EXPECT_EQ(refused(text).message(),
            "bad.gguf: key 'llama.context_length' has type string; allowed: unsigned integer");
}

TEST(GgufHostile, MoreHeadsThanTheEmbeddingHolds) {
  GgufWriter out;
  out.preamble(0, 6).string("general.architecture", "x").u32("x.block_count", 1);
  out.u32("x.embedding_length", 4).u32("x.attention.head_count", 8);
  out.u32("x.feed_forward_length", 1).u32("x.vocab_size", 1);
  EXPECT_EQ(refused(out).message(),
            "bad.gguf: key 'x.attention.head_count' is 8; allowed: 1 to 4, the embedding length");
}

TEST(GgufHostile, AKeyThatAppearsTwice) {
  auto out = minimal(0, 1);
  out.u32("llama.block_count", 3);
  EXPECT_EQ(refused(out).message(),
            "bad.gguf: key 'llama.block_count' appears twice; allowed: once");
}

TEST(GgufHostile, ArchitecturesThatAreNotNames) {
  for (const std::string& name : {std::string{}, std::string{"a b"}, std::string{"\x1b[31m\n"}}) {
    GgufWriter out;
    out.preamble(0, 1).string("general.architecture", name);
    const Status status = refused(out);
    EXPECT_EQ(status.code(), Code::corrupt_data);
    EXPECT_THAT(status.message(), HasSubstr("allowed: a name of a-z 0-9 _ - ."));
    EXPECT_EQ(status.message().find('\x1b'), std::string::npos) << "terminals obey escapes";
  }
}

TEST(GgufHostile, TextFromTheFileCannotWriteControlCodes) {
  auto out = minimal(0, 1);
  out.key("evil\n\x1b[2Jkey", 99);
  const Status status = refused(out, kAmple);
  EXPECT_EQ(status.message(), "bad.gguf: key 'evil??[2Jkey': value type 99; allowed: 0 to 12");
}

}  // namespace
}  // namespace forebay
