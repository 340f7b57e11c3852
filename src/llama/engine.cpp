#if __has_include(<malloc.h>)
#include <malloc.h>
#endif

#include <algorithm>
#include <utility>

#include "forebay/llama.hpp"
#include "llama/engine_memory.hpp"
#include "llama/log.hpp"
#include "llama/shim.hpp"

namespace forebay::llama {
namespace {

Bytes whole_pages(Bytes bytes) noexcept { return align_up(bytes, Bytes{4096}).value_or(bytes); }

Bytes output_row(std::uint32_t vocabulary) noexcept {
  return Bytes{sizeof(float)} * std::uint64_t{vocabulary};
}

std::uint32_t output_rows(const RunShape& run) noexcept {
  return std::max(run.parallel_tokens, 1U);
}

Status bad_option(const std::string& name, std::uint64_t value, const std::string& allowed) {
  return Status(Code::invalid_argument,
                name + " is " + std::to_string(value) + "; allowed: " + allowed);
}

// Limits of llama.cpp beyond which it aborts or wraps.
constexpr std::uint32_t kMaxTokens = 1U << 30;
constexpr int kMaxThreads = 512;

Status check_options(const EngineOptions& options) {
  const RunShape& run = options.run;
  if (run.context_tokens == 0 || run.context_tokens > kMaxTokens)
    return bad_option("context_tokens", run.context_tokens, "1 to 2^30");
  if (run.batch_tokens == 0 || run.batch_tokens > kMaxTokens)
    return bad_option("batch_tokens", run.batch_tokens, "1 to 2^30");
  if (run.parallel_tokens > run.context_tokens)
    return bad_option("parallel_tokens", run.parallel_tokens,
                      "at most the context of " + std::to_string(run.context_tokens));
  if (options.threads < 1 || options.threads > kMaxThreads)
    return Status(Code::invalid_argument, "threads is " + std::to_string(options.threads) +
                                              "; allowed: 1 to " + std::to_string(kMaxThreads));
  return {};
}

// llama.cpp turns flash attention off for this family without a word in its API; V then lies
// transposed, and a row of it is not a cell.
bool keeps_flash_attention(const ModelShape& shape) { return shape.architecture != "grok"; }

// A dry run builds a tokenizer and drops it; without this its bytes stay resident and look like
// the process's own.
void give_heap_back() noexcept {
#if defined(__GLIBC__)
  ::malloc_trim(0);
#endif
}

class EngineImpl final : public Engine {
 public:
  EngineImpl(const EngineOptions& options, const EngineBudgets& budgets, const ModelShape& shape)
      : options_(options),
        budgets_(budgets),
        memory_(budgets, options.flash_attention && keeps_flash_attention(shape)) {}

  Status open(const ModelShape& shape);

  Result<std::vector<Token>> tokenize(std::string_view text) const override {
    return shim::tokenize(*model_, text);
  }
  std::string piece(Token token) const override { return shim::piece(*model_, token); }
  bool ends_generation(Token token) const override { return shim::ends_generation(*model_, token); }
  std::uint32_t vocabulary() const noexcept override { return vocabulary_; }
  Result<std::string> apply_chat_template(std::string_view message) const override {
    return shim::apply_chat_template(*model_, message);
  }

  Status decode(std::span<const Row> rows) override;
  std::span<const float> logits(std::uint32_t i) const override;

  std::uint32_t cells_used() const noexcept override { return cells_; }
  std::uint32_t context_tokens() const noexcept override { return shim::context_tokens(*context_); }
  Bytes kv_committed() const noexcept override {
    return owns_buffers() ? memory_.kv_committed() : kv_charge_.bytes();
  }
  bool owns_buffers() const noexcept override { return note_.empty(); }
  std::string_view ownership_note() const noexcept override { return note_; }

 private:
  Status charge_by_report();
  Status charge_by_formula(const ModelShape& shape);
  Status charge_compute_by_log(std::string_view log);
  Status load_weights();
  Status make_context();
  Status check_rows(std::span<const Row> rows) const;
  Status failed(shim::Outcome outcome, const std::string& words);
  shim::ContextOptions context_options() const {
    return {.run = options_.run,
            .threads = options_.threads,
            .flash_attention = options_.flash_attention,
            .should_stop = options_.should_stop};
  }

