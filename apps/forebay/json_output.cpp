#include "json_output.hpp"

namespace forebay::app {
namespace {

Json alternative_of(const PlanAlternative& alternative) {
  return {{"change", alternative.change},
          {"fits", alternative.fits},
          {"context_tokens", alternative.context_tokens},
          {"total_bytes", alternative.need.total().count()}};
}

Json list_of(const std::vector<PlanAlternative>& alternatives) {
  Json list = Json::array();
  for (const PlanAlternative& alternative : alternatives)
    list.push_back(alternative_of(alternative));
  return list;
}

Json answers_of(const std::vector<ReclaimAnswer>& answers) {
  Json list = Json::array();
  for (const ReclaimAnswer& answer : answers) {
    list.push_back({{"name", answer.name},
                    {"asked_bytes", answer.asked.count()},
                    {"claimed_bytes", answer.claimed.count()},
                    {"freed_bytes", answer.freed.count()},
                    {"left_bytes", answer.left.count()},
                    {"kept", answer.kept}});
  }
  return list;
}

Json holders_of(const std::vector<Holder>& holders) {
  Json list = Json::array();
  for (const Holder& holder : holders) {
    list.push_back({{"name", holder.name},
                    {"used_bytes", holder.used.count()},
                    {"reclaimable_bytes", holder.reclaimable.count()}});
  }
  return list;
}

}  // namespace

Json json_of(const TokenPlan& plan, const PlanContext& context) {
  const MemoryNeed& need = plan.need;
  return {
      {"fits", plan.fits},
      {"model", context.shape.name},
      {"architecture", context.shape.architecture},
      {"line_bytes", plan.line.count()},
      {"line_reason", context.line.reason},
      {"weights_bytes", need.weights.count()},
      {"kv_type", to_string(plan.run.kv_k)},
      {"kv_bytes_per_token", plan.kv_per_token.count()},
      {"kv_bytes_per_token_per_layer",
       kv_bytes_per_token_per_layer(context.shape, plan.run.kv_k, plan.run.kv_v).count()},
      {"kv_bytes", need.kv.count()},
      {"compute_bytes", need.compute.count()},
      {"output_bytes", need.output.count()},
      {"other_bytes", need.other.count()},
      {"total_bytes", need.total().count()},
      {"measured", need.measured},
      {"context_tokens", plan.run.context_tokens},
      {"parallel_tokens", plan.run.parallel_tokens},
      {"kv_tokens", filled_cells(plan.run)},
      {"batch_tokens", plan.run.batch_tokens},
      {"max_context_tokens", plan.max_context_tokens},
      {"max_parallel_tokens", plan.max_parallel_tokens},
      {"smallest_line_bytes", plan.smallest_line.count()},
      {"alternatives", list_of(plan.alternatives)},
      {"notes", plan.notes},
  };
}

Json json_of(const Status& failure) {
  Json object{{"error", failure.message()}, {"code", to_string(failure.code())}};
  if (const Refusal* refusal = failure.refusal()) {
    object["budget"] = refusal->budget;
    object["asked_bytes"] = refusal->asked.count();
    object["used_bytes"] = refusal->used.count();
    object["limit_bytes"] = refusal->limit.count();
    object["reclaimed_bytes"] = refusal->reclaimed.count();
    object["holders"] = holders_of(refusal->holders);
    object["advice"] = refusal->advice;
    object["reclaimers"] = answers_of(refusal->reclaimers);
    object["tag"] = refusal->tag;
    object["owner"] = refusal->owner;
  }
  return object;
}

std::string printed(const Json& object) {
  return object.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace forebay::app
