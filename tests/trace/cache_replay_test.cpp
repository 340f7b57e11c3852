#include "trace/cache_replay.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <list>
#include <unordered_map>

#include "trace/cache_traces.hpp"

namespace forebay::trace {
namespace {

using testing::HasSubstr;

std::string csv_of(const std::vector<CacheRequest>& requests) {
  std::string text = "key,size,cost\n";
  for (const CacheRequest& r : requests) text += fmt::format("{},{},{}\n", r.key, r.bytes, r.cost);
  return text;
}

// Some keys are asked for more often, by the product of two draws.
std::vector<CacheRequest> skewed(int count, std::uint64_t keys, std::uint64_t sizes) {
  TestRandom random{17};
  std::vector<CacheRequest> requests;
  for (int i = 0; i < count; ++i) {
    const std::uint64_t key = random.below(keys) * random.below(keys) / keys;
    requests.push_back(
        {.key = key, .bytes = 1 + key * 7919 % sizes, .cost = static_cast<float>(1 + key % 5)});
  }
  return requests;
}

// The book's LRU, in as few lines as it takes.
struct NaiveLru {
  std::uint64_t capacity, used = 0, misses = 0, bytes_missed = 0;
  double cost_missed = 0;
  std::list<CacheRequest> order;  // the oldest first