  EngineOptions options_;
  EngineBudgets budgets_;
  std::string_view note_;
  Reservation kv_charge_, compute_charge_, output_charge_;  // only if buffers are not owned
  EngineMemory memory_;
  shim::Model model_;
  shim::Context context_;  // ends before the model, and both before their memory
  std::uint32_t vocabulary_ = 0;
  std::uint32_t cells_ = 0;
  std::int32_t next_position_ = 0;
  std::vector<std::int32_t> wanted_;  // rows of the last batch that have logits
};

Status EngineImpl::open(const ModelShape& shape) {
  note_ = options_.own_buffers ? shim::install_buffer_hook() : "buffers are not owned by choice";
  if (Status status = memory_.charge_weights(shape.weights, shim::maps_weights()); !status.ok())
    return status;
  if (!owns_buffers()) {
    Status status = shim::reports_memory() ? charge_by_report() : charge_by_formula(shape);
    if (!status.ok()) return status;
  }
  if (Status status = load_weights(); !status.ok()) return status;
  return make_context();
}

Status charge(Budget& budget, Bytes bytes, Reservation& charged) {
  auto granted = budget.reserve(whole_pages(bytes));
  if (!granted) return granted.status();
  charged = std::move(*granted);
  return {};
}

// Without owned buffers: what llama.cpp says it will allocate, charged before it does.
Status EngineImpl::charge_by_report() {
  auto model = shim::open_without_weights(options_.model);
  if (!model) return model.status();
  auto need = shim::dry_run(**model, context_options());
  model->reset();
  give_heap_back();
  if (!need) return need.status();
  Status status = charge(budgets_.kv, need->context, kv_charge_);
  if (status.ok()) status = charge(budgets_.compute, need->compute, compute_charge_);
  if (status.ok())
    status = charge(budgets_.output, output_row(need->vocabulary) * output_rows(options_.run),
                    output_charge_);
  return status;
}

// A llama.cpp without that report: KV and output by their formulas; compute follows from its log
// once the context is there, before a page of it is touched.
Status EngineImpl::charge_by_formula(const ModelShape& shape) {
  const Bytes cells{align_up(Bytes{options_.run.context_tokens}, Bytes{kContextGranule})->count()};
  Status status = charge(
      budgets_.kv, kv_bytes_per_token(shape, options_.run.kv_k, options_.run.kv_v) * cells.count(),
      kv_charge_);
  if (status.ok())
    status = charge(budgets_.output, output_row(shape.vocabulary) * output_rows(options_.run),
                    output_charge_);
  return status;
}

Status EngineImpl::charge_compute_by_log(std::string_view log) {
  const auto bytes = compute_bytes_in_log(log);
  if (!bytes)
    return Status(Code::unsupported,
                  "this llama.cpp does not say how much memory its computing takes");
  return charge(budgets_.compute, *bytes, compute_charge_);
}

Status EngineImpl::load_weights() {
  const shim::OwnerScope owner(owns_buffers() ? &memory_ : nullptr);
  auto model = shim::load_model(options_.model, options_.on_progress);
  if (Status refusal = memory_.take_refusal(); !refusal.ok()) return refusal;
  if (!model) return model.status();
  model_ = std::move(*model);
  vocabulary_ = shim::vocabulary(*model_);
  return memory_.charge_more_weights(shim::model_bytes(*model_));
}

Status EngineImpl::make_context() {
  memory_.set_phase(EngineMemory::Phase::making);
  memory_.expect_output(output_row(vocabulary_), output_rows(options_.run));
  const shim::OwnerScope owner(owns_buffers() ? &memory_ : nullptr);
  std::string log;
  auto context = shim::make_context(*model_, context_options(), &log);
  if (!context) {
    Status refusal = memory_.take_refusal();
    return refusal.ok() ? context.status() : refusal;
  }
  context_ = std::move(*context);
  if (!owns_buffers() && !shim::reports_memory()) return charge_compute_by_log(log);
  return memory_.settle();
}

Status EngineImpl::check_rows(std::span<const Row> rows) const {
  const std::uint32_t most = shim::batch_tokens(*context_);
  if (rows.empty() || rows.size() > most)
    return bad_option("the number of rows", rows.size(), "1 to " + std::to_string(most));
  std::int32_t previous = next_position_ - 1;
  std::size_t outputs = 0;
  for (const Row& row : rows) {
    // llama.cpp wants the first row right after what it holds, and no gap after that.
    const bool follows = row.position == previous + 1;
    const bool beside = row.position == previous && row.position >= next_position_;
    if (!follows && !beside)
      return Status(Code::invalid_argument,
                    "a row is at position " + std::to_string(row.position) + "; allowed: " +
                        (previous >= next_position_ ? std::to_string(previous) + " or " : "") +
                        std::to_string(previous + 1));
    if (row.token < 0 || static_cast<std::uint32_t>(row.token) >= vocabulary_)
      return Status(Code::invalid_argument, "a row has token " + std::to_string(row.token) +
                                                "; allowed: 0 to " +
                                                std::to_string(vocabulary_ - 1));
    previous = row.position;
    outputs += row.wants_logits ? 1 : 0;
  }
  if (outputs > output_rows(options_.run))
    return bad_option("the number of rows that want logits", outputs,
                      "at most parallel_tokens = " + std::to_string(output_rows(options_.run)));
  return {};
}

Status EngineImpl::decode(std::span<const Row> rows) {
  if (Status status = check_rows(rows); !status.ok()) return status;
  if (rows.size() > context_tokens() - cells_)
    return Status(Code::memory_refused, "the context is full: " + std::to_string(cells_) + " of " +
                                            std::to_string(context_tokens()) + " cells are used, " +
                                            std::to_string(rows.size()) + " more are needed");
  if (owns_buffers()) {
    if (Status status = memory_.set_cells(cells_ + rows.size()); !status.ok())
      return status.with_context("KV for " + std::to_string(rows.size()) + " more tokens after " +
                                 std::to_string(cells_));
  }
  std::string words;
  shim::Outcome outcome = shim::Outcome::failed;
  {
    const shim::OwnerScope owner(owns_buffers() ? &memory_ : nullptr);
    outcome = shim::decode(*context_, rows, words);
  }
  if (outcome != shim::Outcome::done) return failed(outcome, words);

  cells_ += static_cast<std::uint32_t>(rows.size());
  next_position_ = rows.back().position + 1;
  wanted_.clear();
  for (std::size_t i = 0; i < rows.size(); ++i)
    if (rows[i].wants_logits) wanted_.push_back(static_cast<std::int32_t>(i));
  FOREBAY_DCHECK(shim::last_position(*context_) == next_position_ - 1,
                 "llama.cpp holds what was decoded");
  return {};
}

// llama.cpp has dropped the batch; so does our ledger.
Status EngineImpl::failed(shim::Outcome outcome, const std::string& words) {
  wanted_.clear();
  if (owns_buffers()) FOREBAY_CHECK(memory_.set_cells(cells_).ok(), "KV shrinks");
  if (Status refusal = memory_.take_refusal(); !refusal.ok()) return refusal;
  switch (outcome) {
    case shim::Outcome::no_room:
      return Status(Code::memory_refused, "the context is full: llama.cpp found no room after " +
                                              std::to_string(cells_) + " of " +
                                              std::to_string(context_tokens()) + " cells");
    case shim::Outcome::stopped:
      return Status(Code::interrupted, "decoding was stopped");
    case shim::Outcome::bad_batch:
      return Status(Code::invalid_argument, "llama.cpp does not take this batch: " + words);
    case shim::Outcome::done:
    case shim::Outcome::failed:
      break;
  }
  return Status(Code::io_error, "llama.cpp failed to decode: " + words);
}

std::span<const float> EngineImpl::logits(std::uint32_t i) const {
  if (i >= wanted_.size()) return {};
  const float* values = shim::logits_of_row(*context_, wanted_[i]);
  if (values == nullptr) return {};
  return {values, vocabulary_};
}

}  // namespace

Result<std::unique_ptr<Engine>> Engine::load(const EngineOptions& options,
                                             const EngineBudgets& budgets) {
  if (Status status = check_options(options); !status.ok()) return status;
  auto shape = read_gguf_shape(options.model);
  if (!shape) return shape.status();
  auto engine = std::make_unique<EngineImpl>(options, budgets, *shape);
  if (Status status = engine->open(*shape); !status.ok()) return status;
  return std::unique_ptr<Engine>(std::move(engine));
}

namespace {

class ProbeImpl final : public Probe {
 public:
  explicit ProbeImpl(shim::Model model) : model_(std::move(model)) {}
  ~ProbeImpl() override {
    model_.reset();
    give_heap_back();
  }

