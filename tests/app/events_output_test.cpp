#include "events_output.hpp"

#include <gtest/gtest.h>

namespace forebay::app {
namespace {

TEST(ShortFunction, HasNoParameters) {
  EXPECT_EQ(short_function("main", 64), "main");
  EXPECT_EQ(short_function("ns::type::call(int, char const*) const", 64), "ns::type::call");
  EXPECT_EQ(short_function("call(void (*)(int))", 64), "call");
  EXPECT_EQ(short_function("type::operator()(int)", 64), "type::operator()");
  EXPECT_EQ(short_function("run()::{lambda(int)#1}::operator()(int) const", 64),
            "run()::{lambda(int)#1}::operator()");
  EXPECT_EQ(short_function(")", 64), ")");
}

TEST(ShortFunction, IsCutBetweenCharacters) {
  EXPECT_EQ(short_function("abcdefgh", 5), "abcd…");
  EXPECT_EQ(short_function("abcüüüü", 5), "abc…");
}

events::Site site_of(std::uint64_t bytes, std::uint64_t live, std::uint64_t temporary) {
  events::Site site;
  site.bytes = bytes;
  site.live_bytes = live;
  site.temporary = temporary;
  return site;
}

TEST(TopSites, AreThoseWithTheMostAndNoneWithNothing) {
  events::EventReport report;
  report.sites = {site_of(10, 0, 3), site_of(30, 5, 0), site_of(20, 9, 1)};
  const TopSites top = top_sites(report, 2);
  const events::Site* const first = report.sites.data();
  EXPECT_EQ(top.by_allocated, (std::vector{first + 1, first + 2}));
  EXPECT_EQ(top.by_live, (std::vector{first + 2, first + 1}));
  EXPECT_EQ(top_sites(report, 5).by_temporary, (std::vector{first, first + 2}));
}

}  // namespace
}  // namespace forebay::app
