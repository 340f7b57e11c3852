#include "telemetry/gather.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "telemetry/segment.hpp"

namespace forebay::detail {
namespace {

using namespace literals;

StatisticsGroup budget(std::string path, double limit, double charged, double pressure = 0) {
  return {"budget",
          std::move(path),
          {{"limit_bytes", limit},
           {"charged_bytes", charged},
           {"used_bytes", charged},
           {"pressure", pressure},
           {"denials_total", 2}}};
}

PublishedView gathered(std::vector<StatisticsGroup> groups, std::vector<TagStats> tags = {}) {
  PublishSources sources;
  sources.statistics = [&] { return groups; };
  sources.tags = [&] { return tags; };
  return gather(sources);
}

TEST(Gathering, TellsBudgetsPoolsAndOtherGroupsApart) {
  const PublishedView view = gathered({budget("process", 1e9, 4e8),
                                       {"pool",
                                        "p",
                                        {{"live_bytes", 100},
                                         {"idle_bytes", 50},
                                         {"reserved_bytes", 150},
                                         {"largest_free_bytes", 25},
                                         {"live_blocks", 3},
                                         {"refused_total", 1},
                                         {"fragmentation_ratio", 0.5},
                                         {"hit_rate_ratio", 0.9}}},
                                       {"cache", "c", {{"hits_total", 5}}}});
  ASSERT_EQ(view.budgets.size(), 1U);
  EXPECT_EQ(view.budgets[0].path, "process");
  EXPECT_EQ(view.budgets[0].limit, 1000000000_B);
  EXPECT_EQ(view.budgets[0].charged, 400000000_B);
  EXPECT_EQ(view.budgets[0].denials, 2U);
  ASSERT_EQ(view.pools.size(), 1U);
  EXPECT_EQ(view.pools[0].live, 100_B);
  EXPECT_EQ(view.pools[0].idle, 50_B);
  EXPECT_EQ(view.pools[0].reserved, 150_B);
  EXPECT_EQ(view.pools[0].largest_free, 25_B);
  EXPECT_EQ(view.pools[0].live_blocks, 3U);
  EXPECT_EQ(view.pools[0].refused, 1U);
  EXPECT_EQ(view.pools[0].fragmentation, 0.5);
  EXPECT_EQ(view.pools[0].hit_rate, 0.9);
  ASSERT_EQ(view.groups.size(), 1U);
  EXPECT_EQ(view.groups[0].kind, "cache");
}

TEST(Gathering, TakesTheFullestRootForTheLine) {
  const PublishedView view =
      gathered({budget("free", 1.8446744073709552e19, 9e9), budget("a", 1000, 500),
                budget("a/child", 10, 10, 2), budget("b", 1000, 900, 1)});
  EXPECT_EQ(view.line, 1000_B);
  EXPECT_EQ(view.used, 900_B);
  EXPECT_EQ(view.pressure, Pressure::critical);
  EXPECT_TRUE(view.budgets[0].limit.is_unlimited());
  EXPECT_TRUE(gathered({}).line.is_unlimited());
}

TEST(Gathering, TakesNonsenseForNothing) {
  const PublishedView view = gathered(
      {{"budget", "b", {{"charged_bytes", -5}, {"pressure", 99}, {"limit_bytes", 0.0 / 0.0}}}});
  EXPECT_TRUE(view.budgets[0].charged.is_zero());
  EXPECT_EQ(view.budgets[0].pressure, Pressure::critical);
  EXPECT_TRUE(view.budgets[0].limit.is_zero());
  EXPECT_TRUE(gathered({{"budget", "b", {}}}).budgets[0].limit.is_unlimited());
}

TEST(Gathering, KeepsTheLargestTagsLargestFirst) {
  std::vector<TagStats> tags;
  for (std::uint64_t i = 0; i < 3 * kMostTags; ++i) {
    TagStats& tag = tags.emplace_back();
    tag.tag = std::to_string(i);
    tag.live = Bytes{i * 37 % (3 * kMostTags)};
    tag.allocations = 1;
  }
  tags.push_back({});  // never held anything
  const PublishedView view = gathered({}, tags);
  ASSERT_EQ(view.tags.size(), kMostTags);
  EXPECT_EQ(view.left_out.tags, 2 * kMostTags);
  for (std::size_t i = 0; i < kMostTags; ++i) {
    EXPECT_EQ(view.tags[i].live, Bytes{3 * kMostTags - 1 - i});
  }
}

TEST(Gathering, KeepsRootsAndTheLargestBudgetsInTheirOrder) {
  std::vector<StatisticsGroup> groups{budget("root", 100, 0)};
  for (std::size_t i = 0; i < 2 * kMostBudgets; ++i) {
    groups.push_back(budget("root/" + std::to_string(i), 100, i % 2 == 0 ? 7 : 9));
  }
  const PublishedView view = gathered(groups);
  ASSERT_EQ(view.budgets.size(), kMostBudgets);
  EXPECT_EQ(view.left_out.budgets, kMostBudgets + 1);
  EXPECT_EQ(view.budgets[0].path, "root");
  for (std::size_t i = 1; i < kMostBudgets; ++i) {
    EXPECT_EQ(view.budgets[i].path, "root/" + std::to_string(2 * i - 1));
  }
}

}  // namespace
}  // namespace forebay::detail