  Result<std::vector<Token>> tokenize(std::string_view text) const override {
    return shim::tokenize(*model_, text);
  }
  Result<std::string> apply_chat_template(std::string_view message) const override {
    return shim::apply_chat_template(*model_, message);
  }
  Result<ComputeNeed> measure(const RunShape& run, bool flash_attention) const override {
    EngineOptions options;
    options.run = run;
    if (Status status = check_options(options); !status.ok()) return status;
    auto need = shim::dry_run(
        *model_, {.run = run, .threads = 1, .flash_attention = flash_attention, .should_stop = {}});
    if (!need) return need.status();
    return ComputeNeed{.compute = whole_pages(need->compute),
                       .output = whole_pages(output_row(need->vocabulary) * output_rows(run))};
  }

 private:
  shim::Model model_;
};

}  // namespace

Result<std::unique_ptr<Probe>> Probe::open(const std::filesystem::path& model) {
  if (auto shape = read_gguf_shape(model); !shape) return shape.status();
  auto opened = shim::open_without_weights(model);
  if (!opened) return opened.status();
  return std::unique_ptr<Probe>(std::make_unique<ProbeImpl>(std::move(*opened)));
}

std::string version() { return shim::version(); }

void set_log_sink(std::function<void(std::string_view line)> sink) {
  shim::set_log_sink(std::move(sink));
}

}  // namespace forebay::llama
