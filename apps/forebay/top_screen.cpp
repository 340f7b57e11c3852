#include "top_screen.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string_view>

#include "report.hpp"

namespace forebay::app {
namespace {

using detail::PublishedEvent;
using detail::PublishedPool;
using detail::PublishedView;
using enum Table::Align;

constexpr std::size_t kHeadLines = 3;
constexpr std::size_t kWideBar = 32;
constexpr std::size_t kBar = 12;

double ratio(Bytes part, Bytes whole) {
  if (whole.is_zero() || whole.is_unlimited()) return 0;
  return static_cast<double>(part.count()) / static_cast<double>(whole.count());
}

std::string percent(double share) { return fmt::format("{:.0f} %", 100 * share); }

std::string limit_text(Bytes limit) { return limit.is_unlimited() ? "-" : to_string(limit); }

std::string seconds(Duration duration) {
  const double value = std::chrono::duration<double>(duration).count();
  return value < 100 ? fmt::format("{:.1f} s", value) : fmt::format("{:.0f} s", value);
}

// A count, and bytes if its name says that it is such; "-": no limit.
std::string value_text(const Statistic& statistic) {
  constexpr double kUnlimited = 0x1p63;
  const std::string_view name = statistic.name;
  if (statistic.value >= kUnlimited) return "-";
  if (name.ends_with("_bytes") && statistic.value >= 0) {
    return to_string(Bytes{static_cast<std::uint64_t>(statistic.value)});
  }
  if (name.ends_with("_ratio")) return percent(statistic.value);
  return fmt::format("{:.6g}", statistic.value);
}

std::optional<Style> style_of(Pressure pressure) {
  if (pressure == Pressure::normal) return std::nullopt;
  return pressure == Pressure::high ? Style::bold : Style::bad;
}

// What a filter lets through, in the order that is asked for; `in_order` is that of bytes.
template <typename Row>
struct Order {
  std::function<std::string(const Row&)> name;
  std::function<double(const Row&)> count;
  bool in_order = true;
  std::function<double(const Row&)> bytes{};
};

template <typename Row>
std::vector<const Row*> chosen(const std::vector<Row>& rows, const TopState& state,
                               const Order<Row>& order) {
  std::vector<const Row*> result;
  for (const Row& row : rows) {
    if (order.name(row).find(state.filter) != std::string::npos) result.push_back(&row);
  }
  const auto by = [&](auto value, auto compare) {
    std::ranges::stable_sort(result, compare, [&](const Row* row) { return value(*row); });
  };
  if (state.sort == TopSort::name) by(order.name, std::less{});
  if (state.sort == TopSort::count) by(order.count, std::greater{});
  if (state.sort == TopSort::bytes && !order.in_order) by(order.bytes, std::greater{});
  return result;
}

// A table under a heading, of which each row has a style of its own.
class Section {
 public:
  Section(std::string_view title, std::vector<std::string> heads)
      : heads_(std::move(heads)), table_(columns_of(heads_.size() + 1)) {
    heads_.insert(heads_.begin(), std::string{title});
    table_.add(heads_);
  }
  void add(std::vector<std::string> cells, std::optional<Style> style = {}) {
    table_.add(std::move(cells));
    styles_.push_back(style);
  }
  // Nothing, if there are no rows.
  void print(std::vector<ScreenLine>& lines, std::uint64_t left_out) const {
    if (styles_.empty()) return;
    lines.push_back({""});
    const std::string text = table_.text(0);
    std::size_t row = 0;
    for (std::size_t at = 0; at < text.size(); ++row) {
      const std::size_t end = text.find('\n', at);
      lines.push_back({text.substr(at, end - at), row == 0 ? Style::dim : styles_[row - 1]});
      at = end + 1;
    }
    if (left_out > 0) lines.push_back({fmt::format("  and {} more", left_out), Style::dim});
  }

