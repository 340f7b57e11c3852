// What a language model needs, before it is loaded: the header of a GGUF file, the bytes
// of its KV cache, and a plan of what fits under a line.
//
// Nothing here needs an LLM library. The formulas for weights and KV are exact; compute
// and overhead are estimates unless a caller that has an engine measures them
// (PlanRequest::compute), and the plan says which.
//
// Thread safety: values and pure functions.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "forebay/bytes.hpp"
#include "forebay/status.hpp"

#pragma GCC visibility push(default)
namespace forebay {

// Storage of one K or V element.
enum class KvType { f16, bf16, q8_0, q4_0 };
std::string_view to_string(KvType type) noexcept;
Result<KvType> parse_kv_type(std::string_view text);

// The numbers of a transformer that decide its memory.
struct ModelShape {
  std::string name;          // for reports
  std::string architecture;  // "llama", ...
  std::uint32_t layers = 0;
  std::uint32_t heads = 0;     // query heads
  std::uint32_t kv_heads = 0;  // key/value heads (the largest of all layers)
  std::uint32_t head_dim_k = 0;
  std::uint32_t head_dim_v = 0;
  std::uint32_t embedding = 0;  // hidden size
  std::uint32_t feed_forward = 0;
  std::uint32_t vocabulary = 0;       // tokens
  std::uint32_t context_trained = 0;  // tokens; 0 = unknown
  Bytes weights;                      // sum of all tensors' bytes, as stored
};

// Reads the header of a GGUF file (versions 2 and 3): metadata and tensor table, no
// weights. The file is treated as hostile: counts, lengths, depth and offsets are checked
// against the file's size before anything is allocated.
// Errors: not_found, io_error; corrupt_data and unsupported name the file, the key or
// tensor, the value and what is allowed.
Result<ModelShape> read_gguf_shape(const std::filesystem::path& file);
// The same from bytes in memory (`file_size` is the whole file's; `header` may be a
// prefix of it). `source` is the name used in errors.
Result<ModelShape> parse_gguf_shape(std::string_view header, std::uint64_t file_size,
                                    const std::string& source);

// Bytes that one token takes in the KV cache of one layer, and of all layers.
Bytes kv_bytes_per_token_per_layer(const ModelShape& shape, KvType k, KvType v) noexcept;
Bytes kv_bytes_per_token(const ModelShape& shape, KvType k, KvType v) noexcept;

// One way to run a model.
struct RunShape {
  std::uint32_t context_tokens = 0;   // KV cells there can be
  std::uint32_t kv_tokens = 0;        // of them, filled at most; 0: all. KV follows these
  std::uint32_t batch_tokens = 128;   // tokens decoded at once when reading the prompt
  std::uint32_t parallel_tokens = 1;  // rows decoded at once when generating
  KvType kv_k = KvType::f16;
  KvType kv_v = KvType::f16;
};

// KV is committed in steps of this many cells: a step costs microseconds, and a longer one
// would charge for cells that hold nothing.
inline constexpr std::uint32_t kKvStep = 32;

// The cells of a run that hold something at its end.
constexpr std::uint32_t filled_cells(const RunShape& run) noexcept {
  return run.kv_tokens == 0 || run.kv_tokens > run.context_tokens ? run.context_tokens
                                                                  : run.kv_tokens;
}

// Bytes that a run needs, by owner.
struct MemoryNeed {
  Bytes weights;
  Bytes kv;
  Bytes compute;          // intermediate results of one batch
  Bytes output;           // logits
  Bytes other;            // the process itself: code, tokenizer, graphs, heap
  bool measured = false;  // compute and output come from an engine's dry run
  Bytes total() const noexcept { return weights + kv + compute + output + other; }
};

// Measures compute and output bytes of a run; replaces the estimate.
struct ComputeNeed {
  Bytes compute;
  Bytes output;
};
using ComputeMeter = std::function<Result<ComputeNeed>(const RunShape&)>;

struct PlanRequest {
  ModelShape shape;
  Bytes line;                             // all of it must fit below this
  RunShape run;                           // batch and types; context 0 = as large as fits
  std::optional<std::uint32_t> parallel;  // empty = as many as fit, up to max_parallel
  std::uint32_t max_parallel = 50;        // TEMPO's own cap
  std::uint32_t max_context = 0;          // 0 = what the model was trained for
  Bytes process;                          // resident bytes of the process before it loads
  ComputeMeter compute;                   // empty = estimate
};

// The same run with one thing changed, and what that would need.
struct PlanAlternative {
  std::string change;  // a flag: "--kv-type q8_0"
  MemoryNeed need;
  std::uint32_t context_tokens = 0;
  bool fits = false;
};

struct TokenPlan {
  bool fits = false;
  RunShape run;  // what was planned; the smallest run if !fits
  MemoryNeed need;
  Bytes line;
  Bytes kv_per_token;
  std::uint32_t max_context_tokens = 0;   // largest context that fits with run.parallel_tokens
  std::uint32_t max_parallel_tokens = 0;  // largest parallel set that fits with the context
  Bytes smallest_line;                    // the least line under which the smallest run fits
  std::vector<PlanAlternative> alternatives;
  std::vector<std::string> notes;  // choices a user should know of
};

// The most tokens that can each have a probability of at least `threshold`: what a parallel
// set chosen by it can hold. REQUIRES: 0 < threshold <= 1.
std::uint32_t most_selectable(double threshold) noexcept;

// Contexts are multiples of this many tokens, as the engine pads them.
inline constexpr std::uint32_t kContextGranule = 256;

// Plans a run under a line. Errors: invalid_argument (a shape with zeros, overflow), or
// what the compute meter says.
Result<TokenPlan> plan_tokens(const PlanRequest& request);

// The refusal of a plan that does not fit: memory_refused with holders and advice.
Status refusal_of(const TokenPlan& plan);

}  // namespace forebay
#pragma GCC visibility pop
