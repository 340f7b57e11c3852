// Any order of operations leaves a pool as its model says (pool_model.hpp). RapidCheck finds a
// short order that does not; FOREBAY_POOL_STEPS=n in the environment runs a long random campaign.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdlib>
#include <random>
#include <vector>

#include "pool/pool_model.hpp"

namespace forebay::testing {

// Found by RapidCheck where the type is.
inline void showValue(const PoolOperation& operation, std::ostream& out) {
  out << '{' << +operation.verb % 16 << ", log " << +operation.log % 21 << ", which "
      << +operation.which << ", bits " << operation.bits << '}';
}

namespace {

using namespace literals;

rc::Gen<PoolOperation> any_operation() {
  return rc::gen::build<PoolOperation>(
      rc::gen::set(&PoolOperation::verb), rc::gen::set(&PoolOperation::log),
      rc::gen::set(&PoolOperation::which), rc::gen::set(&PoolOperation::bits));
}

void run(Below below, bool large_only, Bytes max_retained, const auto& operations) {
  PoolModel model{below, large_only, max_retained};
  for (const PoolOperation& operation : operations) model.apply(operation);
  model.end();
}

class PoolProperty : public ::testing::TestWithParam<std::tuple<Below, bool>> {};

TEST_P(PoolProperty, HoldsForAnyShortOrderOfOperations) {
  const auto [below, large_only] = GetParam();
  const bool held = rc::check([&, b = below, l = large_only] {
    run(b, l, Bytes::unlimited(), *rc::gen::container<std::vector<PoolOperation>>(any_operation()));
  });
  EXPECT_TRUE(held);
}

std::uint64_t steps() {
  const char* const asked = std::getenv("FOREBAY_POOL_STEPS");
  return asked == nullptr ? 3000 : std::strtoull(asked, nullptr, 10);
}

TEST_P(PoolProperty, HoldsForALongRandomOrder) {
  const auto [below, large_only] = GetParam();
  unsigned seed = 0;
  for (const Bytes max_retained : {Bytes::unlimited(), 2_MiB}) {
    PoolModel model{below, large_only, max_retained};
    std::mt19937 random{++seed};
    const auto any = [&random] { return static_cast<std::uint8_t>(random()); };
    for (std::uint64_t step = 0; step < steps(); ++step) {
      const PoolOperation operation{any(), any(), any(), static_cast<std::uint16_t>(random())};
      try {
        model.apply(operation);
      } catch (const std::logic_error& broken) {
        FAIL() << "step " << step << ", verb " << operation.verb % 16 << ": " << broken.what();
      }
    }
    EXPECT_GT(model.refusals(), steps() / 200) << "too easy";
    ASSERT_NO_THROW(model.end());
  }
}

std::string name_of(const ::testing::TestParamInfo<std::tuple<Below, bool>>& info) {
  constexpr const char* kNames[] = {"Host", "Simulated", "Metered", "Segments", "Streams"};
  const auto [below, large_only] = info.param;
  return std::string{kNames[static_cast<std::size_t>(below)]} + (large_only ? "Large" : "All");
}

INSTANTIATE_TEST_SUITE_P(, PoolProperty,
                         ::testing::Combine(::testing::Values(Below::host, Below::simulated,
                                                              Below::metered, Below::segments,
                                                              Below::streams),
                                            ::testing::Bool()),
                         name_of);

}  // namespace
}  // namespace forebay::testing
