#include "forebay/generate.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "llama/generation.hpp"
#include "llama/run_plan.hpp"

namespace forebay {
namespace {

using llama::Engine;
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
    Status loaded = load();
    if (loaded.code() == Code::interrupted) {
      report_.stop = StopReason::interrupted;
    } else if (!loaded.ok()) {
      return loaded;
    } else {
      log_.record("model loaded");
      generate_text();
    }
    log_.record("end");
    return finish();
  }

 private:
  Status make_plan() {
    auto planned = llama::plan_run(options_, report_.resident_at_start);
    if (!planned) return planned.status();
    prompt_ = std::move(planned->prompt);
    cache_tokens_ = planned->cache_tokens;
    report_.plan = std::move(planned->plan);
    report_.prompt_tokens = static_cast<std::uint32_t>(prompt_.size());
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
    engine_options.should_stop = hooks_.stop;
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
                                   .kv_per_token = report_.plan.kv_per_token,
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
    if (report_.stop == StopReason::end_of_text && report_.steps.empty() && !options_.chat) {
      report_.plan.notes.push_back(
          "the model ended its text at once; one that is made for chat answers with --chat");
    }
    for (const GenerateStep& step : report_.steps) report_.text += step.tokens.front().text;
    if (report_.generate_seconds > 0) {
      report_.tokens_per_second =
          static_cast<double>(report_.steps.size()) / report_.generate_seconds;
    }
    report_.cells_used = engine_ == nullptr ? 0 : engine_->cells_used();
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
  if (Status status = llama::check_options(options); !status.ok()) return status;
  return Run{options, hooks}.run();
}

Result<TokenPlan> plan_generation(const GenerateOptions& options) {
  if (Status status = llama::check_options(options); !status.ok()) return status;
  const auto process = PressureMonitor{}.residency();
  if (!process) return process.status();
  auto planned = llama::plan_run(options, process->total);
  if (!planned) return planned.status();
  return std::move(planned->plan);
}

}  // namespace forebay
