#include "forebay/generate.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "llama/generation.hpp"
#include "llama/selection.hpp"

namespace forebay {
namespace {

using llama::Engine;
using llama::Probe;
using llama::Token;

// One child budget for each owner of bytes under the line.
struct Owners {
  explicit Owners(Budget& process)
      : weights(process.child("weights").value()),
        kv(process.child("kv").value()),
        compute(process.child("compute").value()),
        output(process.child("output").value()),
        heap(process.child("heap").value()),
        other(process.child("other").value()) {}

  // What lies in buffers of ours.
  Bytes buffers() const { return kv.stats().used + compute.stats().used + output.stats().used; }
  Bytes owned() const { return weights.stats().used + buffers(); }
  std::vector<OwnerUse> uses() const {
    std::vector<OwnerUse> result;
    for (const Budget* owner : {&weights, &kv, &compute, &output, &heap, &other}) {
      const BudgetStats stats = owner->stats();
      result.push_back({owner->name(), stats.used, stats.peak});
    }
    return result;
  }

  Budget weights, kv, compute, output, heap, other;
};

// Charges what the process takes beside the owners' buffers: `heap`, by malloc's own count,
// and `other` (code, stacks, what malloc keeps), which is what the kernel counts as resident
// less all charges. Charges are upper bounds of what is resident, so that their sum is never
// less than the process takes.
class ProcessMeter {
 public:
  ProcessMeter(Owners& owners, const PressureMonitor& monitor)
      : owners_(owners),
        monitor_(monitor),
        heap_(owners.heap.reserve({}).value()),
        other_(owners.other.reserve({}).value()) {}

  // Keeps heap and other together at no less than `expected` from now on, so that what they
  // will take is set aside before anybody else can have it.
  Status set_aside(Bytes expected) {
    expected_ = expected;
    return follow();
  }

  // What was expected has come: the next follow() charges what there is.
  void all_is_there() noexcept { expected_ = Bytes{}; }

  // Follows what is really there. Error: memory_refused if the line is reached.
  Status follow() {
    const auto now = monitor_.residency();
    if (!now) return now.status();
    // malloc counts what it handed out, the kernel what was touched: heap is at most either.
    const Bytes heap = std::min(heap_in_use().value_or(Bytes{}),
                                saturating_sub(now->anonymous, owners_.buffers()));
    const Bytes seen = saturating_sub(now->total, owners_.owned() + heap);
    const Bytes other = std::max(seen, saturating_sub(expected_, heap));
    // What shrinks goes first, so that it makes room for what grows.
    Reservation& first = other < other_.bytes() ? other_ : heap_;
    if (Status status = first.resize(&first == &other_ ? other : heap); !status.ok()) return status;
    return &first == &other_ ? heap_.resize(heap) : other_.resize(other);
  }

 private:
  Owners& owners_;
  const PressureMonitor& monitor_;
  Bytes expected_;
  Reservation heap_;
  Reservation other_;
};

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

// A cache that cannot hold the prompt, in the words of a refusal.
Status prompt_too_long(const TokenPlan& plan, std::uint32_t prompt_tokens, std::uint32_t cells) {
  return Status{Refusal{.budget = "process/kv",
                        .asked = plan.kv_per_token * prompt_tokens,
                        .used = {},
                        .limit = plan.kv_per_token * cells,
                        .reclaimed = {},
                        .holders = {},
                        .advice = {fmt::format("--max-cache-tokens {} or more", prompt_tokens + 1),
                                   "a shorter prompt"}}}
      .with_context(
          fmt::format("the prompt has {} tokens, the cache holds {}", prompt_tokens, cells));
}

// One call of generate(): plan, load, read the prompt, generate, report.
class Run {
 public:
  Run(const GenerateOptions& options, const GenerateHooks& hooks)
      : options_(options),
        hooks_(hooks),
        process_("process", {.limit = options.line,
                             .soft = options.soft,
                             .critical = options.critical,
                             .guarantee = {}}),
        owners_(process_),
        log_(process_, monitor_, 256, hooks.on_stage),
        meter_(owners_, monitor_) {}