 private:
  static std::vector<Table::Align> columns_of(std::size_t count) {
    std::vector<Table::Align> columns(count, right);
    columns[0] = left;
    return columns;
  }
  std::vector<std::string> heads_;
  Table table_;
  std::vector<std::optional<Style>> styles_{};
};

void print_budgets(const PublishedView& view, const TopState& state,
                   std::vector<ScreenLine>& lines) {
  Section section{"budgets", {"charged", "limit", "", "", "peak", "denied"}};
  const Order<BudgetStats> order{
      .name = [](const BudgetStats& row) { return row.path; },
      .count = [](const BudgetStats& row) -> double { return static_cast<double>(row.denials); }};
  const bool as_tree = state.sort == TopSort::bytes && state.filter.empty();
  for (const BudgetStats* budget : chosen(view.budgets, state, order)) {
    const auto depth = static_cast<std::size_t>(std::ranges::count(budget->path, '/'));
    const std::string name =
        as_tree ? std::string(2 * depth, ' ') + budget->path.substr(budget->path.rfind('/') + 1)
                : budget->path;
    const bool limited = !budget->limit.is_unlimited();
    const double share = ratio(budget->charged, budget->limit);
    section.add(
        {"  " + name + (budget->shrinking ? " (shrinking)" : ""), to_string(budget->charged),
         limit_text(budget->limit), limited ? bar(share, kBar) : "", limited ? percent(share) : "",
         to_string(budget->peak), std::to_string(budget->denials)},
        style_of(budget->pressure));
  }
  section.print(lines, view.left_out.budgets);
}

std::string name_of(const TagStats& tag) {
  const std::string name = tag.tag.empty() ? "(no tag)" : tag.tag;
  return tag.owner.empty() ? name : fmt::format("{} [{}]", name, tag.owner);
}

void print_tags(const PublishedView& view, const TopState& state, std::vector<ScreenLine>& lines) {
  Section section{"tags", {"live", "blocks", "allocated", "allocations"}};
  const Order<TagStats> order{.name = name_of, .count = [](const TagStats& row) -> double {
                                return static_cast<double>(row.live_blocks);
                              }};
  for (const TagStats* tag : chosen(view.tags, state, order)) {
    section.add({"  " + name_of(*tag), to_string(tag->live), std::to_string(tag->live_blocks),
                 to_string(tag->allocated), std::to_string(tag->allocations)});
  }
  section.print(lines, view.left_out.tags);
}

void print_pools(const PublishedView& view, const TopState& state, std::vector<ScreenLine>& lines) {
  Section section{
      "pools", {"live", "idle", "reserved", "largest free", "fragm.", "hits", "blocks", "refused"}};
  const Order<PublishedPool> order{.name = [](const PublishedPool& row) { return row.name; },
                                   .count = [](const PublishedPool& row) -> double {
                                     return static_cast<double>(row.live_blocks);
                                   }};
  for (const PublishedPool* pool : chosen(view.pools, state, order)) {
    section.add({"  " + pool->name, to_string(pool->live), to_string(pool->idle),
                 to_string(pool->reserved), to_string(pool->largest_free),
                 percent(pool->fragmentation), percent(pool->hit_rate),
                 std::to_string(pool->live_blocks), std::to_string(pool->refused)});
  }
  section.print(lines, view.left_out.pools);
}

double value_of(const StatisticsGroup& group, std::string_view name) {
  const auto found = std::ranges::find(group.statistics, name, &Statistic::name);
  return found == group.statistics.end() ? 0 : found->value;
}

double lookups(const StatisticsGroup& group) {
  return value_of(group, "hits_total") + value_of(group, "misses_total");
}

std::string bytes_cell(const StatisticsGroup& group, std::string_view name) {
  const auto found = std::ranges::find(group.statistics, name, &Statistic::name);
  return found == group.statistics.end() ? "-" : value_text(*found);
}

const Order<StatisticsGroup> kGroupOrder{
    .name = [](const StatisticsGroup& row) { return row.name; },
    .count = lookups,
    .in_order = false,
    .bytes = [](const StatisticsGroup& row) { return value_of(row, "used_bytes"); }};

void print_caches(const PublishedView& view, const TopState& state,
                  std::vector<ScreenLine>& lines) {
  Section section{"caches", {"used", "limit", "hit rate", "hits", "misses"}};
  for (const StatisticsGroup* cache : chosen(view.groups, state, kGroupOrder)) {
    if (cache->kind != "cache") continue;
    const double asked = lookups(*cache);
    section.add(
        {"  " + cache->name, bytes_cell(*cache, "used_bytes"), bytes_cell(*cache, "limit_bytes"),
         asked > 0 ? fmt::format("{:.1f} %", 100 * value_of(*cache, "hits_total") / asked) : "-",
         fmt::format("{:.0f}", value_of(*cache, "hits_total")),
         fmt::format("{:.0f}", value_of(*cache, "misses_total"))});
  }
  section.print(lines, 0);
}

// Kinds without columns of their own: each statistic by its name.
void print_others(const PublishedView& view, const TopState& state,
                  std::vector<ScreenLine>& lines) {
  bool any = false;
  for (const StatisticsGroup* group : chosen(view.groups, state, kGroupOrder)) {
    if (group->kind == "cache") continue;
    if (!any) lines.insert(lines.end(), {{""}, {"others", Style::dim}});
    any = true;
    std::string text = fmt::format("  {} {}", group->kind, group->name);
    for (const Statistic& statistic : group->statistics) {
      text += fmt::format("  {} {}", statistic.name, value_text(statistic));
    }
    lines.push_back({text});
  }
  if (view.left_out.groups > 0) {
    lines.push_back({fmt::format("  and {} more", view.left_out.groups), Style::dim});
  }
}

void print_events(const PublishedView& view, const TopState& state,
                  std::vector<ScreenLine>& lines) {
  Section section{"latest events", {"ago", "bytes", "thread"}};
  const auto name_of_event = [](const PublishedEvent& event) {
    return fmt::format("{} {}{}{}{}", to_string(event.kind), event.subject,
                       event.tag.empty() ? "" : " [", event.tag, event.tag.empty() ? "" : "]");
  };
  for (const PublishedEvent& event : view.events) {
    const std::string name = name_of_event(event);
    if (name.find(state.filter) == std::string::npos) continue;
    const bool refused = event.kind == EventKind::deny;
    section.add(
        {"  " + name, seconds(event.age), to_string(event.bytes), std::to_string(event.thread)},
        refused ? std::optional{Style::bad} : std::nullopt);
  }
  section.print(lines, 0);
}

std::string_view name_of(TopSort sort) {
  return sort == TopSort::bytes ? "bytes" : sort == TopSort::name ? "name" : "count";
}

std::vector<ScreenLine> head_lines(const PublishedView& view, const TopState& state) {
  const double cost = view.publisher_since <= Duration{0}
                          ? 0
                          : static_cast<double>(view.publisher_cpu.count()) /
                                static_cast<double>(view.publisher_since.count());
  std::string first =
      fmt::format("{} ({})  resident {}  update {}, publishing takes {:.2f} %", view.program,
                  view.pid, to_string(view.resident), view.updates, 100 * cost);
  if (state.paused) first += "  PAUSED";
  std::string second = "no line";
  if (!view.line.is_unlimited()) {
    const double share = ratio(view.used, view.line);
    second = fmt::format("line {}  {} {}  used {}", to_string(view.line), bar(share, kWideBar),
                         percent(share), to_string(view.used));
  }
  second += fmt::format("  pressure {}", to_string(view.pressure));
  ScreenLine third{""};
  if (!state.note.empty()) {
    third = {state.note, Style::bad};
  } else if (is_stale(view, state.age)) {
    third = {fmt::format("no update for {}", seconds(state.age)), Style::bad};
  }
  return {{first, Style::bold}, {second, style_of(view.pressure)}, third};
}

std::vector<ScreenLine> body_lines(const PublishedView& view, const TopState& state) {
  std::vector<ScreenLine> lines;
  print_budgets(view, state, lines);
  print_tags(view, state, lines);
  print_pools(view, state, lines);
  print_caches(view, state, lines);
  print_others(view, state, lines);
  print_events(view, state, lines);
  if (!lines.empty()) lines.erase(lines.begin());  // the blank line before the first section
  return lines;
}

std::string foot_text(const TopState& state) {
  if (state.typing) return fmt::format("filter: {}_", state.filter);
  std::string text = fmt::format("q quit  space {}  s order: {}  / filter",
                                 state.paused ? "go on" : "pause", name_of(state.sort));
  if (!state.filter.empty()) text += fmt::format(": {}", state.filter);
  return text;
}

// The front of a text, in whole characters.
std::string cut(std::string text, std::size_t columns) {
  std::size_t seen = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0) == 0x80) continue;
    if (seen++ == columns) {
      text.resize(i);
      break;
    }
  }
  return text;
}

