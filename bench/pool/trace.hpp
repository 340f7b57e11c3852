// Work made beforehand: which slot takes or gives back how many bytes, in which order. Every
// contender replays the same, and making it costs nobody anything.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace forebay::bench {

struct Op {
  static constexpr std::uint32_t kGive = 1U << 31;
  std::uint32_t slot_and_kind;
  std::uint32_t bytes;

  bool gives() const { return (slot_and_kind & kGive) != 0; }
  std::uint32_t slot() const { return slot_and_kind & ~kGive; }
};

// The body starts and ends with the same blocks in the same slots, so that it can be repeated.
struct Trace {
  std::vector<Op> setup;
  std::vector<Op> body;
  std::vector<Op> teardown;
  std::uint32_t slots = 0;
  std::uint64_t peak_bytes = 0;  // asked for and live at once
  std::uint64_t peak_blocks = 0;

  double operations() const { return static_cast<double>(body.size()); }
};

// RMM's random_allocations benchmark: of 2 n operations 73 in 100 allocate (uniform up to
// `most_bytes`) while n were not reached and less than `cap` is live; the rest free one at
// random.
Trace random_allocations(std::uint32_t n, std::uint32_t most_bytes, std::uint64_t cap);
// `live` blocks, uniform up to `most_bytes`; `turns` times one at random goes and another
// comes.
Trace random_replacement(std::uint32_t live, std::uint32_t most_bytes, std::uint32_t turns);
// 24 sizes, 512 B to 16 MiB.
std::vector<std::uint32_t> tensor_sizes();
// A transformer's training step, `steps` times, beside 1024 long-lived blocks: 40 layers take
// five tensors each; two are given back at the layer's end, three on the way back. 200 of
// each a step.
Trace transformer_steps(std::uint32_t steps);
// Activations of 40 layers for batches of 4, 5, ... `most`, given back after each batch; each
// layer leaves a small block behind each time ("N + 1" of PyTorch's notes on fragmentation).
// At 64 about 540 MiB are live.
Trace growing_batches(std::uint32_t most);
// Log-uniform 256 B - 64 MiB: fills `limit`, then `turns` times frees blocks at random until
// the next one fits. Not repeatable.
Trace log_uniform_replacement(std::uint64_t limit, std::uint32_t turns);
// `acquires` of the tensor sizes in turn: with ten uses each and one live at a time; and with
// `live` of them live, in order of arrival. Not repeatable.
Trace sequential_tensors(std::uint32_t acquires);
Trace interleaved_tensors(std::uint32_t acquires, std::uint32_t live);
// The same with log-uniform sizes up to 16 MiB, `live` of them live, a random one goes.
Trace random_tensors(std::uint32_t acquires, std::uint32_t live);

}  // namespace forebay::bench
