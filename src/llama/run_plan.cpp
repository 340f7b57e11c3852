#include "llama/run_plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace forebay::llama {
namespace {

// llama.cpp takes up to this much heap to tokenize one byte of text (measured: 44).
constexpr std::uint64_t kTokenizeBytesPerByte = 48;

std::string gigabytes_flag(Bytes line) {
  return fmt::format("--max-memory-gb {:.3f}",
                     static_cast<double>(line.count()) / (1ULL << 30) + 0.001);
}

// A text whose tokens alone would take the process over the line.
Status check_text(const GenerateOptions& options, Bytes process) {
  const Bytes cost = Bytes{kTokenizeBytesPerByte} * options.prompt.size();
  if (options.line.is_unlimited() || process + cost <= options.line) return {};
  return Status{Refusal{.budget = "process/heap",
                        .asked = cost,
                        .used = process,
                        .limit = options.line,
                        .reclaimed = {},
                        .holders = {},
                        .advice = {"a shorter prompt", gigabytes_flag(process + cost)}}}
      .with_context(fmt::format("to read a prompt of {} bytes", options.prompt.size()));
}

// A cache that cannot hold the prompt, in the words of a refusal.
Status prompt_too_long(const GenerateOptions& options, const TokenPlan& plan,
                       std::uint32_t prompt_tokens, std::uint32_t cells) {
  std::vector<std::string> advice;
  if (options.max_cache_tokens && *options.max_cache_tokens <= prompt_tokens) {
    advice.push_back(fmt::format("--max-cache-tokens {} or more", prompt_tokens + 1));
  } else {
    const Bytes more = plan.kv_per_token * (prompt_tokens + kContextGranule - cells);
    advice.push_back(gigabytes_flag(plan.need.total() + more));
    if (options.kv_type != KvType::q4_0) advice.emplace_back("--kv-type q8_0 or q4_0");
  }
  advice.emplace_back("a shorter prompt");
  return Status{Refusal{.budget = "process/kv",
                        .asked = plan.kv_per_token * prompt_tokens,
                        .used = {},
                        .limit = plan.kv_per_token * cells,
                        .reclaimed = {},
                        .holders = {},
                        .advice = std::move(advice)}}
      .with_context(
          fmt::format("the prompt has {} tokens, the cache holds {}", prompt_tokens, cells));
}

PlanRequest request_for(const GenerateOptions& options, ModelShape shape, Bytes process) {
  PlanRequest request;
  request.shape = std::move(shape);
  request.line = options.line;
  request.run.batch_tokens = options.batch_tokens;
  request.run.kv_k = request.run.kv_v = options.kv_type;
  request.process = process;
  request.max_parallel = std::min(options.max_parallel_tokens.value_or(request.max_parallel),
                                  most_selectable(options.selection_threshold));
  request.max_context = options.max_cache_tokens.value_or(0);
  return request;
}

Result<std::vector<Token>> tokens_of(const GenerateOptions& options, const Probe& probe) {
  std::string text = options.prompt;
  if (options.chat) {
    auto wrapped = probe.apply_chat_template(text);
    if (!wrapped) return wrapped.status();
    text = std::move(*wrapped);
  }
  auto tokens = probe.tokenize(text);
  if (tokens.ok() && tokens->empty()) {
    return Status{Code::invalid_argument, "the prompt has no tokens"};
  }
  return tokens;
}

// Where the smallest whole context does not fit, the cells of this run alone may: it has one
// token at a position then, and as many positions as were asked for.
Result<RunPlan> fit_narrow(const GenerateOptions& options, PlanRequest request,
                           std::vector<Token> prompt) {
  const std::uint64_t wanted = prompt.size() + std::uint64_t{options.max_tokens};
  const auto cells = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(wanted, options.max_cache_tokens.value_or(~0U)));
  request.run.context_tokens = request.run.kv_tokens = cells;
  request.parallel = 1;
  auto plan = plan_tokens(request);
  if (!plan) return plan.status();
  if (plan->fits && prompt.size() >= cells) {
    return prompt_too_long(options, *plan, static_cast<std::uint32_t>(prompt.size()), cells);
  }
  return RunPlan{std::move(*plan), std::move(prompt), cells};
}

