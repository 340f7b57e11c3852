#include "kv/need.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace forebay {
namespace {

constexpr std::uint64_t kPage = 4096;
// What estimate_overhead is made of; measured, see there.
constexpr std::uint64_t kOverhead = 5ULL << 20;
constexpr std::uint64_t kOverheadPerLayer = 76ULL << 10;
constexpr std::uint64_t kOverheadPerToken = 330;

// Elements stored together, and their bytes.
struct KvBlock {
  std::uint32_t elements;
  std::uint32_t bytes;
};

constexpr KvBlock block_of(KvType type) noexcept {
  switch (type) {
    case KvType::f16:
    case KvType::bf16:
      return {1, 2};
    case KvType::q8_0:
      return {32, 34};
    case KvType::q4_0:
      return {32, 18};
  }
  return {1, 2};
}

constexpr bool quantized(KvType type) noexcept { return block_of(type).elements > 1; }

// Bytes of a row of heads x dim elements; a last block that is not full is stored whole.
std::optional<Bytes> row_bytes(std::uint64_t heads, std::uint64_t dim, KvType type) noexcept {
  const KvBlock block = block_of(type);
  const std::uint64_t elements = heads * dim;  // both 32 bits
  const std::uint64_t blocks = elements / block.elements + (elements % block.elements != 0 ? 1 : 0);
  return checked_mul(Bytes{blocks}, block.bytes);
}

std::optional<Bytes> layer_bytes(const ModelShape& shape, KvType k, KvType v) noexcept {
  const auto k_row = row_bytes(shape.kv_heads, shape.head_dim_k, k);
  const auto v_row = row_bytes(shape.kv_heads, shape.head_dim_v, v);
  return k_row && v_row ? checked_add(*k_row, *v_row) : std::nullopt;
}

std::optional<Bytes> token_bytes(const ModelShape& shape, KvType k, KvType v) noexcept {
  const auto layer = layer_bytes(shape, k, v);
  return layer ? checked_mul(*layer, shape.layers) : std::nullopt;
}

}  // namespace

std::string_view to_string(KvType type) noexcept {
  switch (type) {
    case KvType::f16:
      return "f16";
    case KvType::bf16:
      return "bf16";
    case KvType::q8_0:
      return "q8_0";
    case KvType::q4_0:
      return "q4_0";
  }
  return "unknown";
}

Result<KvType> parse_kv_type(std::string_view text) {
  for (const KvType type : {KvType::f16, KvType::bf16, KvType::q8_0, KvType::q4_0}) {
    if (text == to_string(type)) return type;
  }
  return Status{Code::invalid_argument,
                fmt::format("'{}' is not a KV type; allowed: f16, bf16, q8_0, q4_0", text)};
}

Bytes kv_bytes_per_token_per_layer(const ModelShape& shape, KvType k, KvType v) noexcept {
  return layer_bytes(shape, k, v).value_or(Bytes::unlimited());
}

Bytes kv_bytes_per_token(const ModelShape& shape, KvType k, KvType v) noexcept {
  return token_bytes(shape, k, v).value_or(Bytes::unlimited());
}

