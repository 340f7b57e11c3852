#include "top_screen.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "telemetry/views.hpp"
#include "top_output.hpp"

namespace forebay::app {
namespace {

using detail::PublishedView;
using forebay::testing::some_view;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::string text_of(const std::vector<ScreenLine>& lines) {
  std::string text;
  for (const ScreenLine& line : lines) text += line.text + "\n";
  return text;
}

std::string all_of(const PublishedView& view, const TopState& state = {}) {
  return text_of(top_lines(view, state));
}

// The lines that contain `what`, by their order.
std::vector<std::string> lines_with(const std::string& text, std::string_view what) {
  std::vector<std::string> found;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    const std::string line = text.substr(at, end - at);
    if (line.find(what) != std::string::npos) found.push_back(line);
    at = end + 1;
  }
  return found;
}

TEST(TopScreen, ShowsTheLineAndWhatIsUnderIt) {
  const std::string text = all_of(some_view());
  EXPECT_THAT(text,
              HasSubstr("trainer (4711)  resident 950 MiB  update 12, publishing takes 0.00 %"));
  EXPECT_THAT(text, HasSubstr("line 1 GiB  [############################----] 88 %  used 900 MiB  "
                              "pressure high"));
  EXPECT_THAT(lines_with(text, "teacher"),
              ElementsAre("    teacher (shrinking)  300 MiB  512 MiB  [#######-----]  59 %   400 "
                          "MiB       0"));
  EXPECT_THAT(lines_with(text, "layer3 [tenant-a]  "),
              ElementsAre("  decoder/layer3 [tenant-a]  150 MiB     600      9 GiB        99000"));
  EXPECT_THAT(lines_with(text, "(no tag)").size(), 1U);
  EXPECT_THAT(lines_with(text, "14 MiB"),
              ElementsAre("  activations  200 MiB  56 MiB   256 MiB        14 MiB    75 %  98 %    "
                          "1234        1"));
  EXPECT_THAT(lines_with(text, "prefix"),
              ElementsAre("  prefix  1 MiB  2 MiB    75.0 %    75      25"));
  EXPECT_THAT(lines_with(text, "kv0"), ElementsAre("  kv kv0  pages_used 10  used_bytes 4 KiB"));
  EXPECT_THAT(lines_with(text, "map activations [decoder/layer3]").size(), 1U);
  EXPECT_THAT(lines_with(text, "deny process").size(), 1U);
}

TEST(TopScreen, ShowsNoLineWhereThereIsNone) {
  PublishedView view = some_view();
  view.line = Bytes::unlimited();
  view.budgets[0].limit = Bytes::unlimited();
  const std::string text = all_of(view);
  EXPECT_THAT(text, HasSubstr("no line  pressure high"));
  EXPECT_THAT(lines_with(text, "  process  ")[0], HasSubstr("900 MiB        -"));
}

TEST(TopScreen, SaysThatAStoppedProcessHasNoUpdates) {
  using std::chrono::milliseconds;
  using std::chrono::seconds;
  PublishedView view = some_view();
  view.interval = seconds{1};
  const auto third = [&](Duration age) { return top_lines(view, {.age = age})[2]; };
  EXPECT_EQ(third(seconds{3}).text, "");
  EXPECT_EQ(third(milliseconds{3100}).text, "no update for 3.1 s");
  EXPECT_EQ(third(seconds{3600}).text, "no update for 3600 s");
  EXPECT_EQ(third(seconds{3600}).style, Style::bad);
  view.interval = milliseconds{20};
  EXPECT_EQ(third(seconds{2}).text, "");
  EXPECT_EQ(third(milliseconds{2500}).text, "no update for 2.5 s");
  view.interval = Duration::max();
  EXPECT_EQ(third(seconds{3600}).text, "");
  EXPECT_EQ(top_lines(view, {.note = "it is gone", .age = seconds{9}})[2].text, "it is gone");
}

TEST(TopScreen, AgesAreByTheSystemsClockAndNeverNegative) {
  using std::chrono::seconds;
  PublishedView view;
  view.taken = seconds{1000};
  const auto age = [&](int now) {
    return age_of(view, std::chrono::system_clock::time_point{seconds{now}});
  };
  EXPECT_EQ(age(1007), seconds{7});
  EXPECT_EQ(age(999), Duration{0});
  view.taken = Duration::max();
  EXPECT_EQ(age(1007), Duration{0});
  view.taken = seconds{1000};
  EXPECT_EQ(json_of(view, age(1007))["age_seconds"], 7.0);
}

TEST(TopScreen, ShowsNoNumberForWhatHasNoLimit) {
  PublishedView view;
  view.groups = {{"cache", "c", {{"limit_bytes", 0x1p64}, {"used_bytes", 4096}}},
                 {"kv", "k", {{"pages_most", 0x1p63}, {"pages_used", 7}}}};
  const std::string text = all_of(view);
  EXPECT_THAT(lines_with(text, "  kv k"), ElementsAre("  kv k  pages_most -  pages_used 7"));
  EXPECT_THAT(lines_with(text, "4 KiB")[0], HasSubstr("4 KiB      -"));
}

TEST(TopScreen, OfAnEmptyViewHasItsHeadAlone) { EXPECT_EQ(top_lines({}, {}).size(), 3U); }

TEST(TopScreen, MarksPressureAndRefusals) {
  PublishedView view = some_view();
  view.pressure = Pressure::critical;
  const auto lines = top_lines(view, {});
  EXPECT_EQ(lines[0].style, Style::bold);
  EXPECT_EQ(lines[1].style, Style::bad);
  for (const ScreenLine& line : lines) {
    if (line.text.find("deny") != std::string::npos) {
      EXPECT_EQ(line.style, Style::bad);
    }
    if (line.text.find("teacher") != std::string::npos) {
      EXPECT_FALSE(line.style.has_value());
    }
  }
}

TEST(TopScreen, SaysWhatWasLeftOut) {
  PublishedView view = some_view();
  view.left_out = {.budgets = 1, .pools = 2, .tags = 3, .groups = 4};
  const std::string text = all_of(view);
  for (const char* more : {"and 1 more", "and 2 more", "and 3 more", "and 4 more"}) {
    EXPECT_EQ(lines_with(text, more).size(), 1U);
  }
}

TEST(TopScreen, OrdersRowsByBytesNameOrCount) {
  PublishedView view;
  view.tags.resize(3);
  view.tags[0] = {.tag = "b", .owner = "", .live = Bytes{3}, .live_blocks = 1, .allocated = {}};
  view.tags[1] = {.tag = "c", .owner = "", .live = Bytes{2}, .live_blocks = 9, .allocated = {}};
  view.tags[2] = {.tag = "a", .owner = "", .live = Bytes{1}, .live_blocks = 5, .allocated = {}};
  const auto order = [&](TopSort sort) {
    std::string names;
    for (const ScreenLine& line : top_lines(view, {.sort = sort})) {
      if (line.text.starts_with("  ")) names += line.text[2];
    }
    return names;
  };
  EXPECT_EQ(order(TopSort::bytes), "bca");
  EXPECT_EQ(order(TopSort::name), "abc");
  EXPECT_EQ(order(TopSort::count), "cab");
}

TEST(TopScreen, FiltersRowsByTheirNames) {
  const std::string text = all_of(some_view(), {.filter = "teacher"});
  EXPECT_THAT(text, HasSubstr("  process/teacher"));  // the whole path: its parent is not there
  EXPECT_THAT(text, Not(HasSubstr("activations")));
  EXPECT_THAT(text, Not(HasSubstr("tags")));
  EXPECT_THAT(text, HasSubstr("line 1 GiB"));
}

TEST(TopScreen, HasExactlyTheSizeOfTheTerminal) {
  PublishedView view = some_view();
  view.tags[0].tag = "\u00fcber\u00fcber";
  for (const std::size_t width : {1U, 10U, 40U, 300U}) {
    for (const std::size_t height : {1U, 2U, 4U, 5U, 24U, 200U}) {
      TopState state{.scroll = 7};
      const auto lines = top_screen(view, state, width, height);
      ASSERT_EQ(lines.size(), height);
      for (const ScreenLine& line : lines) {
        const auto columns = std::ranges::count_if(
            line.text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
        EXPECT_LE(columns, static_cast<long>(width));
      }
      EXPECT_TRUE(std::string{"q quit  space pause"}.starts_with(lines.back().text.substr(0, 10)));
    }
  }
}

TEST(TopScreen, ScrollsTheBodyUnderItsHead) {
  const PublishedView view = some_view();
  TopState state;
  const auto top = top_screen(view, state, 100, 10);
  EXPECT_THAT(top[3].text, HasSubstr("budgets"));
  handle_key(state, 'j');
  EXPECT_EQ(top_screen(view, state, 100, 10)[3].text, top[4].text);
  handle_key(state, key_page_down);
  for (int i = 0; i < 100; ++i) handle_key(state, key_down);
  const auto bottom = top_screen(view, state, 100, 10);
  EXPECT_EQ(bottom[0].text, top[0].text);
  EXPECT_THAT(bottom[8].text, HasSubstr("deny process"));
  const std::size_t lowest = state.scroll;
  handle_key(state, 'k');
  EXPECT_EQ(state.scroll, lowest - 1);
  handle_key(state, key_page_up);
  handle_key(state, key_up);
  handle_key(state, key_home);
  EXPECT_EQ(state.scroll, 0U);
  handle_key(state, key_up);
  EXPECT_EQ(state.scroll, 0U);
}

TEST(TopKeys, QuitPauseAndOrder) {
  TopState state;
  EXPECT_EQ(handle_key(state, 'q'), TopAction::quit);
  EXPECT_EQ(handle_key(state, ' '), TopAction::redraw);
  EXPECT_TRUE(state.paused);
  EXPECT_THAT(all_of(some_view(), state), HasSubstr("PAUSED"));
  handle_key(state, ' ');
  EXPECT_FALSE(state.paused);
  for (const TopSort sort : {TopSort::name, TopSort::count, TopSort::bytes}) {
    EXPECT_EQ(handle_key(state, 's'), TopAction::redraw);
    EXPECT_EQ(state.sort, sort);
  }
  EXPECT_EQ(handle_key(state, 'x'), TopAction::none);
  EXPECT_EQ(handle_key(state, -1), TopAction::none);
}

TEST(TopKeys, TypeAFilter) {
  TopState state{.scroll = 3};
  handle_key(state, '/');
  for (const char key : std::string{"q \u00fcx"}) {
    EXPECT_EQ(handle_key(state, static_cast<unsigned char>(key)), TopAction::redraw);
  }
  EXPECT_EQ(state.filter, "q \u00fcx");
  EXPECT_EQ(state.scroll, 0U);
  TopState shown = state;
  EXPECT_EQ(top_screen(some_view(), shown, 80, 24).back().text, "filter: q \u00fcx_");
  handle_key(state, key_erase);
  handle_key(state, key_erase);
  EXPECT_EQ(state.filter, "q ");
  EXPECT_EQ(handle_key(state, -1), TopAction::none);
  handle_key(state, '\n');
  EXPECT_FALSE(state.typing);
  EXPECT_EQ(handle_key(state, 'q'), TopAction::quit);
  handle_key(state, '/');
  handle_key(state, 27);
  EXPECT_EQ(state.filter, "");
  EXPECT_FALSE(state.typing);
  for (int i = 0; i < 5; ++i) handle_key(state, key_erase);
}

TEST(TopScreen, BarsFillWithTheirShare) {
  EXPECT_EQ(bar(0, 4), "[----]");
  EXPECT_EQ(bar(0.5, 4), "[##--]");
  EXPECT_EQ(bar(1, 4), "[####]");
  EXPECT_EQ(bar(7, 4), "[####]");
  EXPECT_EQ(bar(-1, 4), "[----]");
}

TEST(TopJson, HasNullForNoLimit) {
  PublishedView view = some_view();
  view.line = Bytes::unlimited();
  view.budgets[1].limit = Bytes::unlimited();
  const Json object = json_of(view, {});
  EXPECT_TRUE(object["line_bytes"].is_null());
  EXPECT_TRUE(object["budgets"][1]["limit_bytes"].is_null());
  EXPECT_EQ(object["budgets"][0]["limit_bytes"], 1U << 30);
  EXPECT_EQ(object["groups"][0]["statistics"]["hits_total"], 75);
}

}  // namespace
}  // namespace forebay::app
