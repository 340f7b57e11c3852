// The objects that --json prints. Keys are snake_case with their unit; scripts rely on
// them, so that they are added to but never renamed.
#pragma once

#include <nlohmann/json.hpp>

#include "forebay/governor.hpp"
#include "forebay/model.hpp"

namespace forebay::app {

using Json = nlohmann::ordered_json;

// What a plan was made for.
struct PlanContext {
  ModelShape shape;
  LineChoice line;
};

Json json_of(const TokenPlan& plan, const PlanContext& context);
// error and code; the account too, where a budget refused.
Json json_of(const Status& failure);
// One object in several lines; bytes that are no UTF-8 become U+FFFD.
std::string printed(const Json& object);

}  // namespace forebay::app
