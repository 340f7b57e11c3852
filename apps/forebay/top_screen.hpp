// The screen of `forebay top`: lines of text made from a view, and what keys do. No terminal here.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "forebay/clock.hpp"
#include "telemetry/published_view.hpp"
#include "terminal.hpp"

namespace forebay::app {

enum class TopSort { bytes, name, count };

// Keys that are no characters.
enum TopKey : int { key_up = 0x200, key_down, key_page_up, key_page_down, key_home, key_erase };

// What the user chose.
struct TopState {
  TopSort sort = TopSort::bytes;
  std::string filter{};  // of names; empty: all
  bool typing = false;   // the filter
  bool paused = false;
  std::size_t scroll = 0;  // lines of the body above the screen
  std::string note{};      // why there is no newer view; empty: there is
  Duration age{0};         // of the view when it was looked at, as age_of() says
};

// How old a view is, by the system's clock; 0 if that was set back meanwhile.
Duration age_of(const detail::PublishedView& view, std::chrono::system_clock::time_point now);
// Whether its process has left out updates: stopped, or busy beyond measure.
bool is_stale(const detail::PublishedView& view, Duration age);

enum class TopAction { none, redraw, quit };
// q quits, space pauses, s changes the order, / types a filter (Enter keeps it, Escape drops it),
// arrows, j, k, page keys and g scroll.
TopAction handle_key(TopState& state, int key);

struct ScreenLine {
  std::string text;
  std::optional<Style> style{};
};

// Everything there is, in lines of any length: what --once prints.
std::vector<ScreenLine> top_lines(const detail::PublishedView& view, const TopState& state);

// A screen of exactly `height` lines of at most `width` columns: the head stays, the rest scrolls,
// the last line says what keys do. Corrects `state.scroll` to what there is to scroll.
std::vector<ScreenLine> top_screen(const detail::PublishedView& view, TopState& state,
                                   std::size_t width, std::size_t height);

// "[######----]": `share` of `cells`; a share above one fills it.
std::string bar(double share, std::size_t cells);

}  // namespace forebay::app
