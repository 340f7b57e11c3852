#include "events_output.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "forebay/config.hpp"
#include "report.hpp"

namespace forebay::app {
namespace {

using enum Table::Align;
using events::EventReport;
using events::Namer;
using events::PlaceName;
using events::Site;

constexpr std::size_t kLongestFunction = 64;
constexpr std::size_t kCallers = 3;      // shown of a site, beside the place itself
constexpr std::size_t kSparkWidth = 64;  // columns

double ratio(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

std::string share(std::uint64_t part, std::uint64_t whole) {
  return percent_of(Bytes{part}, Bytes{whole});
}

std::string size_of(std::uint64_t bytes) { return to_string(Bytes{bytes}); }

// "20 000 000"
std::string grouped(std::uint64_t count) {
  std::string text = std::to_string(count);
  for (auto at = static_cast<std::ptrdiff_t>(text.size()) - 3; at > 0; at -= 3) {
    text.insert(static_cast<std::size_t>(at), 1, ' ');
  }
  return text;
}

std::string counted(std::uint64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", grouped(count), noun, count == 1 ? "" : "s");
}

std::string time_of(double seconds) {
  return seconds < 120 ? fmt::format("{:.3g} s", seconds) : fmt::format("{:.1f} min", seconds / 60);
}

template <typename Value>
std::vector<const Site*> most_of(const EventReport& report, std::size_t most, Value value) {
  std::vector<const Site*> sites;
  for (const Site& site : report.sites) {
    if (value(site) > 0) sites.push_back(&site);
  }
  const auto middle = sites.begin() + static_cast<std::ptrdiff_t>(std::min(most, sites.size()));
  std::partial_sort(sites.begin(), middle, sites.end(), [&](const Site* a, const Site* b) {
    return value(*a) != value(*b) ? value(*a) > value(*b) : a < b;
  });
  sites.erase(middle, sites.end());
  return sites;
}

std::vector<PlaceName> places_of(const EventReport& report, const Site& site, Namer& namer) {
  std::vector<PlaceName> places;
  const auto stack = report.contents.names.stacks.find(site.stack);
  if (stack == report.contents.names.stacks.end()) return places;
  for (const std::uint64_t frame : stack->second.frames) {
    places.push_back(namer.name_of(stack->second, frame));
  }
  return places;
}

events::Context context_of(const EventReport& report, const Site& site) {
  const auto& contexts = report.contents.names.contexts;
  return site.context < contexts.size() ? contexts[site.context] : events::Context{};
}

std::string name_of(const PlaceName& place) {
  if (!place.function.empty()) return printable(short_function(place.function, kLongestFunction));
  const std::string& module = place.module;
  return fmt::format("{}+{:#x}",
                     module.empty() ? "?" : printable(module.substr(module.rfind('/') + 1)),
                     place.offset);
}

// Every stack begins with the frames of the pool itself, which say nothing.
std::size_t first_of_user(const std::vector<PlaceName>& places) {
  const auto found = std::ranges::find_if(
      places, [](const PlaceName& place) { return !place.function.starts_with("forebay::"); });
  return found == places.end() ? 0 : static_cast<std::size_t>(found - places.begin());
}

std::string who(const events::Context& context) {
  std::string text = context.tag.empty() ? "(no tag)" : printable(context.tag);
  if (!context.owner.empty()) text += fmt::format(" for {}", printable(context.owner));
  return text;
}

// A row for the site, and one for each of its callers.
void add_site(Table& table, std::vector<std::string> cells, const EventReport& report,
              const Site& site, Namer& namer, const Painter& paint) {
  const std::size_t columns = cells.size();
  cells.push_back(paint(Style::bold, who(context_of(report, site))));
  table.add(std::move(cells));
  const auto places = places_of(report, site, namer);
  const std::size_t first = first_of_user(places);
  for (std::size_t i = first; i < std::min(places.size(), first + 1 + kCallers); ++i) {
    std::vector<std::string> caller(columns);
    const std::string name = name_of(places[i]);
    caller.push_back(i == first ? "  " + name : paint(Style::dim, "  < " + name));
    table.add(std::move(caller));
  }
}

std::string site_table(std::string_view title, const std::vector<const Site*>& sites,
                       const EventReport& report, Namer& namer, const Painter& paint) {
  if (sites.empty()) return "";
  Table table{{right, right, right, right, right, right, left}};
  std::vector<std::string> heads{"allocated", "share",     "blocks", "live at end",
                                 "peak",      "temporary", "where"};
  for (std::string& head : heads) head = paint(Style::dim, head);
  table.add(std::move(heads));
  for (const Site* const site : sites) {
    add_site(table,
             {size_of(site->bytes), share(site->bytes, report.total.bytes),
              grouped(site->allocations), site->live == 0 ? "-" : size_of(site->live_bytes),
              size_of(site->peak_bytes), share(site->temporary, site->allocations)},
             report, *site, namer, paint);
  }
  return fmt::format("\n{}\n{}", paint(Style::bold, title), table.text());
}

std::string lifetimes_line(const events::Lifetimes& lifetimes) {
  constexpr std::array<std::string_view, 7> kNames{"below 10 ms", "0.1 s",  "1 s",   "10 s",
                                                   "100 s",       "1000 s", "longer"};
  std::uint64_t all = 0;
  for (const std::uint64_t count : lifetimes) all += count;
  std::string text;
  for (std::size_t i = 0; i < lifetimes.size(); ++i) {
    if (lifetimes[i] == 0) continue;
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", kNames[i], share(lifetimes[i], all));
  }
  return text.empty() ? "-" : text;
}

std::string totals_table(const EventReport& report) {
  const events::Totals& total = report.total;
  Table table{{left, left}};
  table.add({"allocated",
             fmt::format("{} in {}, {} each on average", size_of(total.bytes),
                         counted(total.allocations, "block"),
                         size_of(total.bytes / std::max<std::uint64_t>(1, total.allocations)))});
  table.add(
      {"peak", fmt::format("{} at {}", size_of(total.peak_bytes), time_of(report.peak_seconds))});
  table.add({"live at end",
             fmt::format("{} in {}", size_of(total.live_bytes), counted(total.live, "block"))});
  table.add({"temporary", fmt::format("{}, {} of all", counted(total.temporary, "block"),
                                      share(total.temporary, total.allocations))});
  table.add({"lifetimes", lifetimes_line(total.lifetimes)});
  return table.text();
}

// The most of each column's span, in eighths of the highest.
std::string spark_line(const EventReport& report) {
  constexpr std::array<std::string_view, 9> kBars{" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  const auto& points = report.timeline;
  std::uint64_t highest = 0;
  for (const events::TimePoint& point : points) highest = std::max(highest, point.most_bytes);
  if (highest == 0) return "";
  const std::size_t columns = std::min(points.size(), kSparkWidth);
  std::string text;
  for (std::size_t column = 0; column < columns; ++column) {
    std::uint64_t most = 0;
    for (std::size_t i = column * points.size() / columns;
         i < (column + 1) * points.size() / columns; ++i) {
      most = std::max(most, points[i].most_bytes);
    }
    const auto eighth = static_cast<std::size_t>(std::lround(8 * ratio(most, highest)));
    text += kBars[most == 0 ? 0 : std::max<std::size_t>(1, eighth)];
  }
  return fmt::format("\nlive bytes over {}, at most {}\n  {}\n", time_of(report.seconds),
                     size_of(highest), text);
}

std::string title_of(const EventReport& report, const std::string& file) {
  const std::string& program = report.contents.program;
  const double bytes = report.events == 0 ? 0
                                          : static_cast<double>(report.contents.file_bytes) /
                                                static_cast<double>(report.events);
  return fmt::format(
      "{}, process {}, {}\n  {} of {} in {}, {:.1f} bytes each\n",
      program.empty() ? printable(file) : printable(program.substr(program.rfind('/') + 1)),
      report.contents.process, time_of(report.seconds), counted(report.events, "event"),
      counted(report.threads, "thread"), size_of(report.contents.file_bytes), bytes);
}

Json frames_of(const EventReport& report, const Site& site, Namer& namer) {
  Json list = Json::array();
  for (const PlaceName& place : places_of(report, site, namer)) {
    list.push_back(
        {{"function", place.function}, {"module", place.module}, {"offset", place.offset}});
  }
  return list;
}

Json list_of(const std::vector<const Site*>& sites, const EventReport& report, Namer& namer) {
  Json list = Json::array();
  for (const Site* const site : sites) {
    const events::Context context = context_of(report, *site);
    list.push_back({{"tag", context.tag},
                    {"owner", context.owner},
                    {"allocations", site->allocations},
                    {"allocated_bytes", site->bytes},
                    {"live_blocks", site->live},
                    {"live_bytes", site->live_bytes},
                    {"peak_bytes", site->peak_bytes},
                    {"temporary", site->temporary},
                    {"lifetimes", site->lifetimes},
                    {"frames", frames_of(report, *site, namer)}});
  }
  return list;
}

Json timeline_of(const EventReport& report) {
  Json list = Json::array();
  for (const events::TimePoint& point : report.timeline) {
    list.push_back({{"seconds", point.seconds}, {"live_bytes", point.most_bytes}});
  }
  return list;
}

}  // namespace

std::string short_function(std::string name, std::size_t most) {
  if (name.ends_with(" const")) name.resize(name.size() - 6);
  if (name.ends_with(')')) {
    std::size_t depth = 0;
    for (std::size_t at = name.size(); at-- > 0;) {
      if (name[at] == ')') ++depth;
      if (name[at] == '(' && --depth == 0) {
        if (at > 0 && !name.substr(0, at).ends_with("operator")) name.resize(at);
        break;
      }
    }
  }
  if (name.size() <= most) return name;
  // Not in the middle of a character.
  std::size_t end = most - 1;
  while (end > 0 && (static_cast<unsigned char>(name[end]) & 0xC0) == 0x80) --end;
  return name.substr(0, end) + "…";
}

TopSites top_sites(const EventReport& report, std::size_t most) {
  return {most_of(report, most, [](const Site& site) { return site.bytes; }),
          most_of(report, most, [](const Site& site) { return site.live_bytes; }),
          most_of(report, most, [](const Site& site) { return site.temporary; })};
}

std::vector<std::string> notes_of(const EventReport& report, const Namer& namer) {
  const events::Contents& contents = report.contents;
  std::vector<std::string> notes;
  if (!contents.closed) {
    notes.emplace_back(
        "the recording was not closed: its end is missing (a process that still "
        "runs, or was killed)");
  }
  if (contents.dropped > 0) {
    notes.push_back(fmt::format("{} could not be written", counted(contents.dropped, "event")));
  }
  if (contents.damaged > 0) {
    notes.push_back(fmt::format("{} skipped in {}, where the file is damaged",
                                size_of(contents.damaged_bytes),
                                counted(contents.damaged, "place")));
  }
  if (report.bad_chunks > 0) {
    notes.push_back(
        fmt::format("{} left out: events that make no sense", counted(report.bad_chunks, "chunk")));
  }
  if (report.lost_allocations + report.unmatched_frees > 0) {
    notes.push_back(fmt::format("{} and the allocations of {} are lost; what is live is not exact",
                                counted(report.lost_allocations, "allocation"),
                                counted(report.unmatched_frees, "free")));
  }
  for (const std::string& path : namer.newer_files()) {
    notes.push_back(fmt::format("{} is newer than the recording: its functions may be others now",
                                printable(path)));
  }
  return notes;
}

std::string events_report(const EventReport& report, const std::string& file, std::size_t most,
                          const Painter& paint) {
  Namer namer{report.contents};
  const TopSites top = top_sites(report, most);
  std::string text = title_of(report, file) + "\n" + totals_table(report) + spark_line(report);
  text += site_table("most allocated", top.by_allocated, report, namer, paint);
  text += site_table("most live at the end", top.by_live, report, namer, paint);
  text += site_table("most temporary blocks", top.by_temporary, report, namer, paint);
  const auto notes = notes_of(report, namer);
  if (!notes.empty()) text += "\nnotes\n";
  for (const std::string& note : notes) text += fmt::format("  {}\n", note);
  return text;
}

Json json_of(const EventReport& report, const std::string& file, std::size_t most) {
  Namer namer{report.contents};
  const TopSites top = top_sites(report, most);
  Json object{{"file", file},
              {"file_bytes", report.contents.file_bytes},
              {"program", report.contents.program},
              {"process", report.contents.process},
              {"closed", report.contents.closed},
              {"seconds", report.seconds},
              {"threads", report.threads},
              {"events", report.events},
              {"allocations", report.total.allocations},
              {"allocated_bytes", report.total.bytes},
              {"frees", report.frees},
              {"live_blocks", report.total.live},
              {"live_bytes", report.total.live_bytes},
              {"peak_bytes", report.total.peak_bytes},
              {"peak_seconds", report.peak_seconds},
              {"temporary", report.total.temporary},
              {"lifetime_bounds_seconds", events::kLifetimeSeconds},
              {"lifetimes", report.total.lifetimes},
              {"dropped", report.contents.dropped},
              {"older_frees", report.older_frees},
              {"unmatched_frees", report.unmatched_frees},
              {"lost_allocations", report.lost_allocations},
              {"damaged_places", report.contents.damaged},
              {"damaged_bytes", report.contents.damaged_bytes},
              {"cut_bytes", report.contents.cut_bytes},
              {"sites", report.sites.size()}};
  object["by_allocated"] = list_of(top.by_allocated, report, namer);
  object["by_live"] = list_of(top.by_live, report, namer);
  object["by_temporary"] = list_of(top.by_temporary, report, namer);
  object["timeline"] = timeline_of(report);
  object["notes"] = notes_of(report, namer);
  return object;
}

}  // namespace forebay::app
