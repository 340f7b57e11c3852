// Planning: which run of a model fits below a line.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "kv/need.hpp"

namespace forebay {
namespace {

// What a model of unknown training is planned for.
constexpr std::uint32_t kUnknownContext = 32768;
// Batches below this read a prompt hardly faster than token by token.
constexpr std::uint32_t kSmallestBatch = 32;
// A context chosen by the plan should hold some batches before it is worth a large one.
constexpr std::uint32_t kBatchesPerContext = 4;
constexpr double kGigabyte = 1 << 30;  // of --max-memory-gb

// The least multiple of the granule that holds them. REQUIRES: tokens <= 2^31.
std::uint32_t whole_granules(std::uint32_t tokens) {
  return std::max((tokens + kContextGranule - 1) / kContextGranule, 1U) * kContextGranule;
}

// The largest n in [low, high] for which fits(n). REQUIRES: fits(low). If `fits` is not
// monotone it is still true of the result and false of the next, unless that is high.
template <typename Fits>
Result<std::uint32_t> largest(std::uint32_t low, std::uint32_t high, const Fits& fits) {
  if (high <= low) return low;
  auto whole = fits(high);
  if (!whole) return whole.status();
  if (*whole) return high;
  while (high - low > 1) {
    const std::uint32_t middle = low + (high - low) / 2;
    const auto fit = fits(middle);
    if (!fit) return fit.status();
    (*fit ? low : high) = middle;
  }
  return low;
}

class Planner {
 public:
  explicit Planner(const PlanRequest& request) : request_(request) {
    context_ = request.run.context_tokens;
    if (context_ != 0) context_ = whole_granules(context_);
    if (request.max_context != 0) {
      most_context_ = whole_granules(request.max_context);
    } else {
      const std::uint32_t trained = request.shape.context_trained;
      const std::uint32_t known = trained == 0 ? kUnknownContext : trained;
      most_context_ = whole_granules(std::min(known, 1U << 31));
    }
    most_context_ = std::max(most_context_, context_);
  }

  Result<TokenPlan> plan() {
    plan_.line = request_.line;
    plan_.kv_per_token = kv_bytes_per_token(request_.shape, request_.run.kv_k, request_.run.kv_v);
    Status status = choose_run();
    if (status.ok()) status = plan_.fits ? find_limits() : Status{};
    if (status.ok()) status = find_alternatives();
    if (!status.ok()) return status;
    write_notes();
    return std::move(plan_);
  }

 private:
  // --- needs ---------------------------------------------------------------------------

  Result<MemoryNeed> need_of(const RunShape& run) {
    const auto key =
        std::tuple{run.context_tokens, run.batch_tokens, run.parallel_tokens, run.kv_k, run.kv_v};
    if (const auto known = needs_.find(key); known != needs_.end()) return known->second;
    ComputeNeed compute = detail::estimate_compute(request_.shape, run);
    if (request_.compute) {
      auto measured = request_.compute(run);
      if (!measured) return measured.status();
      compute = *measured;
    }
    auto need = add_up(run, compute);
    if (need) needs_.emplace(key, *need);
    return need;
  }

  // Every sum of a MemoryNeed's parts that total() will make, checked once here.
  Result<MemoryNeed> add_up(const RunShape& run, const ComputeNeed& compute) const {
    const auto kv = detail::kv_need(request_.shape, run);
    const auto other =
        checked_add(request_.process, detail::estimate_overhead(request_.shape, run));
    std::optional<Bytes> sum = Bytes{};
    for (const auto& part :
         {std::optional{request_.shape.weights}, kv, std::optional{compute.compute},
          std::optional{compute.output}, other}) {
      sum = sum && part ? checked_add(*sum, *part) : std::nullopt;
    }
    if (!sum) {
      return Status{Code::invalid_argument,
                    fmt::format("a run of {} tokens needs more than 2^64 bytes; allowed: less",
                                run.context_tokens)};
    }
    return MemoryNeed{request_.shape.weights, *kv,    compute.compute,
                      compute.output,         *other, static_cast<bool>(request_.compute)};
  }

  Result<bool> fits(const RunShape& run) {
    const auto need = need_of(run);
    if (!need) return need.status();
    return need->total() <= request_.line;
  }

