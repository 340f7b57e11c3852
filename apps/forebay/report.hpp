// Reports for people: plans and refusals.
#pragma once

#include <string>

#include "json_output.hpp"
#include "terminal.hpp"

namespace forebay::app {

// "29 %" of the whole, "<1 %", "-" of nothing.
std::string percent_of(Bytes part, Bytes whole);

// "1 token", "2 tokens".
std::string tokens(std::uint64_t count);

// Why the line is what it is, without its size: "as asked".
std::string_view reason_of(const LineChoice& line);

std::string plan_report(const TokenPlan& plan, const PlanContext& context, const Painter& paint);

// "forebay: <what failed>" in one line; after a refusal, the account: who holds what,
// and what to try.
std::string failure_report(const Status& failure, const Painter& paint);

}  // namespace forebay::app
