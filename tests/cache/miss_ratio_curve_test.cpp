#include "cache/miss_ratio_curve.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <unordered_map>
#include <vector>

#include "forebay/cache.hpp"

namespace forebay::testing {
namespace {

using namespace forebay::literals;

using detail::CacheRequest;
using detail::CurveOptions;
using detail::MiniatureCurve;
using detail::MissRatioCurve;
using detail::PolicyKind;
using detail::SimulatedCache;

constexpr std::uint64_t kKeys = 400'000;
constexpr int kRequests = 1'000'000;

// Zipf over `keys`, the hottest being 0; by inversion.
class Zipf {
 public:
  Zipf(std::size_t keys, double exponent, std::uint64_t seed) : sums_(keys), random_(seed) {
    double sum = 0;
    for (std::size_t i = 0; i != keys; ++i) {
      sum += std::pow(static_cast<double>(i + 1), -exponent);
      sums_[i] = sum;
    }
  }
  std::uint64_t next() {
    const double draw = std::uniform_real_distribution<>{0, sums_.back()}(random_);
    return static_cast<std::uint64_t>(std::lower_bound(sums_.begin(), sums_.end(), draw) -
                                      sums_.begin());
  }

 private:
  std::vector<double> sums_;
  std::mt19937_64 random_;
};

// Stack distances, of all requests: what LRU caches of some sizes really miss.
class ExactCurve {
 public:
  explicit ExactCurve(std::vector<std::uint64_t> capacities)
      : hits_(capacities.size() + 1),
        bytes_hit_(capacities.size() + 1),
        capacities_(std::move(capacities)) {}

  void request(std::uint64_t key, std::uint64_t bytes) {
    requests_ += 1;
    bytes_ += static_cast<double>(bytes);
    std::size_t& last = last_[key];
    if (last != 0) {
      const std::uint64_t distance = total_ - sum_to(last) + bytes;
      const auto fits = std::lower_bound(capacities_.begin(), capacities_.end(), distance);
      const auto i = static_cast<std::size_t>(fits - capacities_.begin());
      hits_[i] += 1;
      bytes_hit_[i] += static_cast<double>(bytes);
      add(last, ~bytes + 1);
    }
    last = ++now_;
    add(now_, bytes);
  }
  const std::vector<std::uint64_t>& capacities() const { return capacities_; }
  double object_miss_ratio(std::size_t i) const { return 1 - sum_to(hits_, i) / requests_; }
  double byte_miss_ratio(std::size_t i) const { return 1 - sum_to(bytes_hit_, i) / bytes_; }

 private:
  void add(std::size_t at, std::uint64_t bytes) {
    total_ += bytes;
    for (; at < tree_.size(); at += at & (~at + 1)) tree_[at] += bytes;
  }
  static double sum_to(const std::vector<double>& counts, std::size_t last) {
    return std::accumulate(counts.begin(), counts.begin() + static_cast<std::ptrdiff_t>(last) + 1,
                           0.0);
  }
  std::uint64_t sum_to(std::size_t at) const {
    std::uint64_t sum = 0;
    for (; at != 0; at &= at - 1) sum += tree_[at];
    return sum;
  }

