#include "track/source.hpp"

#include <array>
#include <atomic>

#include "forebay/check.hpp"

namespace forebay::detail {
namespace {

constexpr std::size_t kMostKinds = 8;
template <typename Function>
using Entered = std::array<std::atomic<Function>, kMostKinds>;
constinit Entered<VisitSources> g_kinds{};
constinit Entered<AddStatistics> g_statistics{};
constinit Entered<ShowCounters> g_counters{};

template <typename Function>
void enter(Entered<Function>& all, Function function) noexcept {
  for (auto& place : all) {
    Function none = nullptr;
    if (place.compare_exchange_strong(none, function) || none == function) return;
  }
  FOREBAY_CHECK(false, "more kinds of sources than there are places");
}

}  // namespace

constinit std::atomic<void (*)() noexcept> g_on_refusal{nullptr};

std::uint32_t next_source_number() noexcept {
  static std::atomic<std::uint32_t> number{0};
  return number.fetch_add(1, std::memory_order_relaxed) + 1;
}

void add_sources(VisitSources visit_all) noexcept { enter(g_kinds, visit_all); }
void add_statistics_of(AddStatistics add) noexcept { enter(g_statistics, add); }
void add_counters_of(ShowCounters show) noexcept { enter(g_counters, show); }

void visit_sources(const std::function<void(const BlockSource&)>& visit) {
  for (const auto& kind : g_kinds) {
    if (const VisitSources visit_all = kind.load()) visit_all(visit);
  }
}

void collect_from_sources(std::vector<StatisticsGroup>& groups) {
  visit_sources([&](const BlockSource& source) { source.add_statistics(groups); });
  for (const auto& kind : g_statistics) {
    if (const AddStatistics add = kind.load()) add(groups);
  }
}

void show_counters(const CounterSink& sink) noexcept {
  for (const auto& kind : g_counters) {
    if (const ShowCounters show = kind.load()) show(sink);
  }
}

}  // namespace forebay::detail