void erase_character(std::string& text) {
  while (!text.empty()) {
    const bool front = (static_cast<unsigned char>(text.back()) & 0xC0) != 0x80;
    text.pop_back();
    if (front) return;
  }
}

TopAction type_filter(TopState& state, int key) {
  constexpr int kEscape = 27;
  constexpr std::size_t kLongest = 60;
  if (key == '\n' || key == '\r') {
    state.typing = false;
  } else if (key == kEscape) {
    state.typing = false;
    state.filter.clear();
  } else if (key == key_erase) {
    erase_character(state.filter);
  } else if (key >= ' ' && key < 0x100 && key != 0x7F && state.filter.size() < kLongest) {
    state.filter += static_cast<char>(key);
  } else {
    return TopAction::none;
  }
  state.scroll = 0;
  return TopAction::redraw;
}

TopAction scroll_by(TopState& state, int lines) {
  const auto by = static_cast<std::size_t>(std::abs(lines));
  state.scroll = lines < 0 ? state.scroll - std::min(by, state.scroll) : state.scroll + by;
  return TopAction::redraw;
}

}  // namespace

Duration age_of(const PublishedView& view, std::chrono::system_clock::time_point now) {
  const auto since_1970 = std::chrono::duration_cast<Duration>(now.time_since_epoch());
  return std::max(since_1970 - view.taken, Duration{0});
}

