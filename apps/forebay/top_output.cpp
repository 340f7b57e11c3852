#include "top_output.hpp"

namespace forebay::app {
namespace {

double in_seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

// null: none.
Json limit_of(Bytes bytes) { return bytes.is_unlimited() ? Json{} : Json(bytes.count()); }

Json object_of(const BudgetStats& budget) {
  return {{"path", budget.path},
          {"limit_bytes", limit_of(budget.limit)},
          {"guarantee_bytes", budget.guarantee.count()},
          {"used_bytes", budget.used.count()},
          {"charged_bytes", budget.charged.count()},
          {"peak_bytes", budget.peak.count()},
          {"available_bytes", limit_of(budget.available)},
          {"denials", budget.denials},
          {"warnings", budget.warnings},
          {"pressure", to_string(budget.pressure)},
          {"shrinking", budget.shrinking}};
}

Json object_of(const detail::PublishedPool& pool) {
  return {{"name", pool.name},
          {"live_bytes", pool.live.count()},
          {"idle_bytes", pool.idle.count()},
          {"reserved_bytes", pool.reserved.count()},
          {"largest_free_bytes", pool.largest_free.count()},
          {"live_blocks", pool.live_blocks},
          {"refused", pool.refused},
          {"fragmentation", pool.fragmentation},
          {"hit_rate", pool.hit_rate}};
}

Json object_of(const TagStats& tag) {
  return {{"tag", tag.tag},
          {"owner", tag.owner},
          {"live_bytes", tag.live.count()},
          {"live_blocks", tag.live_blocks},
          {"allocated_bytes", tag.allocated.count()},
          {"allocations", tag.allocations}};
}

Json object_of(const StatisticsGroup& group) {
  Json statistics = Json::object();
  for (const Statistic& statistic : group.statistics) statistics[statistic.name] = statistic.value;
  return {{"kind", group.kind}, {"name", group.name}, {"statistics", std::move(statistics)}};
}

Json object_of(const detail::PublishedEvent& event) {
  return {{"kind", to_string(event.kind)},
          {"subject", event.subject},
          {"tag", event.tag},
          {"bytes", event.bytes.count()},
          {"thread", event.thread},
          {"age_seconds", in_seconds(event.age)}};
}

template <typename Row>
Json list_of(const std::vector<Row>& rows) {
  Json list = Json::array();
  for (const Row& row : rows) list.push_back(object_of(row));
  return list;
}

}  // namespace

Json json_of(const detail::PublishedView& view, Duration age) {
  return {{"pid", view.pid},
          {"program", view.program},
          {"updates", view.updates},
          {"taken_seconds", in_seconds(view.taken)},
          {"age_seconds", in_seconds(age)},
          {"interval_seconds", in_seconds(view.interval)},
          {"publisher_cpu_seconds", in_seconds(view.publisher_cpu)},
          {"publisher_seconds", in_seconds(view.publisher_since)},
          {"line_bytes", limit_of(view.line)},
          {"used_bytes", view.used.count()},
          {"resident_bytes", view.resident.count()},
          {"pressure", to_string(view.pressure)},
          {"budgets", list_of(view.budgets)},
          {"tags", list_of(view.tags)},
          {"pools", list_of(view.pools)},
          {"groups", list_of(view.groups)},
          {"events", list_of(view.events)},
          {"left_out",
           {{"budgets", view.left_out.budgets},
            {"tags", view.left_out.tags},
            {"pools", view.left_out.pools},
            {"groups", view.left_out.groups}}}};
}

}  // namespace forebay::app
