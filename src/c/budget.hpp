// A budget of the C door.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "c/boundary.hpp"
#include "forebay/budget.hpp"

// NOLINTNEXTLINE(readability-identifier-naming): C's name of it
struct forebay_budget {
  forebay_budget(const char* name, forebay::Bytes limit) : budget(name, {.limit = limit}) {}

  forebay::Budget budget;
  std::atomic<std::uint64_t> caches{0};  // charged to it
};

namespace forebay::c {

// Keeps a budget from being destroyed. Null: none.
class BudgetUse {
 public:
  explicit BudgetUse(forebay_budget* budget) noexcept : budget_(budget) {
    if (budget_ != nullptr) budget_->caches.fetch_add(1);
  }
  BudgetUse(const BudgetUse&) = delete;
  BudgetUse& operator=(const BudgetUse&) = delete;
  ~BudgetUse() {
    if (budget_ != nullptr) budget_->caches.fetch_sub(1);
  }

 private:
  forebay_budget* budget_;
};

}  // namespace forebay::c