bool is_stale(const PublishedView& view, Duration age) {
  constexpr Duration kAlwaysFresh = std::chrono::seconds{2};
  return age > kAlwaysFresh && age / 3 > view.interval;
}

std::string bar(double share, std::size_t cells) {
  const double filled = std::round(std::clamp(share, 0.0, 1.0) * static_cast<double>(cells));
  const auto count = static_cast<std::size_t>(filled);
  return "[" + std::string(count, '#') + std::string(cells - count, '-') + "]";
}

TopAction handle_key(TopState& state, int key) {
  constexpr int kPage = 10;
  if (state.typing) return type_filter(state, key);
  switch (key) {
    case 'q':
      return TopAction::quit;
    case ' ':
      state.paused = !state.paused;
      return TopAction::redraw;
    case 's':
      state.sort = state.sort == TopSort::bytes  ? TopSort::name
                   : state.sort == TopSort::name ? TopSort::count
                                                 : TopSort::bytes;
      return TopAction::redraw;
    case '/':
      state.typing = true;
      return TopAction::redraw;
    case 'k':
    case key_up:
      return scroll_by(state, -1);
    case 'j':
    case key_down:
      return scroll_by(state, 1);
    case key_page_up:
      return scroll_by(state, -kPage);
    case key_page_down:
      return scroll_by(state, kPage);
    case 'g':
    case key_home:
      state.scroll = 0;
      return TopAction::redraw;
    default:
      return TopAction::none;
  }
}

std::vector<ScreenLine> top_lines(const PublishedView& view, const TopState& state) {
  std::vector<ScreenLine> lines = head_lines(view, state);
  const std::vector<ScreenLine> body = body_lines(view, state);
  lines.insert(lines.end(), body.begin(), body.end());
  return lines;
}

std::vector<ScreenLine> top_screen(const PublishedView& view, TopState& state, std::size_t width,
                                   std::size_t height) {
  std::vector<ScreenLine> lines = head_lines(view, state);
  const std::vector<ScreenLine> body = body_lines(view, state);
  const std::size_t room = height > kHeadLines + 1 ? height - kHeadLines - 1 : 0;
  state.scroll = std::min(state.scroll, body.size() > room ? body.size() - room : 0);
  const auto from = body.begin() + static_cast<std::ptrdiff_t>(state.scroll);
  lines.insert(lines.end(), from,
               from + static_cast<std::ptrdiff_t>(std::min(room, body.size() - state.scroll)));
  lines.resize(std::max<std::size_t>(height, 1) - 1);
  lines.push_back({foot_text(state), Style::dim});
  for (ScreenLine& line : lines) line.text = cut(std::move(line.text), width);
  return lines;
}

}  // namespace forebay::app
