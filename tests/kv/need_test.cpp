#include "kv/need.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kv/shapes.hpp"

namespace forebay {
namespace {

using namespace forebay::literals;
using test::smollm2;

TEST(KvType, ReadsItsOwnNames) {
  for (const KvType type : {KvType::f16, KvType::bf16, KvType::q8_0, KvType::q4_0}) {
    const auto read = parse_kv_type(to_string(type));
    ASSERT_TRUE(read);
    EXPECT_EQ(*read, type);
  }
}

TEST(KvType, OtherNamesAreRefusedWithWhatIsAllowed) {
  const auto read = parse_kv_type("q5_1");
  ASSERT_FALSE(read);
  EXPECT_EQ(read.status().code(), Code::invalid_argument);
  EXPECT_EQ(read.status().message(), "'q5_1' is not a KV type; allowed: f16, bf16, q8_0, q4_0");
}

TEST(KvBytes, OfSmollm2AreKnown) {
  const ModelShape shape = smollm2();
  EXPECT_EQ(kv_bytes_per_token_per_layer(shape, KvType::f16, KvType::f16), 768_B);
  EXPECT_EQ(kv_bytes_per_token(shape, KvType::f16, KvType::f16), 23040_B);
  EXPECT_EQ(kv_bytes_per_token(shape, KvType::bf16, KvType::bf16), 23040_B);
  EXPECT_EQ(kv_bytes_per_token(shape, KvType::q8_0, KvType::q8_0), 12240_B);
  EXPECT_EQ(kv_bytes_per_token(shape, KvType::q4_0, KvType::q4_0), 6480_B);
  EXPECT_EQ(kv_bytes_per_token(shape, KvType::q8_0, KvType::f16), 17640_B);
}

TEST(KvBytes, KeysAndValuesMayDifferInLength) {
  ModelShape shape = smollm2();
  shape.head_dim_v = 32;
  EXPECT_EQ(kv_bytes_per_token_per_layer(shape, KvType::f16, KvType::f16),
            Bytes{2 * 3 * 64 + 2 * 3 * 32});
}

TEST(KvBytes, ARowThatEndsInsideABlockIsStoredWhole) {
  ModelShape shape = smollm2();
  shape.kv_heads = 1;
  shape.head_dim_k = 33;
  shape.head_dim_v = 1;
  EXPECT_EQ(kv_bytes_per_token_per_layer(shape, KvType::q8_0, KvType::q8_0), Bytes{2 * 34 + 34});
}

TEST(KvBytes, OverflowReadsUnlimited) {
  ModelShape shape = smollm2();
  shape.layers = shape.kv_heads = shape.head_dim_k = UINT32_MAX;
  EXPECT_TRUE(kv_bytes_per_token(shape, KvType::f16, KvType::f16).is_unlimited());
}

TEST(KvNeed, IsTheCellsAndTwoPagesALayer) {
  const RunShape run{.context_tokens = 8192};
  EXPECT_EQ(detail::kv_need(smollm2(), run), 180_MiB + 4_KiB * 60);
}

// What llama.cpp's dry run said of SmolLM2-135M (ggml 0.20.0, flash attention, one sequence).
struct Measured {
  RunShape run;
  std::uint64_t compute;
};

TEST(ComputeEstimate, IsExactForSmollm2WhereALayerDecides) {
  const Measured points[] = {
      {{.context_tokens = 8192, .batch_tokens = 512, .parallel_tokens = 50}, 22556896},
      {{.context_tokens = 8192, .batch_tokens = 512, .parallel_tokens = 1}, 22556704},
      {{.context_tokens = 4096, .batch_tokens = 512, .parallel_tokens = 8}, 18362400},
      {{.context_tokens = 2048, .batch_tokens = 512, .parallel_tokens = 50}, 16265440},
      {{.context_tokens = 1024, .batch_tokens = 128, .parallel_tokens = 1}, 3804192},
      {{.context_tokens = 256, .batch_tokens = 512, .parallel_tokens = 8}, 7215136}};
  for (const Measured& point : points) {
    const auto estimate = detail::estimate_compute(smollm2(), point.run).compute.count();
    EXPECT_NEAR(static_cast<double>(estimate), static_cast<double>(point.compute), 256);
  }
}

TEST(ComputeEstimate, IsNearForSmollm2WhereTheLogitsDecide) {
  const Measured points[] = {
      {{.context_tokens = 8192, .batch_tokens = 128, .parallel_tokens = 50}, 10241024},
      {{.context_tokens = 2048, .batch_tokens = 128, .parallel_tokens = 50}, 10241024},
      {{.context_tokens = 256, .batch_tokens = 128, .parallel_tokens = 50}, 10719456},
      {{.context_tokens = 8192, .batch_tokens = 32, .parallel_tokens = 32}, 6439040},
      {{.context_tokens = 8192, .batch_tokens = 32, .parallel_tokens = 8}, 1757312}};
  for (const Measured& point : points) {
    const auto estimate = detail::estimate_compute(smollm2(), point.run).compute.count();
    EXPECT_GT(static_cast<double>(estimate), 0.97 * static_cast<double>(point.compute));
    EXPECT_LT(static_cast<double>(estimate), 1.42 * static_cast<double>(point.compute));
  }
}

TEST(ComputeEstimate, LogitsAreFourBytesATokenAndRow) {
  const RunShape run{.context_tokens = 512, .batch_tokens = 64, .parallel_tokens = 8};
  EXPECT_EQ(detail::estimate_compute(smollm2(), run).output, Bytes{4ULL * 8 * 49152});
}

TEST(ComputeEstimate, ABatchIsNeverMoreThanTheContext) {
  RunShape run{.context_tokens = 256, .batch_tokens = 256, .parallel_tokens = 1};
  const Bytes small = detail::estimate_compute(smollm2(), run).compute;
  run.batch_tokens = 4096;
  EXPECT_EQ(detail::estimate_compute(smollm2(), run).compute, small);
}

// Resident bytes beside all buffers, measured with SmolLM2 after a prompt and parallel steps.
TEST(OverheadEstimate, LiesJustAboveWhatSmollm2Took) {
  const auto estimate = [](std::uint32_t batch, std::uint32_t parallel) {
    const RunShape run{.context_tokens = 2048, .batch_tokens = batch, .parallel_tokens = parallel};
    return detail::estimate_overhead(smollm2(), run);
  };
  EXPECT_GE(estimate(512, 50), 23276_KiB);
  EXPECT_LE(estimate(512, 50), fraction_of(23276_KiB, 1.1));
  EXPECT_GE(estimate(64, 1), 21860_KiB);
  EXPECT_LE(estimate(64, 1), fraction_of(21860_KiB, 1.1));
}

TEST(CheckRequest, EachZeroAndExcessIsNamed) {
  const auto refuse = [](auto change, std::string_view words) {
    PlanRequest request;
    request.shape = smollm2();
    request.line = 1_GiB;
    ASSERT_TRUE(detail::check_request(request).ok());
    change(request);
    const Status status = detail::check_request(request);
    EXPECT_EQ(status.code(), Code::invalid_argument);
    EXPECT_EQ(status.message(), words);
  };
  refuse([](auto& r) { r.shape.layers = 0; }, "layers is 0; allowed: 1 to 65536");
  refuse([](auto& r) { r.shape.heads = 0; }, "heads is 0; allowed: 1 to 65536");
  refuse([](auto& r) { r.shape.kv_heads = 0; }, "kv_heads is 0; allowed: 1 to 65536");
  refuse([](auto& r) { r.shape.head_dim_k = 0; }, "head_dim_k is 0; allowed: 1 to 65536");
  refuse([](auto& r) { r.shape.head_dim_v = 70000; }, "head_dim_v is 70000; allowed: 1 to 65536");
  refuse([](auto& r) { r.shape.embedding = 0; }, "embedding is 0; allowed: 1 to 16777216");
  refuse([](auto& r) { r.shape.feed_forward = 0; }, "feed_forward is 0; allowed: 1 to 67108864");
  refuse([](auto& r) { r.shape.vocabulary = 0; }, "vocabulary is 0; allowed: 1 to 268435456");
  refuse([](auto& r) { r.run.context_tokens = UINT32_MAX; },
         "context_tokens is 4294967295; allowed: 0 to 2147483648");
  refuse([](auto& r) { r.run.batch_tokens = 0; }, "batch_tokens is 0; allowed: 1 to 1048576");
  refuse([](auto& r) { r.parallel = 0; }, "parallel_tokens is 0; allowed: 1 to 1048576");
  refuse([](auto& r) { r.max_parallel = 0; }, "max_parallel is 0; allowed: 1 to 1048576");
  refuse([](auto& r) { r.max_context = UINT32_MAX; },
         "max_context is 4294967295; allowed: 0 to 2147483648");
}

}  // namespace
}  // namespace forebay
