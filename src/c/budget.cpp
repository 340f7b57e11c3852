#include "c/budget.hpp"

#include <memory>

using forebay::c::fail;
using forebay::c::guarded;
using forebay::c::require;

forebay_status forebay_budget_create(const char* name, uint64_t limit, forebay_budget** budget) {
  return guarded([&]() -> forebay_status {
    require(name, "name");
    require(static_cast<const void*>(budget), "budget");
    *budget = std::make_unique<forebay_budget>(name, forebay::Bytes{limit}).release();
    return FOREBAY_OK;
  });
}

forebay_status forebay_budget_destroy(forebay_budget* budget) {
  return guarded([&]() -> forebay_status {
    if (budget == nullptr) return FOREBAY_OK;
    if (const auto caches = budget->caches.load(); caches != 0) {
      return fail(
          FOREBAY_FAILED_PRECONDITION,
          budget->budget.path() + ": " + std::to_string(caches) + " caches are charged to it");
    }
    delete budget;
    return FOREBAY_OK;
  });
}

forebay_status forebay_budget_set_limit(forebay_budget* budget, uint64_t limit) {
  return guarded([&]() -> forebay_status {
    require(budget, "budget");
    const forebay::Status status = budget->budget.set_limit(forebay::Bytes{limit});
    return status.ok() ? FOREBAY_OK : fail(status);
  });
}

forebay_status forebay_budget_get_stats(const forebay_budget* budget, forebay_budget_stats* stats) {
  return guarded([&]() -> forebay_status {
    require(budget, "budget");
    forebay::c::check_figures(stats, "stats");
    const forebay::BudgetStats now = budget->budget.stats();
    forebay_budget_stats figures{};
    figures.limit = now.limit.count();
    figures.used = now.used.count();
    figures.peak = now.peak.count();
    figures.available = now.available.count();
    figures.denials = now.denials;
    forebay::c::give_figures(figures, stats);
    return FOREBAY_OK;
  });
}