  std::unordered_map<std::uint64_t, std::size_t> last_;
  std::vector<std::uint64_t> tree_ = std::vector<std::uint64_t>(kRequests + 1);
  std::uint64_t total_ = 0;
  std::size_t now_ = 0;
  double requests_ = 0;
  double bytes_ = 0;
  std::vector<double> hits_;  // that need this capacity and not the one before
  std::vector<double> bytes_hit_;
  std::vector<std::uint64_t> capacities_;
};

// A quarter of an octave apart, as those of a cache.
std::vector<std::uint64_t> sizes_around(std::uint64_t line) {
  std::vector<std::uint64_t> sizes;
  for (int i = -24; i <= 12; ++i) {
    sizes.push_back(static_cast<std::uint64_t>(static_cast<double>(line) * std::exp2(i / 4.0)));
  }
  return sizes;
}

// Bytes are known less well from as many requests, as some have many.
constexpr double kBytesBound = 0.025;

// Compares both curves, for entries of one size and of many.
template <typename NextKey>
void expect_true_curves(const CurveOptions& options, std::uint64_t salt, bool sized, NextKey next) {
  MissRatioCurve curve(options);
  ExactCurve truth(sizes_around(kKeys / 8 * (sized ? 2080 : 1)));
  for (int i = 0; i != kRequests; ++i) {
    const std::uint64_t key = detail::mix_key(next(i) + salt * 1'000'003);
    const std::uint64_t bytes = sized ? 64 + detail::mix_key(key) % 4032 : 1;
    curve.request({.key = key, .bytes = bytes});
    truth.request(key, bytes);
  }
  const auto footprint = curve.footprint();
  for (std::size_t i = 0; i != truth.capacities().size(); ++i) {
    const std::uint64_t size = truth.capacities()[i];
    EXPECT_NEAR(curve.object_miss_ratio(size, footprint), truth.object_miss_ratio(i), 0.02)
        << "objects, " << size << ", " << salt;
    EXPECT_NEAR(curve.byte_miss_ratio(size, footprint), truth.byte_miss_ratio(i), kBytesBound)
        << "bytes, " << size << ", " << salt;
  }
  EXPECT_LE(curve.sample_rate(), 0.005);  // and as many requests are watched
}

// The hottest of 400 000 keys gets from a thousandth to a fifth of all requests.
class CurveOfSkew : public ::testing::TestWithParam<double> {};
TEST_P(CurveOfSkew, IsWithinTwoPointsOfTheTruth) {
  for (const std::uint64_t salt : {1U, 2U, 3U}) {
    Zipf keys{kKeys, GetParam(), salt};
    expect_true_curves({}, salt, salt != 1, [&](int) { return keys.next(); });
  }
}
TEST_P(CurveOfSkew, IsWithinTwoPointsOfTheTruthWhenTheSampleIsCut) {
  Zipf keys{kKeys, GetParam(), 4};
  expect_true_curves({.most_keys = 1400}, 4, false, [&](int) { return keys.next(); });
}
INSTANTIATE_TEST_SUITE_P(Zipf, CurveOfSkew, ::testing::Values(0.5, 0.8, 0.99, 1.2));

TEST(MissRatioCurve, OfALoopIsWithinTwoPointsOfTheTruth) {
  for (const bool sized : {false, true}) {
    for (const int period : {46'000, 7300}) {
      expect_true_curves({}, 5, sized,
                         [&](int i) { return static_cast<std::uint64_t>(i % period); });
    }
  }
}

TEST(MissRatioCurve, OfScansBetweenSkewedRequestsIsWithinTwoPointsOfTheTruth) {
  for (const std::uint64_t salt : {6U, 7U}) {
    Zipf keys{kKeys, 0.9, salt};
    expect_true_curves({}, salt, salt == 7, [&](int i) {
      return i / 20'000 % 3 == 2 ? kKeys + static_cast<std::uint64_t>(i) : keys.next();
    });
  }
}

TEST(MissRatioCurve, OfKeysWhoseTimePassesIsWithinTwoPointsOfTheTruth) {
  Zipf keys{kKeys, 0.9, 8};
  expect_true_curves({}, 8, true,
                     [&](int i) { return keys.next() + static_cast<unsigned>(i) / 100; });
}

TEST(MissRatioCurve, IsTheTruthWhenAllKeysAreSampled) {
  MissRatioCurve curve({.sample_rate = 1, .most_keys = 1000, .watches = 0});
  SimulatedCache lru(PolicyKind::lru, {.capacity = 20});
  std::mt19937_64 random(1);
  for (int i = 0; i < 20'000; ++i) {
    const CacheRequest request{.key = random() % 10 * (random() % 10)};
    curve.request(request);
    lru.request(request);
  }
  const auto& counts = lru.counts();
  const auto footprint = curve.footprint();
  EXPECT_NEAR(curve.object_miss_ratio(20, footprint),
              1 - static_cast<double>(counts.hits) / static_cast<double>(counts.requests), 1e-9);
  EXPECT_LT(curve.object_miss_ratio(100, footprint), curve.object_miss_ratio(10, footprint));
}

TEST(MissRatioCurve, RemembersNoMoreKeysThanAllowed) {
  MissRatioCurve curve({.sample_rate = 1, .most_keys = 500});
  const std::size_t before = curve.metadata_bytes();
  Zipf keys{100'000, 0.5, 1};
  for (int i = 0; i < 200'000; ++i) curve.request({.key = keys.next()});
  EXPECT_EQ(curve.metadata_bytes(), before);
  EXPECT_LT(curve.sample_rate(), 0.02);
  EXPECT_EQ(curve.requests(), 200'000U);
}

TEST(MissRatioCurve, SaysThatAllIsMissedBeforeAnyRequest) {
  const MissRatioCurve curve({});
  EXPECT_EQ(curve.object_miss_ratio(100, curve.footprint()), 1);
  EXPECT_EQ(curve.byte_miss_ratio(100, curve.footprint()), 1);
}

// Hits, and puts of what was not there: the curve sees what the cache does.
TEST(CacheCurve, OfALiveCacheIsWithinTwoPointsOfTheTruth) {
  using Blocks = Cache<std::uint64_t, std::uint64_t>;  // the value is what it weighs elsewhere
  constexpr Bytes kLine{64ULL << 20};
  for (const auto& [policy, exponent] :
       {std::pair{"lru", 0.5}, {"lru", 0.99}, {"auto", 0.99}, {"auto", 1.2}}) {
    Blocks cache{{.max_bytes = kLine, .policy = policy, .miss_ratio_curve = true},
                 {.weigher = [](std::uint64_t, std::uint64_t bytes) { return Bytes{bytes}; }}};
    const std::uint64_t base = 16 + cache_entry_overhead(policy).count();
    std::vector<SimulatedCache> truth;
    truth.reserve(4);
    for (const std::uint64_t part : {8U, 4U, 2U, 1U})
      truth.emplace_back(PolicyKind::lru, detail::PolicyOptions{.capacity = kLine.count() / part});
    Zipf keys(800'000, exponent, 5);
    for (int i = 0; i != 800'000; ++i) {
      const std::uint64_t key = keys.next();
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
          << policy << " " << exponent << " " << lru.capacity();
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
    Zipf keys(400'000, 0.5, 3);
    for (int i = 0; i < 1'000'000; ++i) {
      const CacheRequest request{.key = keys.next()};
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
