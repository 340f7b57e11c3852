#define NCURSES_NOMACROS  // its macros are words of ours
#include <ncurses.h>

#include <algorithm>
#include <clocale>
#include <cstdlib>

#include "forebay/clock.hpp"
#include "interrupt.hpp"
#include "top_screen.hpp"
#include "top_terminal.hpp"

namespace forebay::app {
namespace {

constexpr int kControlL = 'L' & 0x1F;  // all of the screen anew, as everywhere
constexpr short kGood = 1;
constexpr short kBad = 2;

// The terminal as it was before, at the end of its life.
class Curses {
 public:
  Curses() {
    std::setlocale(LC_CTYPE, "");
    screen_ = ::newterm(nullptr, stdout, stdin);
    if (screen_ == nullptr) return;
    ::cbreak();
    ::noecho();
    ::nonl();
    ::keypad(stdscr, TRUE);
    ::set_escdelay(25);
    ::curs_set(0);
    const char* const no_colour = std::getenv("NO_COLOR");
    colours_ = (no_colour == nullptr || *no_colour == '\0') && ::has_colors();
    if (!colours_) return;
    ::start_color();
    ::use_default_colors();
    ::init_pair(kGood, COLOR_GREEN, -1);
    ::init_pair(kBad, COLOR_RED, -1);
  }
  ~Curses() {
    if (screen_ == nullptr) return;
    ::endwin();
    ::delscreen(screen_);
  }
  Curses(const Curses&) = delete;
  Curses& operator=(const Curses&) = delete;

  bool works() const noexcept { return screen_ != nullptr; }

  void draw(const detail::PublishedView& view, TopState& state) const {
    const auto width = static_cast<std::size_t>(std::max(COLS, 1));
    const auto height = static_cast<std::size_t>(std::max(LINES, 1));
    ::erase();
    int row = 0;
    for (const ScreenLine& line : top_screen(view, state, width, height)) {
      const chtype attributes = attributes_of(line.style);
      ::attrset(static_cast<int>(attributes));
      ::mvaddstr(row++, 0, line.text.c_str());
    }
    ::attrset(A_NORMAL);
    ::refresh();
  }

  // A key, as handle_key() knows it; -1: none came in time.
  static int key_within(Duration patience) {
    const auto wait = std::chrono::ceil<std::chrono::milliseconds>(patience);
    ::timeout(static_cast<int>(std::max<std::int64_t>(wait.count(), 0)));
    switch (const int key = ::getch()) {
      case KEY_UP:
        return key_up;
      case KEY_DOWN:
        return key_down;
      case KEY_PPAGE:
        return key_page_up;
      case KEY_NPAGE:
        return key_page_down;
      case KEY_HOME:
        return key_home;
      case KEY_BACKSPACE:
      case '\b':
      case 0x7F:
        return key_erase;
      default:
        return key;
    }
  }

 private:
  chtype attributes_of(std::optional<Style> style) const {
    if (!style) return A_NORMAL;
    switch (*style) {
      case Style::bold:
        return A_BOLD;
      case Style::dim:
        return A_DIM;
      case Style::good:
        return colours_ ? static_cast<chtype>(COLOR_PAIR(kGood)) : A_NORMAL;
      case Style::bad:
        return colours_ ? static_cast<chtype>(COLOR_PAIR(kBad)) | A_BOLD : A_REVERSE;
    }
    return A_NORMAL;
  }

  SCREEN* screen_ = nullptr;
  bool colours_ = false;
};

}  // namespace

Result<Exit> show_full_screen(const detail::PublishedView& first, const LookAtProcess& look,
                              Duration interval) {
  constexpr Duration kNotice = std::chrono::milliseconds{100};  // of an interrupt
  const InterruptGuard guard;
  Curses screen;
  if (!screen.works()) {
    return Status{Code::unsupported, "top: the terminal is none that ncurses knows; give --once"};
  }
  detail::PublishedView view = first;
  const auto age = [&] { return age_of(view, std::chrono::system_clock::now()); };
  TopState state{.age = age()};
  screen.draw(view, state);
  Clock& clock = Clock::steady();
  for (Clock::TimePoint next = clock.now() + interval;;) {
    const int key = Curses::key_within(std::clamp(next - clock.now(), Duration{0}, kNotice));
    if (guard.interrupted()) return Exit::interrupted;
    const bool afresh = key == KEY_RESIZE || key == kControlL;
    if (afresh) ::clearok(curscr, TRUE);
    TopAction action = afresh ? TopAction::redraw : handle_key(state, key);
    if (action == TopAction::quit) return Exit::done;
    if (clock.now() >= next) {
      next = clock.now() + interval;
      if (!state.paused) {
        auto newer = look();
        state.note = newer.ok() ? "" : newer.status().message();
        if (newer.ok()) view = std::move(*newer);
        state.age = age();
        action = TopAction::redraw;
      }
    }
    if (action == TopAction::redraw) screen.draw(view, state);
  }
}

}  // namespace forebay::app
