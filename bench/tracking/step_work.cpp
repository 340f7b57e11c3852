#include "tracking/step_work.hpp"

#include <algorithm>
#include <cstring>

#include "forebay/tracker.hpp"
#include "pool/contenders.hpp"
#include "pool/trace.hpp"

namespace forebay::bench {
namespace {

void play(Pool& pool, const std::vector<Op>& work, std::vector<Buffer>& slots, Tensors tensors) {
  for (const Op op : work) {
    Buffer& slot = slots[op.slot()];
    if (op.gives()) {
      slot.reset();
      continue;
    }
    slot = pool.acquire(Bytes{op.bytes}).value();
    if (tensors == Tensors::written) std::memset(slot.data(), 1, op.bytes);
  }
}

}  // namespace

Figures step_work(Tensors tensors, std::uint64_t steps) {
  constexpr std::uint64_t kStepsOfTrace = 20;
  const auto length = static_cast<std::uint32_t>(std::min(steps, kStepsOfTrace));
  const Trace trace = transformer_steps(length);
  const Ours ours;
  const TagScope tag{"decoder"};
  std::vector<Buffer> slots(trace.slots);
  play(*ours.pool, trace.setup, slots, Tensors::untouched);
  play(*ours.pool, trace.body, slots, tensors);  // warms up
  const std::uint64_t repeats = std::max<std::uint64_t>(1, steps / length);
  const double start = process_cpu_ns();
  for (std::uint64_t i = 0; i != repeats; ++i) play(*ours.pool, trace.body, slots, tensors);
  const double took = process_cpu_ns() - start;
  return {{"cpu_ns", took / (trace.operations() * static_cast<double>(repeats))},
          {"peak_bytes", peak_bytes()}};
}

}  // namespace forebay::bench