  Result<GenerateReport> run() {
    const auto start = monitor_.residency();
    if (!start) return start.status();
    report_.resident_at_start = start->total;
    report_.line = options_.line;
    if (Status status = meter_.follow(); !status.ok()) return status;
    heap_at_start_ = owners_.heap.stats().used;
    log_.record("start");

    if (Status status = make_plan(); !status.ok()) return status;
    if (Status status = meter_.set_aside(report_.plan.need.other); !status.ok()) return status;
    log_.record("planned");
    if (Status status = load(); !status.ok()) return status;
    log_.record("model loaded");
    generate_text();
    log_.record("end");
    return finish();
  }

 private:
  Status make_plan() {
    auto shape = read_gguf_shape(options_.model);
    if (!shape) return shape.status();
    PlanRequest request = request_for(std::move(*shape));
    if (request.shape.weights + request.process > options_.line) return refuse_early(request);

    auto probe = Probe::open(options_.model);
    if (!probe) return probe.status();
    if (Status status = tokenize(**probe); !status.ok()) return status;
    request.compute = [&](const RunShape& run) { return (*probe)->measure(run); };
    return fit(std::move(request));
  }

  PlanRequest request_for(ModelShape shape) const {
    PlanRequest request;
    request.shape = std::move(shape);
    request.line = options_.line;
    request.run.batch_tokens = options_.batch_tokens;
    request.run.kv_k = request.run.kv_v = options_.kv_type;
    request.process = report_.resident_at_start;
    request.max_parallel = std::min(options_.max_parallel_tokens.value_or(request.max_parallel),
                                    most_selectable(options_.selection_threshold));
    request.max_context = options_.max_cache_tokens.value_or(0);
    return request;
  }

  // Weights alone are over the line: say so without opening the vocabulary.
  Status refuse_early(const PlanRequest& request) {
    auto plan = plan_tokens(request);
    if (!plan) return plan.status();
    if (hooks_.on_plan) hooks_.on_plan(*plan);
    return refusal_of(*plan);
  }

  Status tokenize(const Probe& probe) {
    std::string text = options_.prompt;
    if (options_.chat) {
      auto wrapped = probe.apply_chat_template(text);
      if (!wrapped) return wrapped.status();
      text = std::move(*wrapped);
    }
    auto tokens = probe.tokenize(text);
    if (!tokens) return tokens.status();
    if (tokens->empty()) return {Code::invalid_argument, "the prompt has no tokens"};
    prompt_ = std::move(*tokens);
    report_.prompt_tokens = static_cast<std::uint32_t>(prompt_.size());
    return {};
  }

  // Plans for the cells that this run can need, or for as many as fit. A batch longer than
  // the prompt would only make the compute buffer larger.
  Status fit(PlanRequest request) {
    auto widest = plan_tokens(request);
    if (!widest) return widest.status();
    if (!widest->fits) return announce(std::move(*widest));

    const std::uint64_t wanted = prompt_.size() + std::uint64_t{options_.max_tokens} *
                                                      std::max(widest->run.parallel_tokens, 1U);
    const auto context =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(wanted, widest->max_context_tokens));
    cache_tokens_ = std::min(widest->max_context_tokens,
                             options_.max_cache_tokens.value_or(widest->max_context_tokens));
    if (prompt_.size() >= cache_tokens_) {
      return prompt_too_long(*widest, report_.prompt_tokens, cache_tokens_);
    }
    request.run.context_tokens = context;
    request.run.batch_tokens = std::clamp(report_.prompt_tokens, 1U, options_.batch_tokens);
    request.parallel = widest->run.parallel_tokens;
    auto plan = plan_tokens(request);
    if (!plan) return plan.status();
    plan->max_context_tokens = widest->max_context_tokens;
    plan->max_parallel_tokens = widest->max_parallel_tokens;
    if (context < wanted) {
      plan->notes.push_back(fmt::format(
          "{} of the {} tokens that this run may need fit in the cache", context, wanted));
    }
    return announce(std::move(*plan));
  }

  Status announce(TokenPlan plan) {
    report_.plan = std::move(plan);
    if (hooks_.on_plan) hooks_.on_plan(report_.plan);
    return report_.plan.fits ? Status{} : refusal_of(report_.plan);
  }

  Status load() {
    llama::EngineOptions engine_options;
    engine_options.model = options_.model;
    engine_options.run = report_.plan.run;
    engine_options.threads = options_.threads;
    engine_options.on_progress = [this](float share) {
      if (hooks_.on_load) hooks_.on_load(share);
      return !(hooks_.stop && hooks_.stop());
    };
    auto engine = Engine::load(engine_options,
                               {owners_.weights, owners_.kv, owners_.compute, owners_.output});
    if (!engine) return engine.status();
    engine_ = std::move(*engine);
    report_.engine = llama::version() +
                     (engine_->owns_buffers()
                          ? ", buffers owned"
                          : fmt::format(", buffers charged only ({})", engine_->ownership_note()));
    return meter_.follow();
  }

