#include "trace/pool_setup.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace forebay::trace {
namespace {

using namespace literals;
using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

std::string refused(std::string_view text) {
  const auto setup = parse_pool(text);
  EXPECT_EQ(setup.status().code(), Code::invalid_argument) << text;
  EXPECT_EQ(setup.status().message().find('\n'), std::string::npos);
  return setup.status().message();
}

std::vector<std::string> names(const std::vector<PoolSetup>& setups) {
  std::vector<std::string> list;
  for (const PoolSetup& setup : setups) list.push_back(setup.name);
  return list;
}

TEST(PoolSetup, ReadsEverySetting) {
  const PoolSetup setup =
      parse_pool(
          "mine:ttl=10s,cleanup_interval=500ms,min_retained=1MiB,max_retained=1GiB,"
          "huge_pages=always,min_alignment=4KiB,guard_every=8,checked=true")
          .value();
  EXPECT_EQ(setup.name, "mine");
  EXPECT_EQ(setup.options.name, "mine");
  EXPECT_EQ(setup.options.ttl, 10s);
  EXPECT_EQ(setup.options.cleanup_interval, 500ms);
  EXPECT_EQ(setup.options.min_retained, 1_MiB);
  EXPECT_EQ(setup.options.max_retained, 1_GiB);
  EXPECT_EQ(setup.options.huge_pages, HugePages::always);
  EXPECT_EQ(setup.options.min_alignment, 4_KiB);
  EXPECT_TRUE(setup.alignment_given);
  EXPECT_EQ(setup.options.guard_every, 8U);
  EXPECT_TRUE(setup.options.checked);
  EXPECT_FALSE(setup.direct);
}

TEST(PoolSetup, StartsFromTheBuiltInOfThatName) {
  EXPECT_EQ(parse_pool("tight")->options.max_retained, 64_MiB);
  const PoolSetup longer = parse_pool("tight:ttl=1h").value();
  EXPECT_EQ(longer.options.max_retained, 64_MiB);
  EXPECT_EQ(longer.options.ttl, 1h);
  EXPECT_EQ(longer.spec, "max_retained=64MiB,ttl=1h");
  const PoolSetup wider = parse_pool("tight:max_retained=1GiB").value();
  EXPECT_EQ(wider.options.max_retained, 1_GiB);
  EXPECT_EQ(wider.spec, "max_retained=1GiB");
  EXPECT_TRUE(parse_pool("direct")->direct);
}

TEST(PoolSetup, TheSpecOfAReportGivesTheSameConfiguration) {
  for (const char* const text : {"tight:ttl=1h", "mine:ttl=2m,max_retained=3MiB", "direct"}) {
    const PoolSetup first = parse_pool(text).value();
    const PoolSetup again = parse_pool("again:" + first.spec).value();
    EXPECT_EQ(again.spec, first.spec);
    EXPECT_EQ(again.options.ttl, first.options.ttl);
    EXPECT_EQ(again.options.max_retained, first.options.max_retained);
    EXPECT_EQ(again.direct, first.direct);
  }
}

TEST(PoolSetup, RefusesWithNameKeyValueAndWhatIsAllowed) {
  EXPECT_EQ(refused("defalt"), "defalt: unknown configuration; did you mean 'default'?");
  EXPECT_THAT(refused("mine"), HasSubstr("allowed: default, tight, no-retention, huge-pages, "));
  EXPECT_EQ(refused("a:tll=1s"), "a: tll: unknown key; did you mean 'ttl'?");
  EXPECT_EQ(
      refused("a:ttl=10"),
      "a: ttl: 10 is not allowed; allowed: a time as 500ms, 10s, 5m, 2h or 0, at most 10000h");
  EXPECT_EQ(refused("a:max_retained=lots"),
            "a: max_retained: lots is not allowed; allowed: a size as 64MiB, 0 or unlimited");
  EXPECT_EQ(refused("a:ttl=1s,ttl=2s"), "a: ttl: given twice; allowed: once");
  EXPECT_EQ(refused("a:ttl"), "a: ttl: no value given; allowed: key=value");
  EXPECT_EQ(refused("a:min_retained=2MiB,max_retained=1MiB"),
            "a: min_retained: 2 MiB is not allowed; allowed: at most max_retained (1 MiB)");
  EXPECT_THAT(refused("a:direct=true,ttl=1s"), HasSubstr("no other setting"));
  EXPECT_THAT(refused("direct:ttl=1s"), HasSubstr("no other setting"));
  for (const char* const text : {"a:ttl=1s,", "a:,", "a:,ttl=1s", "a:ttl=1s,,checked=true"}) {
    EXPECT_EQ(refused(text), "a: an empty setting beside a comma; allowed: key=value,key=value");
  }
  for (const char* const bad :
       {"", ":", "a b:ttl=1s", "a:ttl=-1s", "a:ttl=nans", "a:ttl=1e300h", "a:ttl=", "a:,",
        "a:huge_pages=yes", "a:checked=1", "a:guard_every=-1", "a:guard_every=4294967296",
        "a:min_alignment=3", "a:min_alignment=4MiB", "a:min_alignment=0", "a:max_retained=-1",
        "123456789012345678901234567890123:ttl=1s"}) {
    refused(bad);
  }
}

TEST(PoolSetup, OffersASetWhereNoneIsNamed) {
  EXPECT_THAT(names(parse_pools({}, true).value()),
              ElementsAre("default", "tight", "no-retention", "huge-pages", "direct"));
  EXPECT_THAT(names(parse_pools({}, false).value()),
              ElementsAre("default", "tight", "no-retention", "direct"));
}

TEST(PoolSetup, RefusesANameTwiceAndTooMany) {
  const std::vector<std::string> twice{"a:ttl=1s", "a:ttl=2s"};
  EXPECT_EQ(parse_pools(twice, true).status().message(), "a: given twice; allowed: once");
  std::vector<std::string> many;
  for (std::size_t i = 0; i <= kMaxPools; ++i) many.push_back("p" + std::to_string(i) + ":ttl=1s");
  EXPECT_THAT(parse_pools(many, true).status().message(), HasSubstr("at most 16"));
}

}  // namespace
}  // namespace forebay::trace
