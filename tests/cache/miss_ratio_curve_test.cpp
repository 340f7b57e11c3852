#include "cache/miss_ratio_curve.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "forebay/cache.hpp"

namespace forebay::testing {
namespace {

using namespace forebay::literals;

using detail::CacheRequest;
using detail::MiniatureCurve;
using detail::MissRatioCurve;
using detail::PolicyKind;
using detail::SimulatedCache;

// Zipf of exponent 0.5 over `keys`, by inversion of its continuous form; sizes from 64 to 4096.
class Skewed {
 public:
  Skewed(std::uint64_t keys, bool sized) : keys_(static_cast<double>(keys)), sized_(sized) {}
  CacheRequest next() {
    const double draw = std::uniform_real_distribution<>{0, 1}(random_);
    const auto key = static_cast<std::uint64_t>(keys_ * std::pow(draw, 2.0));
    return {.key = key, .bytes = sized_ ? 64 + key * 2654435761U % 4032 : 1};
  }

 private:
  std::mt19937_64 random_{3};
  double keys_;
  bool sized_;
};

void expect_lru_curve(bool sized) {
  constexpr std::uint64_t kKeys = 400'000;
  const std::uint64_t whole = kKeys * (sized ? 2000 : 1);
  MissRatioCurve curve({.sample_rate = 0.01});
  std::vector<SimulatedCache> truth;
  for (const std::uint64_t part : {1000U, 100U, 30U, 10U, 3U})
    truth.emplace_back(PolicyKind::lru, detail::PolicyOptions{.capacity = whole / part});
  Skewed requests(kKeys, sized);
  for (int i = 0; i < 1'500'000; ++i) {
    const CacheRequest request = requests.next();
    curve.request(request);
    for (SimulatedCache& cache : truth) cache.request(request);
  }
  for (const SimulatedCache& cache : truth) {
    const auto& counts = cache.counts();
    const double misses =
        1 - static_cast<double>(counts.hits) / static_cast<double>(counts.requests);
    const double bytes =
        static_cast<double>(counts.bytes_missed) / static_cast<double>(counts.bytes_requested);
    EXPECT_NEAR(curve.object_miss_ratio(cache.capacity()), misses, 0.02) << cache.capacity();
    // A hundredth of 400 000 keys says less of bytes than of requests.
    EXPECT_NEAR(curve.byte_miss_ratio(cache.capacity()), bytes, 0.035) << cache.capacity();
  }
  EXPECT_LE(curve.sample_rate(), 0.01);
}

TEST(MissRatioCurve, IsWithinTwoPointsOfTheTruthForEntries) { expect_lru_curve(false); }
TEST(MissRatioCurve, IsNearTheTruthForBytes) { expect_lru_curve(true); }

TEST(MissRatioCurve, IsTheTruthWhenAllKeysAreSampled) {
  MissRatioCurve curve({.sample_rate = 1, .most_keys = 1000});
  SimulatedCache lru(PolicyKind::lru, {.capacity = 20});
  std::mt19937_64 random(1);
  for (int i = 0; i < 20'000; ++i) {
    const CacheRequest request{.key = random() % 10 * (random() % 10)};
    curve.request(request);
    lru.request(request);
  }
  const auto& counts = lru.counts();
  EXPECT_NEAR(curve.object_miss_ratio(20),
              1 - static_cast<double>(counts.hits) / static_cast<double>(counts.requests), 1e-9);
  EXPECT_LT(curve.object_miss_ratio(100), curve.object_miss_ratio(10));
}

TEST(MissRatioCurve, RemembersNoMoreKeysThanAllowed) {
  MissRatioCurve curve({.sample_rate = 1, .most_keys = 500});
  const std::size_t before = curve.metadata_bytes();
  Skewed requests(100'000, false);
  for (int i = 0; i < 200'000; ++i) curve.request(requests.next());
  EXPECT_EQ(curve.metadata_bytes(), before);
  EXPECT_LT(curve.sample_rate(), 0.02);
  EXPECT_EQ(curve.requests(), 200'000U);
}

TEST(MissRatioCurve, SaysThatAllIsMissedBeforeAnyRequest) {
  const MissRatioCurve curve({});
  EXPECT_EQ(curve.object_miss_ratio(100), 1);
  EXPECT_EQ(curve.byte_miss_ratio(100), 1);
}

// Hits, and puts of what was not there: the curve sees what the cache does.
TEST(CacheCurve, OfALiveCacheIsWithinTwoPointsOfTheTruth) {
  using Blocks = Cache<std::uint64_t, std::uint64_t>;  // the value is what it weighs elsewhere
  constexpr Bytes kLine{64ULL << 20};
  for (const auto policy : {"lru", "auto"}) {
    Blocks cache{{.max_bytes = kLine, .policy = policy, .miss_ratio_curve = true},
                 {.weigher = [](std::uint64_t, std::uint64_t bytes) { return Bytes{bytes}; }}};
    const std::uint64_t base = 16 + cache_entry_overhead(policy).count();
    std::vector<SimulatedCache> truth;
    truth.reserve(4);
    for (const std::uint64_t part : {8U, 4U, 2U, 1U})
      truth.emplace_back(PolicyKind::lru, detail::PolicyOptions{.capacity = kLine.count() / part});
    Skewed requests(800'000, false);  // a sample of 8000
    for (int i = 0; i != 800'000; ++i) {
      const std::uint64_t key = requests.next().key;
      const std::uint64_t bytes = key * 2654435761U % 30 * 16;
      if (!cache.find(key)) {
        ASSERT_TRUE(cache.put(key, bytes));
      }
      for (auto& lru : truth) lru.request({.key = key, .bytes = (base + bytes + 15) / 16 * 16});
    }
    const auto points = cache.miss_ratio_curve();
    for (const SimulatedCache& lru : truth) {
      const auto at = std::find_if(points.begin(), points.end(), [&](const MissRatioPoint& point) {
        return point.max_bytes.count() == lru.capacity();
      });
      ASSERT_NE(at, points.end());
      const auto& counts = lru.counts();
      EXPECT_NEAR(at->objects,
                  1 - static_cast<double>(counts.hits) / static_cast<double>(counts.requests), 0.02)
          << policy << " " << lru.capacity();
    }
    const CacheStats stats = cache.stats();
    EXPECT_LE(stats.used + stats.reserved, kLine);
    EXPECT_GE(stats.reserved, 1_MiB) << "for the curve";
  }
}

TEST(MiniatureCurve, IsWithinTwoPointsOfTheTruthForOtherPolicies) {
  const std::vector<std::uint64_t> capacities{4000, 12'000, 40'000};
  for (const PolicyKind kind : {PolicyKind::s3fifo, PolicyKind::arc}) {
    MiniatureCurve curve(kind, capacities, 0.01);
    std::vector<SimulatedCache> truth;
    truth.reserve(capacities.size());
    for (const std::uint64_t capacity : capacities)
      truth.emplace_back(kind, detail::PolicyOptions{.capacity = capacity});
    Skewed requests(400'000, false);
    for (int i = 0; i < 1'000'000; ++i) {
      const CacheRequest request = requests.next();
      curve.request(request);
      for (SimulatedCache& cache : truth) cache.request(request);
    }
    const auto points = curve.points();
    for (std::size_t i = 0; i < points.size(); ++i) {
      const auto& counts = truth[i].counts();
      EXPECT_NEAR(points[i].object_miss_ratio,
                  1 - static_cast<double>(counts.hits) / static_cast<double>(counts.requests), 0.02)
          << to_string(kind) << " " << capacities[i];
    }
  }
}

}  // namespace
}  // namespace forebay::testing