namespace detail {

std::uint32_t rows_at_once(const RunShape& run) noexcept {
  return std::min(std::max(run.batch_tokens, run.parallel_tokens), run.context_tokens);
}

// Derived from the dry run of llama.cpp (ggml 0.25.3): 15 llama shapes of 2 to 4 layers, 27
// runs each, f16 and q8_0 KV. Its buffer is the larger of two moments:
//   inside a layer: the attention mask (f16, rows x context), ids and positions (24 B a
//     row), and either three feed-forward vectors or two query vectors, beside four hidden
//     ones;
//   at the end: the logits and three hidden vectors of each row that wants an output,
//     beside the mask and two hidden vectors of every row.
// Quantized KV adds a rotation matrix for K and one of 64 x 64 for V. Over those 810 points
// the estimate is 0.93 to 1.42 of the dry run's figure (median 1.05), and 0.997 to 1.15 of
// the sum of weights, KV, compute and logits (19 of 20 below 1.04). With f16 KV it is exact
// where a layer decides, the model has three layers and feed_forward >= 2 x embedding.
ComputeNeed estimate_compute(const ModelShape& shape, const RunShape& run) noexcept {
  const std::uint64_t rows = rows_at_once(run);
  const std::uint64_t outputs = std::min<std::uint64_t>(run.parallel_tokens, rows);
  const std::uint64_t width = shape.embedding;
  const std::uint64_t query = std::uint64_t{shape.heads} * shape.head_dim_k;
  const std::uint64_t inputs = 24 + std::uint64_t{2} * run.context_tokens;
  const std::uint64_t widest = std::max(std::uint64_t{3} * shape.feed_forward, 2 * query);
  const std::uint64_t layer = rows * (inputs + 4 * (widest + 4 * width));
  const std::uint64_t last =
      4 * outputs * (shape.vocabulary + 3 * width + 1) + rows * (inputs + 8 * width);
  const std::uint64_t rotations =
      quantized(run.kv_k) || quantized(run.kv_v)
          ? 4 * (std::uint64_t{shape.head_dim_k} * shape.head_dim_k + std::uint64_t{64} * 64)
          : 0;
  return {Bytes{std::max(layer, last) + rotations},
          Bytes{std::uint64_t{4} * run.parallel_tokens * shape.vocabulary}};
}

// Measured as resident bytes that are neither weights, KV, compute nor logits after a
// prompt and a few parallel steps, on 11 models of 2 to 100 layers and 320 to 128256
// tokens: a constant for code and heap, the graphs' nodes by layer, the tokenizer's tables
// by token, and the scratch that converts one batch for a matrix product. For byte-pair
// tokenizers the formula lies 2 to 13 % above what was measured; SentencePiece tokenizers
// take half of the 330 bytes.
Bytes estimate_overhead(const ModelShape& shape, const RunShape& run) noexcept {
  const std::uint64_t query = std::uint64_t{shape.heads} * shape.head_dim_k;
  const std::uint64_t scratch =
      2 * std::uint64_t{rows_at_once(run)} * std::max<std::uint64_t>(shape.feed_forward, query);
  return Bytes{kOverhead + kOverheadPerLayer * shape.layers + kOverheadPerToken * shape.vocabulary +
               scratch};
}

std::optional<Bytes> kv_need(const ModelShape& shape, const RunShape& run) noexcept {
  const auto token = token_bytes(shape, run.kv_k, run.kv_v);
  const std::uint64_t steps = (std::uint64_t{filled_cells(run)} + kKvStep - 1) / kKvStep;
  const auto committed = std::min<std::uint64_t>(steps * kKvStep, run.context_tokens);
  const auto cells = token ? checked_mul(*token, committed) : std::nullopt;
  return cells ? checked_add(*cells, Bytes{2 * kPage * shape.layers}) : std::nullopt;
}

Status check_request(const PlanRequest& request) {
  struct Field {
    std::string_view name;
    std::uint64_t value;
    std::uint64_t least;
    std::uint64_t most;
  };
  const ModelShape& s = request.shape;
  const std::array<Field, 13> fields{{{"layers", s.layers, 1, 1 << 16},
                                      {"heads", s.heads, 1, 1 << 16},
                                      {"kv_heads", s.kv_heads, 1, 1 << 16},
                                      {"head_dim_k", s.head_dim_k, 1, 1 << 16},
                                      {"head_dim_v", s.head_dim_v, 1, 1 << 16},
                                      {"embedding", s.embedding, 1, 1 << 24},
                                      {"feed_forward", s.feed_forward, 1, 1 << 26},
                                      {"vocabulary", s.vocabulary, 1, 1 << 28},
                                      {"context_tokens", request.run.context_tokens, 0, 1U << 31},
                                      {"batch_tokens", request.run.batch_tokens, 1, 1 << 20},
                                      {"parallel_tokens", request.parallel.value_or(1), 1, 1 << 20},
                                      {"max_parallel", request.max_parallel, 1, 1 << 20},
                                      {"max_context", request.max_context, 0, 1U << 31}}};
  for (const Field& field : fields) {
    if (field.value >= field.least && field.value <= field.most) continue;
    return {Code::invalid_argument, fmt::format("{} is {}; allowed: {} to {}", field.name,
                                                field.value, field.least, field.most)};
  }
  return {};
}

}  // namespace detail
}  // namespace forebay
