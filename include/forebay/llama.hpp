// Component forebay::llama: llama.cpp as an engine whose memory is ours.
//
// KV, compute and output buffers come from address ranges that Forebay reserves and
// charges to budgets; weights are charged whether they are mapped or copied. KV is
// committed as tokens arrive: a decode that would not fit is refused before it starts.
// Where this llama.cpp does not let its buffers be owned (owns_buffers() is false), sizes
// are charged exactly as it reports them, before it allocates.
//
// Thread safety: an Engine belongs to one thread at a time. The buffer hook is process-
// wide and thread-safe.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "forebay/budget.hpp"
#include "forebay/model.hpp"
#include "forebay/status.hpp"

#pragma GCC visibility push(default)
namespace forebay::llama {

using Token = std::int32_t;

// Who pays for what. All must outlive the engine.
struct EngineBudgets {
  Budget& weights;
  Budget& kv;
  Budget& compute;
  Budget& output;
};

struct EngineOptions {
  std::filesystem::path model;
  RunShape run;  // context, batch, parallel tokens, KV types
  int threads = 1;
  bool flash_attention = true;  // off: V is stored transposed, and KV is committed whole
  // Told the share of the weights loaded (0..1); false stops, and load says interrupted.
  std::function<bool(float)> on_progress;
  // Asked often while a batch is decoded, on the decoding thread; true stops the batch, and
  // decode says interrupted. It must be quick. Empty: never.
  std::function<bool()> should_stop;
  // Off: let llama.cpp allocate for itself and charge what it reports, as if its buffers could
  // not be owned.
  bool own_buffers = true;
};

// A row of a decode: one token at one position. Rows at one position form a parallel set
// and see each other.
struct Row {
  Token token = 0;
  std::int32_t position = 0;
  bool wants_logits = false;
};

class Engine {
 public:
  // Loads a model and makes a context. Charges weights, compute and output whole, KV as it
  // grows. Errors: not_found, corrupt_data, memory_refused (budget), unsupported,
  // interrupted. Nothing stays charged after an error.
  static Result<std::unique_ptr<Engine>> load(const EngineOptions& options,
                                              const EngineBudgets& budgets);
  virtual ~Engine() = default;

  // Text to tokens, special tokens parsed, BOS added if the model wants it.
  virtual Result<std::vector<Token>> tokenize(std::string_view text) const = 0;
  virtual std::string piece(Token token) const = 0;  // bytes, maybe not whole UTF-8
  virtual bool ends_generation(Token token) const = 0;
  virtual std::uint32_t vocabulary() const noexcept = 0;
  // The prompt wrapped in the model's chat template. Error: unsupported if it has none.
  virtual Result<std::string> apply_chat_template(std::string_view user_message) const = 0;

  // Decodes rows (at most run.batch_tokens). KV for them is reserved first; a refusal
  // leaves the engine as it was. Errors: memory_refused (the KV budget or the context is
  // full), invalid_argument (too many rows or outputs), interrupted.
  virtual Status decode(std::span<const Row> rows) = 0;
  // Logits of the i-th row of the last decode that wanted them; vocabulary() floats,
  // valid until the next decode.
  virtual std::span<const float> logits(std::uint32_t i) const = 0;

  virtual std::uint32_t cells_used() const noexcept = 0;  // KV cells taken
  virtual std::uint32_t context_tokens() const noexcept = 0;
  virtual Bytes kv_committed() const noexcept = 0;
  virtual bool owns_buffers() const noexcept = 0;
  // In words, why not; empty if owns_buffers().
  virtual std::string_view ownership_note() const noexcept = 0;
};

// A model opened for its vocabulary and its numbers only: nothing of the weights is read.
// It takes some tens of MiB of heap for a large vocabulary while it lives.
class Probe {
 public:
  // Errors: not_found, corrupt_data, unsupported.
  static Result<std::unique_ptr<Probe>> open(const std::filesystem::path& model);
  virtual ~Probe() = default;

  // As Engine's.
  virtual Result<std::vector<Token>> tokenize(std::string_view text) const = 0;
  virtual Result<std::string> apply_chat_template(std::string_view user_message) const = 0;
  // Compute and output bytes of a run, by llama.cpp's own dry run. Milliseconds.
  // Error: unsupported if this llama.cpp cannot tell; memory_refused if it cannot at all.
  virtual Result<ComputeNeed> measure(const RunShape& run, bool flash_attention = true) const = 0;
};

// "llama.cpp 0.5.0-dev, ggml 0.25.3".
std::string version();
// Sends llama.cpp's log lines to `sink` (nullptr: drop them). Process-wide.
void set_log_sink(std::function<void(std::string_view line)> sink);

}  // namespace forebay::llama
#pragma GCC visibility pop