  void request(const CacheRequest& r) {
    for (auto at = order.begin(); at != order.end(); ++at) {
      if (at->key != r.key) continue;
      order.splice(order.end(), order, at);
      return;
    }
    ++misses;
    bytes_missed += r.bytes;
    cost_missed += static_cast<double>(r.cost);
    if (r.bytes > capacity) return;
    for (; used + r.bytes > capacity; order.pop_front()) used -= order.front().bytes;
    order.push_back(r);
    used += r.bytes;
  }
};

CacheReplayOptions options_for(std::vector<std::string> policies,
                               std::vector<LineSetting> capacities) {
  CacheReplayOptions options;
  options.policies = *parse_policies(policies);
  options.capacities = std::move(capacities);
  return options;
}

LineSetting bytes(std::uint64_t count) { return {.bytes = Bytes{count}, .fraction = {}}; }
LineSetting share(double part) { return {.bytes = {}, .fraction = part}; }

Result<CacheReplay> replayed(const std::string& text, const CacheReplayOptions& options) {
  const auto open = [&] { return *CacheReader::over(text, "t", {}); };
  if (!needs_survey(options)) return replay_requests(open(), nullptr, options);
  const auto survey = survey_requests(open(), options);
  if (!survey.ok()) return survey.status();
  return replay_requests(open(), &*survey, options);
}

TEST(CacheReplay, AgreesWithANaiveLru) {
  for (const std::uint64_t sizes : {1, 50}) {
    const auto requests = skewed(20'000, 900, sizes);
    const auto replay = replayed(csv_of(requests), options_for({"lru"}, {bytes(100), bytes(2000)}));
    ASSERT_TRUE(replay.ok()) << replay.status().message();
    ASSERT_EQ(replay->runs.size(), 2U);
    for (const CacheRun& run : replay->runs) {
      NaiveLru naive{.capacity = run.capacity, .order = {}};
      for (const CacheRequest& request : requests) naive.request(request);
      EXPECT_EQ(run.counts.requests - run.counts.hits, naive.misses);
      EXPECT_EQ(run.counts.bytes_missed, naive.bytes_missed);
      EXPECT_EQ(run.counts.cost_missed, naive.cost_missed);
      EXPECT_DOUBLE_EQ(run.misses.objects, static_cast<double>(naive.misses) / 20'000);
      EXPECT_DOUBLE_EQ(run.misses.cost, naive.cost_missed / replay->demand.cost);
    }
  }
}

TEST(CacheReplay, SharesAreOfTheFootprint) {
  const auto replay = replayed("0,1,100\n1,2,300\n2,1,100\n", options_for({"lru"}, {share(0.5)}));
  ASSERT_TRUE(replay.ok());
  EXPECT_EQ(replay->demand.objects, 2U);
  EXPECT_EQ(replay->demand.footprint_bytes, 400U);
  EXPECT_EQ(replay->runs[0].capacity, 200U);
  EXPECT_EQ(replay->runs[0].counts.hits, 1U);
  EXPECT_EQ(replay->runs[0].counts.refused, 1U);
  const auto tiny = replayed("0,1,1\n", options_for({"lru"}, {share(0.001)}));
  EXPECT_EQ(tiny->runs[0].capacity, 1U);
}

TEST(CacheReplay, OnePassIsEnoughForBytes) {
  EXPECT_FALSE(needs_survey(options_for({"lru", "fifo"}, {bytes(10)})));
  EXPECT_TRUE(needs_survey(options_for({"lru"}, {share(0.1)})));
  EXPECT_TRUE(needs_survey(options_for({"belady"}, {bytes(10)})));
  const auto replay = replayed("0,1,100\n1,2,300\n", options_for({"lru"}, {bytes(10)}));
  EXPECT_EQ(replay->demand.footprint_bytes, 400U);  // counted on the way
}

TEST(CacheReplay, NoPolicyMissesLessThanTheOptimum) {
  const auto requests = skewed(30'000, 2000, 1);
  const auto replay =
      replayed(csv_of(requests), options_for({"all", "belady"}, {share(0.01), share(0.1)}));
  ASSERT_TRUE(replay.ok());
  const std::size_t policies = replay->runs.size() / 2;
  for (std::size_t first : {std::size_t{0}, policies}) {
    const CacheRun& optimum = replay->runs[first + policies - 1];
    ASSERT_EQ(optimum.policy, "belady");
    EXPECT_TRUE(optimum.offline);
    for (std::size_t i = first; i + 1 < first + policies; ++i) {
      EXPECT_GE(replay->runs[i].misses.objects, optimum.misses.objects) << replay->runs[i].policy;
    }
  }
  ASSERT_TRUE(replay->best);
  EXPECT_NE(replay->runs[*replay->best].policy, "belady");
}

TEST(CacheReplay, TheOptimumAloneIsNotRecommended) {
  const auto replay = replayed("0,1,1\n1,1,1\n", options_for({"belady"}, {bytes(1)}));
  EXPECT_FALSE(replay->best);
  EXPECT_EQ(replay->runs[0].counts.hits, 1U);
}

TEST(CacheReplay, TheBestIsOfTheObjective) {
  // A loop that is a little too long: lru misses all of it, fifo too; what came first is named.
  std::string loop;
  for (int i = 0; i < 100; ++i) loop += fmt::format("{},{},1\n", i, i % 5);
  const auto replay = replayed(loop, options_for({"fifo", "lru"}, {bytes(4)}));
  EXPECT_EQ(replay->runs[*replay->best].policy, "fifo");
  EXPECT_THAT(replay->reason, HasSubstr("misses least objects, 0.0 % fewer than lru"));
}

TEST(CacheReplay, ACurveFallsToTheFirstRequests) {
  CacheReplayOptions options = options_for({"lru", "belady"}, {share(0.1)});
  options.curve = true;
  const auto replay = replayed(csv_of(skewed(20'000, 3000, 20)), options);
  ASSERT_TRUE(replay.ok());
  ASSERT_EQ(replay->curves.size(), 2U);
  EXPECT_EQ(replay->curve_sampling, 1);
  for (const CacheCurve& curve : replay->curves) {
    ASSERT_EQ(curve.points.size(), 13U);
    EXPECT_NEAR(curve.points[0].share, 0.001, 1e-12);
    EXPECT_EQ(curve.points[12].capacity, replay->demand.footprint_bytes);
    // With room for all, only the first request of each object misses.
    EXPECT_DOUBLE_EQ(curve.points[12].misses.objects,
                     static_cast<double>(replay->demand.objects) / 20'000);
  }
  // The point at a tenth is the run at a tenth.
  EXPECT_DOUBLE_EQ(replay->curves[0].points[8].misses.objects, replay->runs[0].misses.objects);
  EXPECT_DOUBLE_EQ(replay->curves[1].points[8].misses.bytes, replay->runs[1].misses.bytes);
}

TEST(CacheReplay, ACurveOfManyObjectsIsOfAPartAndNearTheTruth) {
  const auto requests = skewed(1'000'000, 400'000, 1);
  CacheReplayOptions options = options_for({"lru", "belady"}, {share(0.01), share(0.1), share(1)});
  options.curve = true;
  const auto replay = replayed(csv_of(requests), options);
  ASSERT_TRUE(replay.ok());
  EXPECT_LT(replay->curve_sampling, 0.5);
  const std::array<std::size_t, 3> points{4, 8, 12};
  for (std::size_t i = 0; i < points.size(); ++i) {
    for (std::size_t policy = 0; policy < 2; ++policy) {
      EXPECT_NEAR(replay->curves[policy].points[points[i]].misses.objects,
                  replay->runs[2 * i + policy].misses.objects, 0.02);
    }
  }
}

TEST(CacheReplay, ErrorsOfTheTraceAreErrorsOfTheReplay) {
  const auto options = options_for({"lru"}, {share(0.1)});
  EXPECT_EQ(replayed("0,1,1\n0,x,y\n", options).status().message(),
            "t:2: size: y is not allowed; allowed: a whole number from 0 to 281474976710656");
  EXPECT_THAT(replayed("time,key,size\n", options).status().message(), HasSubstr("t: no requests"));
  EXPECT_THAT(replayed("0,1,0\n", options_for({"lru"}, {bytes(1)})).status().message(),
              HasSubstr("t: no requests"));
}

TEST(CacheReplay, ProgressMayEndIt) {
  CacheReplayOptions options = options_for({"lru"}, {share(0.1)});
  options.progress = [](double share) { return share < 0; };
  EXPECT_EQ(replayed("0,1,1\n", options).status().code(), Code::interrupted);
}

TEST(CachePolicies, AreNamedOnceInTheOrderGiven) {
  const auto names = [](std::vector<std::string> texts) {
    std::vector<std::string> list;
    const auto policies = parse_policies(texts);
    for (const Contender& contender : *policies) list.push_back(contender.name);
    return list;
  };
  EXPECT_EQ(names({"fifo,lru", "belady"}), (std::vector<std::string>{"fifo", "lru", "belady"}));
  EXPECT_EQ(names({"fifo", "all"})[0], "fifo");
  EXPECT_THAT(names({"all"}), testing::AllOf(testing::Contains("lru").Times(1),
                                             testing::Contains("fifo").Times(1)));
  EXPECT_THAT(names({}), testing::Contains("lru"));
}

TEST(CachePolicies, UnknownOnesAreRefusedWithWhatIsMeant) {
  const auto error = [](const std::string& text) {
    return parse_policies(std::vector<std::string>{text}).status().message();
  };
  EXPECT_EQ(error("lrru"), "lrru: unknown policy; did you mean 'lru'?");
  EXPECT_THAT(error("lru,,fifo"), HasSubstr("unknown policy; allowed: lru"));
  EXPECT_EQ(error("lru,lru"), "lru: given twice; allowed: once");
}

TEST(Footprint, IsExactForFewObjectsAndNearForMany) {
  const auto requests = skewed(300'000, 100'000, 100);
  Footprint exact, bounded{1000};
  exact.add(requests);
  bounded.add(requests);
  EXPECT_TRUE(exact.demand().exact);
  EXPECT_FALSE(bounded.demand().exact);
  const auto near = [](std::uint64_t a, std::uint64_t b) {
    EXPECT_NEAR(static_cast<double>(a) / static_cast<double>(b), 1, 0.1);
  };
  near(bounded.demand().objects, exact.demand().objects);
  near(bounded.demand().footprint_bytes, exact.demand().footprint_bytes);
  EXPECT_EQ(bounded.demand().bytes, exact.demand().bytes);
}

TEST(Footprint, CountsAnObjectOnceAtItsFirstSize) {
  Footprint footprint;
  const std::vector<CacheRequest> requests{{.key = 1, .bytes = 5}, {.key = 1, .bytes = 50}};
  footprint.add(requests);
  EXPECT_EQ(footprint.demand().objects, 1U);
  EXPECT_EQ(footprint.demand().footprint_bytes, 5U);
  EXPECT_EQ(footprint.demand().bytes, 55U);
  EXPECT_EQ(footprint.demand().largest, 50U);
  EXPECT_TRUE(footprint.demand().sizes_differ);
}

}  // namespace
}  // namespace forebay::trace