  // --- choosing ------------------------------------------------------------------------

  RunShape run_with(std::uint32_t context, std::uint32_t batch, std::uint32_t parallel) const {
    RunShape run = request_.run;
    run.context_tokens = context;
    run.batch_tokens = batch;
    run.parallel_tokens = parallel;
    return run;
  }

  std::uint32_t least_parallel() const { return request_.parallel.value_or(1); }
  std::uint32_t least_context() const { return context_ != 0 ? context_ : kContextGranule; }

  // The batch asked for, then smaller ones; each holds the parallel set.
  std::vector<std::uint32_t> batches() const {
    std::vector<std::uint32_t> all{std::max(request_.run.batch_tokens, least_parallel())};
    for (const std::uint32_t smaller : {256U, 128U, 64U, kSmallestBatch}) {
      const std::uint32_t batch = std::max(smaller, least_parallel());
      if (batch < all.back()) all.push_back(batch);
    }
    return all;
  }

  Result<std::uint32_t> largest_context(RunShape run) {
    const auto granules = largest(run.context_tokens / kContextGranule,
                                  most_context_ / kContextGranule, [&](std::uint32_t n) {
                                    run.context_tokens = n * kContextGranule;
                                    return fits(run);
                                  });
    if (!granules) return granules.status();
    return *granules * kContextGranule;
  }

  Result<std::uint32_t> largest_parallel(RunShape run, std::uint32_t most) {
    return largest(run.parallel_tokens, most, [&](std::uint32_t n) {
      run.parallel_tokens = n;
      return fits(run);
    });
  }

  // The first batch under which the smallest run fits; a smaller one where the context is
  // ours to choose and would hold too few of them.
  Status choose_run() {
    bool found = false;
    for (const std::uint32_t batch : batches()) {
      const RunShape smallest = run_with(least_context(), batch, least_parallel());
      auto need = need_of(smallest);
      if (!need) return need.status();
      if (plan_.smallest_line.is_zero() || need->total() < plan_.smallest_line) {
        plan_.smallest_line = need->total();
        if (!plan_.fits) set_run(smallest, *need);
      }
      if (found || need->total() > request_.line) continue;
      plan_.fits = true;
      if (Status status = grow(smallest); !status.ok()) return status;
      found = context_ != 0 || plan_.run.context_tokens == most_context_ ||
              plan_.run.context_tokens / kBatchesPerContext >= batch;
    }
    return {};
  }

  void set_run(const RunShape& run, const MemoryNeed& need) {
    plan_.run = run;
    plan_.need = need;
  }

  // Context first; then the parallel set, for which a context of our choice gives up to a
  // quarter; then whatever context is left.
  Status grow(RunShape run) {
    if (context_ == 0) {
      auto context = largest_context(run);
      if (!context) return context.status();
      run.context_tokens = *context;
    }
    if (!request_.parallel) {
      if (Status status = grow_parallel(run); !status.ok()) return status;
    }
    auto need = need_of(run);
    if (!need) return need.status();
    set_run(run, *need);
    return {};
  }

  std::uint32_t most_parallel(const RunShape& run) const {
    return std::max(std::min({request_.max_parallel, run.batch_tokens, run.context_tokens}),
                    run.parallel_tokens);
  }

  Status grow_parallel(RunShape& run) {
    RunShape kept = run;
    if (context_ == 0) {
      kept.context_tokens = whole_granules(run.context_tokens / 4 * 3);
      const auto fit = fits(kept);
      if (!fit) return fit.status();
      if (!*fit) kept = run;  // only a meter that is not monotone gets here
    }
    auto parallel = largest_parallel(kept, most_parallel(kept));
    if (!parallel) return parallel.status();
    kept.parallel_tokens = *parallel;
    if (context_ == 0) {
      auto context = largest_context(kept);
      if (!context) return context.status();
      kept.context_tokens = *context;
    }
    run = kept;
    return {};
  }

  Status find_limits() {
    auto context = largest_context(plan_.run);
    if (!context) return context.status();
    auto parallel = largest_parallel(plan_.run, most_parallel(plan_.run));
    if (!parallel) return parallel.status();
    plan_.max_context_tokens = *context;
    plan_.max_parallel_tokens = *parallel;
    return {};
  }

