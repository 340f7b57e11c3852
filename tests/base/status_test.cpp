#include "forebay/status.hpp"

#include <gtest/gtest.h>

namespace forebay {
namespace {

using namespace literals;

Refusal some_refusal() {
  return {.budget = "process/kv",
          .asked = 7_GiB,
          .used = 30_GiB,
          .limit = 36_GiB,
          .reclaimed = 1_MiB,
          .holders = {{"process/weights", 20_GiB, 0_B}, {"process/cache", 10_GiB, 2_GiB}},
          .advice = {"--kv-type q8_0", "a line of 37 GiB"}};
}

TEST(Status, OkHoldsNothing) {
  const Status status;
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(status.code(), Code::ok);
  EXPECT_EQ(status.message(), "");
  EXPECT_EQ(status.refusal(), nullptr);
  EXPECT_NO_THROW(status.throw_if_error());
  EXPECT_EQ(sizeof(Status), 2 * sizeof(void*));
}

TEST(Status, RefusalIsOneLineWithTheWholeAccount) {
  const Status status{some_refusal()};
  EXPECT_EQ(status.code(), Code::memory_refused);
  EXPECT_EQ(status.message(),
            "process/kv: asked 7 GiB, 6 GiB free (30 GiB used of 36 GiB), after reclaiming 1 MiB; "
            "held by process/weights 20 GiB, process/cache 10 GiB (2 GiB reclaimable); "
            "try: --kv-type q8_0; or a line of 37 GiB");
}

TEST(Status, ContextGoesInFrontAndKeepsTheAccount) {
  const Status status = Status{some_refusal()}.with_context("loading tiny.gguf");
  EXPECT_EQ(status.message().rfind("loading tiny.gguf: process/kv: asked", 0), 0U);
  ASSERT_NE(status.refusal(), nullptr);
  EXPECT_EQ(status.refusal()->limit, 36_GiB);
  EXPECT_TRUE(Status{}.with_context("x").ok());
}

TEST(Result, GivesItsValueOrThrowsByKind) {
  Result<int> good{7};
  EXPECT_EQ(good.value(), 7);
  EXPECT_TRUE(good.status().ok());

  Result<int> refused{Status{some_refusal()}};
  EXPECT_THROW(static_cast<void>(refused.value()), std::bad_alloc);
  EXPECT_EQ(std::move(refused).value_or(3), 3);

  Result<int> failed{Status{Code::not_found, "no such file"}};
  EXPECT_THROW(static_cast<void>(failed.value()), std::runtime_error);
  try {
    static_cast<void>(failed.value());
    FAIL() << "value() of an error must throw";
  } catch (const Error& error) {
    EXPECT_EQ(error.status().code(), Code::not_found);
  }
}

TEST(Result, HoldsMoveOnlyValues) {
  Result<std::unique_ptr<int>> result{std::make_unique<int>(5)};
  const std::unique_ptr<int> taken = std::move(result).value();
  EXPECT_EQ(*taken, 5);
}

TEST(ResultDeathTest, NeedsAnErrorWhenThereIsNoValue) {
  EXPECT_DEATH(Result<int>{Status{}}, "needs an error");
}

}  // namespace
}  // namespace forebay