// Plans for the cells that this run can need, or for as many as fit. A batch longer than the
// prompt or a parallel set would only make the compute buffer larger.
Result<RunPlan> fit(const GenerateOptions& options, PlanRequest request,
                    std::vector<Token> prompt) {
  const auto prompt_tokens = static_cast<std::uint32_t>(prompt.size());
  request.run.batch_tokens =
      std::clamp(std::max(prompt_tokens, request.max_parallel), 1U, options.batch_tokens);
  auto widest = plan_tokens(request);
  if (!widest) return widest.status();
  if (!widest->fits) return fit_narrow(options, std::move(request), std::move(prompt));

  const std::uint32_t cells =
      std::min(widest->max_context_tokens, options.max_cache_tokens.value_or(~0U));
  if (prompt_tokens >= cells) return prompt_too_long(options, *widest, prompt_tokens, cells);
  const std::uint64_t wanted =
      prompt_tokens + std::uint64_t{options.max_tokens} * std::max(widest->run.parallel_tokens, 1U);
  request.run.context_tokens = static_cast<std::uint32_t>(std::min<std::uint64_t>(wanted, cells));
  // One cell a position: how many more a parallel set takes is not known before, and each is
  // asked of the budget, and trimmed where it does not fit, as it comes.
  request.run.kv_tokens = std::min(request.run.context_tokens, prompt_tokens + options.max_tokens);
  request.parallel = widest->run.parallel_tokens;
  auto plan = plan_tokens(request);
  if (!plan) return plan.status();
  plan->max_context_tokens = widest->max_context_tokens;
  plan->max_parallel_tokens = widest->max_parallel_tokens;
  if (cells < wanted) {
    plan->notes.push_back(
        fmt::format("{} of the {} tokens that this run may need fit in the cache", cells, wanted));
  }
  if (plan->run.parallel_tokens > 1) {
    plan->notes.push_back(fmt::format(
        "KV is planned for one token a position; parallel sets may take {} more, and are trimmed "
        "where the line is reached",
        to_string(plan->kv_per_token * (plan->run.context_tokens - filled_cells(plan->run)))));
  }
  return RunPlan{std::move(*plan), std::move(prompt), cells};
}

}  // namespace

Status check_options(const GenerateOptions& options) {
  const auto refuse = [](std::string_view what, const auto& value, std::string_view allowed) {
    return Status{Code::invalid_argument,
                  fmt::format("{}: {} is not allowed; allowed: {}", what, value, allowed)};
  };
  if (options.prompt.empty()) return {Code::invalid_argument, "the prompt is empty"};
  if (!(options.selection_threshold > 0 && options.selection_threshold <= 1)) {
    return refuse("selection_threshold", options.selection_threshold, "above 0, at most 1");
  }
  if (options.max_tokens == 0) return refuse("max_tokens", 0, "1 or more");
  if (options.batch_tokens == 0) return refuse("batch_tokens", 0, "1 or more");
  if (options.threads < 1) return refuse("threads", options.threads, "1 or more");
  if (options.max_parallel_tokens == 0U) return refuse("max_parallel_tokens", 0, "1 or more");
  if (options.log_every == 0) return refuse("log_every", 0, "1 or more");
  return {};
}

Result<RunPlan> plan_run(const GenerateOptions& options, Bytes process) {
  auto shape = read_gguf_shape(options.model);
  if (!shape) return shape.status();
  PlanRequest request = request_for(options, std::move(*shape), process);
  if (request.shape.weights + request.process > options.line) {
    // Over the line with the weights alone: said without opening the vocabulary.
    auto plan = plan_tokens(request);
    if (!plan) return plan.status();
    return RunPlan{std::move(*plan), {}, 0};
  }
  if (Status status = check_text(options, process); !status.ok()) return status;
  auto probe = Probe::open(options.model);
  if (!probe) return probe.status();
  auto prompt = tokens_of(options, **probe);
  if (!prompt) return prompt.status();
  request.compute = [&](const RunShape& run) { return (*probe)->measure(run); };
  return fit(options, std::move(request), std::move(*prompt));
}

}  // namespace forebay::llama