  // --- what else would do --------------------------------------------------------------

  Status add_alternative(std::string change, const RunShape& run) {
    if (!storable(run)) return {};
    const auto need = need_of(run);
    if (need.status().code() == Code::unsupported) return {};  // the engine cannot: no advice
    if (!need) return need.status();
    if (need->total() >= plan_.need.total()) return {};  // no help
    plan_.alternatives.push_back(
        {std::move(change), *need, run.context_tokens, need->total() <= request_.line});
    return {};
  }

  // Quantized KV comes in blocks of 32 elements of one head.
  bool storable(const RunShape& run) const {
    constexpr std::uint32_t kBlock = 32;
    const auto whole = [](KvType type, std::uint32_t head_dim) {
      return type == KvType::f16 || type == KvType::bf16 || head_dim % kBlock == 0;
    };
    return whole(run.kv_k, request_.shape.head_dim_k) && whole(run.kv_v, request_.shape.head_dim_v);
  }

  RunShape with_kv(RunShape run, KvType type) const {
    run.kv_k = type;
    run.kv_v = type;
    return run;
  }

  Status find_alternatives() {
    const RunShape run = plan_.run;
    for (const KvType type : {KvType::q8_0, KvType::q4_0}) {
      auto status =
          add_alternative(fmt::format("--kv-type {}", to_string(type)), with_kv(run, type));
      if (!status.ok()) return status;
    }
    if (Status status = add_smaller_context(run); !status.ok()) return status;
    if (Status status = add_smaller_parallel(run); !status.ok()) return status;
    if (const std::uint32_t batch = std::max(128U, run.parallel_tokens); batch < run.batch_tokens) {
      RunShape smaller = run;
      smaller.batch_tokens = batch;
      auto status = add_alternative(fmt::format("--batch-tokens {}", batch), smaller);
      if (!status.ok()) return status;
    }
    return plan_.fits ? Status{} : add_all_at_once(run);
  }

  // Half the context; where that does not fit, the largest that does, or the smallest.
  Status add_smaller_context(RunShape run) {
    if (run.context_tokens <= kContextGranule) return {};
    const std::uint32_t planned = run.context_tokens;
    run.context_tokens = kContextGranule;
    auto fit = fits(run);
    if (!fit) return fit.status();
    std::uint32_t context = whole_granules(planned / 2);
    if (!plan_.fits && *fit) {
      auto most = largest(1U, planned / kContextGranule, [&](std::uint32_t n) {
        run.context_tokens = n * kContextGranule;
        return fits(run);
      });
      if (!most) return most.status();
      context = *most * kContextGranule;
    } else if (!plan_.fits) {
      context = kContextGranule;
    }
    run.context_tokens = context;
    return add_alternative(fmt::format("--max-cache-tokens {}", context), run);
  }

  // One lane; where the plan does not fit, as many as do.
  Status add_smaller_parallel(RunShape run) {
    if (run.parallel_tokens == 1) return {};
    const std::uint32_t planned = run.parallel_tokens;
    run.parallel_tokens = 1;
    const auto fit = fits(run);
    if (!fit) return fit.status();
    if (!plan_.fits && *fit) {
      auto most = largest_parallel(run, planned);
      if (!most) return most.status();
      run.parallel_tokens = *most;
    }
    return add_alternative(fmt::format("--max-parallel-tokens {}", run.parallel_tokens), run);
  }

  // The least of everything, where no single change is enough.
  Status add_all_at_once(RunShape run) {
    const auto enough = [](const PlanAlternative& alternative) { return alternative.fits; };
    if (std::any_of(plan_.alternatives.begin(), plan_.alternatives.end(), enough)) return {};
    if (plan_.alternatives.size() < 2) return {};
    run = with_kv(run_with(kContextGranule, kSmallestBatch, 1), KvType::q4_0);
    return add_alternative(
        fmt::format("--kv-type q4_0 --max-cache-tokens {} --max-parallel-tokens 1 "
                    "--batch-tokens {}",
                    kContextGranule, kSmallestBatch),
        run);
  }