  void generate_text() {
    const llama::LoopLimits limits{.max_tokens = options_.max_tokens,
                                   .max_parallel_tokens = report_.plan.run.parallel_tokens,
                                   .max_cache_tokens = cache_tokens_,
                                   .batch_tokens = report_.plan.run.batch_tokens,
                                   .selection_threshold = options_.selection_threshold};
    Clock& clock = Clock::steady();
    const auto began = clock.now();
    auto read = began;
    std::uint32_t positions = 0;
    llama::LoopHooks loop_hooks;
    loop_hooks.after_decode = [&] { return meter_.follow(); };
    loop_hooks.prompt_done = [&] {
      read = clock.now();
      meter_.all_is_there();
      log_.record("prompt done");
    };
    loop_hooks.on_step = [&](const GenerateStep& step) {
      if (hooks_.on_step) hooks_.on_step(step);
      if (++positions % options_.log_every == 0) {
        log_.record(fmt::format("{} tokens", positions));
      }
    };
    loop_hooks.stop = hooks_.stop;

    llama::LoopOutcome outcome = run_generation(*engine_, prompt_, limits, loop_hooks);
    const auto seconds = [](Duration d) { return std::chrono::duration<double>(d).count(); };
    report_.prompt_seconds = seconds((read > began ? read : clock.now()) - began);
    report_.generate_seconds = read > began ? seconds(clock.now() - read) : 0.0;
    report_.steps = std::move(outcome.steps);
    report_.stop = outcome.stop;
    report_.outcome = std::move(outcome.outcome);
    report_.trims = outcome.trims;
    report_.denials = outcome.cache_denials;
  }

  GenerateReport finish() {
    for (const GenerateStep& step : report_.steps) report_.text += step.tokens.front().text;
    if (report_.generate_seconds > 0) {
      report_.tokens_per_second =
          static_cast<double>(report_.steps.size()) / report_.generate_seconds;
    }
    report_.cells_used = engine_->cells_used();
    report_.owners = owners_.uses();
    for (const BudgetStats& node : process_.snapshot()) report_.denials += node.denials;
    const auto reading = monitor_.read();
    report_.peak = process_.stats().peak;
    report_.resident_peak = reading ? reading->resident_peak : Bytes{};
    report_.accounted_ratio = accounted_ratio();
    report_.line_held =
        reading.ok() && report_.peak <= report_.line && report_.resident_peak <= report_.line;
    report_.stages = log_.stages();
    return std::move(report_);
  }

  // How much of what the process grew by lies with an owner that has a name.
  double accounted_ratio() const {
    Bytes named = owners_.owned() + saturating_sub(owners_.heap.stats().used, heap_at_start_);
    const Bytes growth = saturating_sub(report_.resident_peak, report_.resident_at_start);
    if (growth.is_zero()) return 1.0;
    return static_cast<double>(named.count()) / static_cast<double>(growth.count());
  }

  const GenerateOptions& options_;
  const GenerateHooks& hooks_;
  PressureMonitor monitor_;
  Budget process_;
  Owners owners_;
  StageLog log_;
  ProcessMeter meter_;
  Bytes heap_at_start_;
  std::vector<Token> prompt_;
  std::uint32_t cache_tokens_ = 0;
  std::unique_ptr<Engine> engine_;
  GenerateReport report_;
};

}  // namespace

std::string_view to_string(StopReason reason) noexcept {
  switch (reason) {
    case StopReason::end_of_text:
      return "end_of_text";
    case StopReason::max_tokens:
      return "max_tokens";
    case StopReason::cache_full:
      return "cache_full";
    case StopReason::line_reached:
      return "line_reached";
    case StopReason::interrupted:
      return "interrupted";
    case StopReason::failed:
      return "failed";
  }
  return "unknown";
}

Result<GenerateReport> generate(const GenerateOptions& options, const GenerateHooks& hooks) {
  if (Status status = check_options(options); !status.ok()) return status;
  return Run{options, hooks}.run();
}

}  // namespace forebay
