// What a run of a model needs, by owner: exact for weights and KV, estimated for the rest.
#pragma once

#include <optional>

#include "forebay/model.hpp"

namespace forebay::detail {

// Rows of intermediate results that a run computes at once: a batch never holds more than
// the context does, nor less than the parallel set.
std::uint32_t rows_at_once(const RunShape& run) noexcept;

// Compute buffer and logits, for llama.cpp's llama graph on a CPU with flash attention.
// REQUIRES: a shape and a run that check_request let pass.
ComputeNeed estimate_compute(const ModelShape& shape, const RunShape& run) noexcept;

// What llama.cpp takes from the heap beside its buffers, and the code it touches.
// REQUIRES: as above.
Bytes estimate_overhead(const ModelShape& shape, const RunShape& run) noexcept;

// KV of a run with the pages that its layers leave half used. Empty on overflow.
std::optional<Bytes> kv_need(const ModelShape& shape, const RunShape& run) noexcept;

// Refuses shapes and runs with zeros, and numbers so large that the formulas would
// overflow: invalid_argument naming the field, its value and what is allowed.
Status check_request(const PlanRequest& request);

}  // namespace forebay::detail
