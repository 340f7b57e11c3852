#include "track/leak_report.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "track/glob.hpp"
#include "track/stack.hpp"

// A user's: the library's own frames are left out of texts.
[[gnu::noinline]] static forebay::StackId a_users_place() {
  const auto stack =
      forebay::detail::capture_and_intern(forebay::StackMethod::unwind_tables, nullptr);
  asm volatile("");
  return stack;
}

namespace forebay {
namespace {

using detail::group_leaks;
using detail::matches_glob;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::Not;

Suppressions rules(std::string_view text) { return Suppressions::parse(text, "known").value(); }

std::string refusal_of(std::string_view text) {
  const auto parsed = Suppressions::parse(text, "known");
  EXPECT_FALSE(parsed.ok());
  EXPECT_EQ(parsed.status().code(), Code::corrupt_data);
  return parsed.status().message();
}

LeakGroup group_of(std::string tag, std::string owner = {}, std::string source = {},
                   StackId stack = 0) {
  LeakGroup group;
  group.tag = std::move(tag);
  group.owner = std::move(owner);
  group.source = std::move(source);
  group.stack = stack;
  return group;
}

TagStats tag_of(std::string tag, std::string owner = {}) {
  TagStats stats;
  stats.tag = std::move(tag);
  stats.owner = std::move(owner);
  return stats;
}

// A stack that begins in the function that calls this one.
[[gnu::noinline]] StackId stack_from_a_named_place() {
  return detail::capture_and_intern(StackMethod::unwind_tables, nullptr);
}

// ---- Globs

TEST(Glob, MatchesWholeTexts) {
  EXPECT_TRUE(matches_glob("decoder", "decoder"));
  EXPECT_FALSE(matches_glob("decoder", "decoder/layer"));
  EXPECT_FALSE(matches_glob("decoder", "my decoder"));
  EXPECT_FALSE(matches_glob("decoder", ""));
  EXPECT_TRUE(matches_glob("", ""));
  EXPECT_FALSE(matches_glob("", "a"));
}

TEST(Glob, StarIsAnyTextAndQuestionMarkOneCharacter) {
  EXPECT_TRUE(matches_glob("*", ""));
  EXPECT_TRUE(matches_glob("decoder/*", "decoder/layer3/mlp"));
  EXPECT_TRUE(matches_glob("*layer?", "decoder/layer3"));
  EXPECT_FALSE(matches_glob("*layer?", "decoder/layer"));
  EXPECT_TRUE(matches_glob("a*b*c", "a-b-b-c"));
  EXPECT_FALSE(matches_glob("a*b*c", "a-c-b"));
  EXPECT_TRUE(matches_glob("**x**", "x"));
}

// A matcher that goes back over earlier stars would not end here.
TEST(Glob, TakesNoLongerThanPatternTimesText) {
  std::string pattern;
  for (int i = 0; i < 100; ++i) pattern += "a*";
  EXPECT_FALSE(matches_glob(pattern + 'b', std::string(5000, 'a')));
}

// ---- Suppressions

TEST(Suppressions, CoverByTagOwnerAndSource) {
  const Suppressions known = rules("tag:decoder/*\nowner: tenant-?\nsource:weights");
  EXPECT_TRUE(known.covers(group_of("decoder/layer1")));
  EXPECT_TRUE(known.covers(group_of("", "tenant-7")));
  EXPECT_TRUE(known.covers(group_of("", "", "weights")));
  EXPECT_FALSE(known.covers(group_of("encoder", "tenant-12", "pool")));
  EXPECT_FALSE(Suppressions{}.covers(group_of("decoder/layer1")));
}

TEST(Suppressions, CoverByFunctionAndModuleOfAnyFrame) {
  const StackId stack = stack_from_a_named_place();
  ASSERT_NE(stack, 0U);
  EXPECT_TRUE(rules("function:*CoverByFunction*").covers(group_of("", "", "", stack)));
  EXPECT_TRUE(rules("module:*leak*test*").covers(group_of("", "", "", stack)));
  EXPECT_FALSE(rules("function:nobody").covers(group_of("", "", "", stack)));
  EXPECT_FALSE(rules("function:*\nmodule:*").covers(group_of("", "", "", 0)));
}

TEST(Suppressions, LeaveOutCommentsAndBlanks) {
  const Suppressions known = rules("# tag:a\r\n\n   \t\n  tag : b # c \r\n");
  EXPECT_FALSE(known.covers(group_of("a")));
  EXPECT_TRUE(known.covers(group_of("b # c")));  // a comment is a line of its own
}

TEST(Suppressions, BadLinesAreNamedByFileAndNumber) {
  EXPECT_THAT(refusal_of("tag:a\n\nTag:b"), HasSubstr("known:3: \"Tag\" is no kind of rule"));
  EXPECT_THAT(refusal_of("decoder"), HasSubstr("known:1: \"decoder\" has no ':'"));
  EXPECT_THAT(refusal_of("tag:"), HasSubstr("known:1: \"tag:\" has no pattern"));
  EXPECT_THAT(refusal_of("tag:" + std::string(2000, 'x')), HasSubstr("longer than 1024 bytes"));
  EXPECT_THAT(refusal_of(std::string(5 << 20, '\n')), HasSubstr("allowed: 4194304"));
  const std::string odd = refusal_of("tag:a\n\x01\x02\x7f");
  EXPECT_THAT(odd, HasSubstr("known:2: \"???\""));
  EXPECT_THAT(odd, Not(HasSubstr("\n")));
}

TEST(Suppressions, LoadReadsAFileOrSaysWhyNot) {
  const std::string path = ::testing::TempDir() + "suppressions_of_leak_report_test";
  std::ofstream{path} << "tag:known\n";
  EXPECT_TRUE(Suppressions::load(path).value().covers(group_of("known")));
  std::ofstream{path} << "tag\n";
  EXPECT_THAT(Suppressions::load(path).status().message(), HasSubstr(path + ":1:"));
  std::remove(path.c_str());
  EXPECT_EQ(Suppressions::load(path).status().code(), Code::not_found);
  EXPECT_EQ(Suppressions::load(::testing::TempDir()).status().code(), Code::io_error);
}

TEST(Suppressions, LoadNeitherWaitsForAPipeNorReadsWithoutEnd) {
  const std::string path = ::testing::TempDir() + "odd_suppressions_of_leak_report_test";
  std::remove(path.c_str());
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const Status pipe = Suppressions::load(path).status();
  EXPECT_EQ(pipe.code(), Code::io_error);
  EXPECT_EQ(pipe.message(), path + ": is no regular file; allowed: a file");
  std::remove(path.c_str());
  EXPECT_EQ(Suppressions::load("/dev/zero").status().code(), Code::io_error);
  std::ofstream{path} << "tag:known\n";
  ASSERT_EQ(::truncate(path.c_str(), off_t{1} << 30), 0);
  const Status large = Suppressions::load(path).status();
  std::remove(path.c_str());
  EXPECT_EQ(large.code(), Code::corrupt_data);
  EXPECT_EQ(large.message(), path + ": 1073741824 bytes; allowed: 4194304");
}

// ---- Groups

class GroupLeaks : public ::testing::Test {
 protected:
  GroupLeaks() {
    table_.sources = {"weights", "activations"};
    table_.tags = {{}, tag_of("decoder"), tag_of("decoder", "alice")};
  }
  void add(std::uint32_t source, std::uint32_t tag, StackId stack, std::uint64_t mark,
           Duration born, TrackingGrade grade = TrackingGrade::full, double weight = 1) {
    table_.blocks.push_back({.address = 0x1000 * (table_.blocks.size() + 1),
                             .bytes = Bytes{100},
                             .source = source,
                             .tag = tag,
                             .stack = stack,
                             .grade = grade,
                             .mark = mark,
                             .born = born,
                             .weight_bytes = 100 * weight,
                             .weight_blocks = weight});
  }
  LeakReport group(std::uint64_t mark, std::string_view known = "", bool exact = true) {
    return group_leaks(table_, mark, minutes{10}, rules(known), exact);
  }
  LiveTable table_;
};

TEST_F(GroupLeaks, PutsBlocksOfOneTagOwnerSourceAndStackTogether) {
  add(0, 1, 7, 1, minutes{4});
  add(0, 1, 7, 1, minutes{3});
  add(0, 1, 8, 1, minutes{9});
  add(1, 1, 8, 1, minutes{9});
  add(1, 2, 8, 1, minutes{9});
  const LeakReport report = group(1);
  ASSERT_EQ(report.groups.size(), 4U);
  const LeakGroup& most = report.groups[0];
  EXPECT_EQ(most.tag, "decoder");
  EXPECT_EQ(most.owner, "");
  EXPECT_EQ(most.source, "weights");
  EXPECT_EQ(most.stack, 7U);
  EXPECT_EQ(most.bytes, 200);
  EXPECT_EQ(most.blocks, 2);
  EXPECT_EQ(most.oldest, minutes{7});
  EXPECT_TRUE(most.exact);
  EXPECT_TRUE(report.exact);
}

TEST_F(GroupLeaks, LeavesOutWhatWasTakenBeforeTheMark) {
  add(0, 1, 7, 1, minutes{1});
  add(0, 1, 7, 2, minutes{2});
  EXPECT_EQ(group(2).groups.at(0).blocks, 1);
  EXPECT_EQ(group(0).groups.at(0).blocks, 2);
  EXPECT_TRUE(group(3).empty());
}

TEST_F(GroupLeaks, LeavesOutBlocksOfWhichOnlyATagIsKnown) {
  add(0, 1, 0, 0, {}, TrackingGrade::counters);
  EXPECT_TRUE(group(0).empty());
}

TEST_F(GroupLeaks, SaysWhereItEstimates) {
  add(0, 1, 7, 1, minutes{1}, TrackingGrade::sampled, 5243);
  add(0, 1, 8, 1, minutes{1}, TrackingGrade::full);
  const LeakReport report = group(1, "", false);
  EXPECT_FALSE(report.exact);
  EXPECT_FALSE(report.groups.at(0).exact);
  EXPECT_EQ(report.groups.at(0).blocks, 5243);
  EXPECT_THAT(report.to_text(), HasSubstr("(estimated from samples)"));
  EXPECT_THAT(report.to_text(), HasSubstr("about 512 KiB in about 5243 blocks"));
}

TEST_F(GroupLeaks, CountsWhatIsSuppressed) {
  add(0, 1, 7, 1, minutes{1});
  add(0, 2, 7, 1, minutes{1});
  const LeakReport report = group(1, "owner:alice");
  EXPECT_EQ(report.groups.size(), 1U);
  EXPECT_EQ(report.suppressed, 1U);
  EXPECT_THAT(report.to_text(), HasSubstr("1 suppressed"));
}

TEST_F(GroupLeaks, TextNamesWhoWhereAndHowOld) {
  add(0, 2, a_users_place(), 1, minutes{7});
  const std::string text = group(1).to_text();
  EXPECT_THAT(text, HasSubstr("100 B not given back, from 1 place\n"));
  EXPECT_THAT(text,
              HasSubstr("100 B in 1 block, tag decoder, owner alice, of weights, oldest 3 min"));
  EXPECT_THAT(text, HasSubstr("a_users_place"));
}

TEST_F(GroupLeaks, TextOfManyGroupsIsBounded) {
  for (StackId stack = 1; stack <= 1000; ++stack) add(0, 0, 0, 1, minutes{1});
  for (std::uint32_t i = 0; i < 1000; ++i) {
    table_.tags.push_back(tag_of("tag" + std::to_string(i)));
    table_.blocks[i].tag = static_cast<std::uint32_t>(table_.tags.size() - 1);
  }
  EXPECT_THAT(group(1).to_text(), HasSubstr("... 900 more places"));
}

TEST(LeakReport, TextShowsCycles) {
  LeakReport report;
  EXPECT_TRUE(report.empty());
  report.cycles.push_back({.blocks = {&report, &report}, .bytes = Bytes{2048}});
  EXPECT_FALSE(report.empty());
  EXPECT_THAT(report.to_text(), HasSubstr("cycle of 2 shared buffers, 2 KiB: 0x"));
}

TEST(Growth, TextNamesRatePlaceAndTimeLeft) {
  Growth growth{.kind = "tag", .name = "decoder/cache", .bytes_per_hour = 12 << 20};
  growth.until_line = minutes{186};
  EXPECT_EQ(growth.to_text(), "decoder/cache grows by 12 MiB/h, would reach the line in 3.1 h");
  growth.until_line = seconds{-1};
  growth.kind = "budget";
  EXPECT_EQ(growth.to_text(), "budget decoder/cache grows by 12 MiB/h");
  growth.stack = stack_from_a_named_place();
  EXPECT_THAT(growth.to_text(), HasSubstr("/h in "));
}

}  // namespace
}  // namespace forebay
