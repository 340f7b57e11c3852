// A transformer's training step (pool/trace.hpp), as often as asked.
#pragma once

#include <cstdint>

#include "tracking/figures.hpp"

namespace forebay::bench {

enum class Tensors {
  untouched,  // nothing but acquires and drops
  written     // each tensor is written once: the least that a step does with one
};

// cpu_ns of the process an operation, peak_bytes in memory.
Figures step_work(Tensors tensors, std::uint64_t steps);

}  // namespace forebay::bench