  // --- words ---------------------------------------------------------------------------

  void write_notes() {
    const auto note = [&](std::string text) { plan_.notes.push_back(std::move(text)); };
    const RunShape& run = plan_.run;
    if (!plan_.need.measured) {
      note("compute, output and other are estimates; weights and KV are exact");
    }
    const std::uint32_t asked = request_.run.context_tokens;
    if (asked != 0 && asked != context_) {
      note(fmt::format("context rounded up from {} to {} tokens", asked, context_));
    }
    const std::uint32_t trained = request_.shape.context_trained;
    if (trained == 0 && request_.max_context == 0 && asked == 0) {
      note(fmt::format("the model does not say its context; planned for at most {} tokens",
                       kUnknownContext));
    }
    if (trained != 0 && run.context_tokens > whole_granules(std::min(trained, 1U << 31))) {
      note(fmt::format("context of {} tokens is more than the model was trained for, {}",
                       run.context_tokens, trained));
    }
    if (run.batch_tokens < request_.run.batch_tokens) {
      note(fmt::format("batch lowered from {} to {} tokens to fit", request_.run.batch_tokens,
                       run.batch_tokens));
    }
    if (run.batch_tokens > request_.run.batch_tokens) {
      note(fmt::format("batch raised from {} to {} tokens to hold the parallel set",
                       request_.run.batch_tokens, run.batch_tokens));
    }
    if (!plan_.fits) return;
    if (context_ == 0 && run.context_tokens < most_context_) {
      note(fmt::format("the line limits the context to {} of {} tokens", run.context_tokens,
                       most_context_));
    }
    if (!request_.parallel && run.parallel_tokens < most_parallel_allowed()) {
      note(fmt::format("the line limits the parallel set to {} of {} tokens", run.parallel_tokens,
                       most_parallel_allowed()));
    }
  }

  std::uint32_t most_parallel_allowed() const { return most_parallel(plan_.run); }

  const PlanRequest& request_;
  std::uint32_t context_ = 0;       // asked for, in whole granules; 0 = ours to choose
  std::uint32_t most_context_ = 0;  // bound of the search
  TokenPlan plan_;
  std::map<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t, KvType, KvType>, MemoryNeed>
      needs_;
};

// Bytes as the GB (2^30) of a flag, rounded up so that the line is never short.
std::string gigabytes(Bytes bytes) {
  const double thousandths = std::ceil(static_cast<double>(bytes.count()) / kGigabyte * 1000);
  return fmt::format("{:.3f}", thousandths / 1000);
}

}  // namespace

std::uint32_t most_selectable(double threshold) noexcept {
  // 1e-9: 1 / 0.1 must count ten, whichever way the quotient was rounded.
  return static_cast<std::uint32_t>(std::min(1.0 / threshold + 1e-9, 1e6));
}

Result<TokenPlan> plan_tokens(const PlanRequest& request) {
  if (Status status = detail::check_request(request); !status.ok()) return status;
  return Planner{request}.plan();
}

Status refusal_of(const TokenPlan& plan) {
  if (plan.fits) return {};
  Refusal refusal;
  refusal.budget = "plan";
  refusal.asked = plan.need.total();
  refusal.limit = plan.line;
  const MemoryNeed& need = plan.need;
  refusal.holders = {{"weights", need.weights, {}},
                     {"kv", need.kv, {}},
                     {"compute", need.compute, {}},
                     {"output", need.output, {}},
                     {"other", need.other, {}}};
  std::stable_sort(refusal.holders.begin(), refusal.holders.end(),
                   [](const Holder& a, const Holder& b) { return a.used > b.used; });
  for (const PlanAlternative& alternative : plan.alternatives) {
    if (!alternative.fits) continue;
    refusal.advice.push_back(
        fmt::format("{} (needs {})", alternative.change, to_string(alternative.need.total())));
  }
  refusal.advice.push_back(fmt::format("--max-memory-gb {} (the smallest line for this run, {})",
                                       gigabytes(plan.smallest_line),
                                       to_string(plan.smallest_line)));
  return Status{std::move(refusal)};
}

}  // namespace forebay
