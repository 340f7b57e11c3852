#include "pool/trace.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "pool/replay.hpp"

namespace forebay::bench {
namespace {

using Random = std::mt19937_64;
constexpr std::uint32_t kLargestTensor = 16U << 20;
// Has no divisor in common with the count of tensor sizes: all take their turn.
constexpr std::size_t kStride = 7;

// Writes a trace down, one operation at a time.
class Writer {
 public:
  enum class Part { setup, body };

  std::uint32_t take(std::uint32_t bytes) {
    std::uint32_t slot = trace_.slots;
    if (free_.empty()) {
      ++trace_.slots;
      sizes_.push_back(bytes);
    } else {
      slot = free_.back();
      free_.pop_back();
      sizes_[slot] = bytes;
    }
    add({slot, bytes});
    live_bytes_ += bytes;
    trace_.peak_bytes = std::max(trace_.peak_bytes, live_bytes_);
    trace_.peak_blocks = std::max<std::uint64_t>(trace_.peak_blocks, ++live_blocks_);
    return slot;
  }
  void give(std::uint32_t slot) {
    add({slot | Op::kGive, sizes_[slot]});
    live_bytes_ -= sizes_[slot];
    --live_blocks_;
    free_.push_back(slot);
    sizes_[slot] = 0;
  }
  std::uint64_t live_bytes() const { return live_bytes_; }
  void start(Part part) { part_ = part; }

  // What still lives goes in the teardown.
  Trace finish() {
    for (std::uint32_t slot = 0; slot < trace_.slots; ++slot) {
      if (sizes_[slot] > 0) trace_.teardown.push_back({slot | Op::kGive, sizes_[slot]});
    }
    return std::move(trace_);
  }

 private:
  void add(Op op) { (part_ == Part::setup ? trace_.setup : trace_.body).push_back(op); }

  Trace trace_;
  Part part_ = Part::body;
  std::vector<std::uint32_t> sizes_;  // of live blocks, else 0
  std::vector<std::uint32_t> free_;
  std::uint64_t live_bytes_ = 0;
  std::uint64_t live_blocks_ = 0;
};

// Takes one of `items` out, at random; the last one takes its place.
std::uint32_t remove_one(std::vector<std::uint32_t>& items, Random& random) {
  const std::size_t at = random() % items.size();
  std::swap(items[at], items.back());
  const std::uint32_t item = items.back();
  items.pop_back();
  return item;
}

class LogUniform {
 public:
  LogUniform(std::uint32_t least, std::uint32_t most)
      : exponent_(std::log(static_cast<double>(least)), std::log(static_cast<double>(most))) {}
  std::uint32_t operator()(Random& random) {
    return static_cast<std::uint32_t>(std::exp(exponent_(random)));
  }

 private:
  std::uniform_real_distribution<double> exponent_;
};

}  // namespace

Trace random_allocations(std::uint32_t n, std::uint32_t most_bytes, std::uint64_t cap) {
  constexpr int kAllocateIn100 = 73;
  Random random{1};
  std::uniform_int_distribution<std::uint32_t> sizes{1, most_bytes};
  std::uniform_int_distribution<int> chance{0, 99};
  Writer writer;
  std::vector<std::uint32_t> live;
  std::uint32_t allocated = 0;
  for (std::uint64_t i = 0; i < 2ULL * n; ++i) {
    const std::uint32_t bytes = sizes(random);
    const bool takes = live.empty() || (chance(random) < kAllocateIn100 && allocated < n &&
                                        writer.live_bytes() + bytes < cap);
    if (takes) {
      live.push_back(writer.take(bytes));
      ++allocated;
    } else {
      writer.give(remove_one(live, random));
    }
  }
  return writer.finish();
}

// A slot keeps its size, so that the body can be repeated. One slot more than are live stands
// empty: each turn frees another one and fills that, so sizes still come in random order. At
// the end the first empty one is made empty again.
Trace random_replacement(std::uint32_t live, std::uint32_t most_bytes, std::uint32_t turns) {
  Random random{2};
  std::uniform_int_distribution<std::uint32_t> sizes{1, most_bytes};
  Trace trace;
  trace.slots = live + 1;
  trace.peak_blocks = live;
  std::vector<std::uint32_t> bytes(trace.slots);
  for (auto& size : bytes) size = sizes(random);
  std::uint64_t now = 0;
  for (std::uint32_t slot = 0; slot < live; ++slot) {
    trace.setup.push_back({slot, bytes[slot]});
    trace.teardown.push_back({slot | Op::kGive, bytes[slot]});
    now += bytes[slot];
  }
  trace.peak_bytes = now;
  std::uint32_t empty = live;
  const auto turn = [&](std::uint32_t slot) {
    trace.body.push_back({slot | Op::kGive, bytes[slot]});
    trace.body.push_back({empty, bytes[empty]});
    now = now - bytes[slot] + bytes[empty];
    trace.peak_bytes = std::max(trace.peak_bytes, now);
    empty = slot;
  };
  for (std::uint32_t i = 0; i < turns; ++i) {
    const auto slot = static_cast<std::uint32_t>(random() % trace.slots);
    if (slot != empty) turn(slot);
  }
  if (empty != live) turn(live);
  return trace;
}

std::vector<std::uint32_t> tensor_sizes() {
  constexpr int kCount = 24;
  constexpr double kLeast = 512;
  std::vector<std::uint32_t> sizes;
  for (int i = 0; i < kCount; ++i) {
    const double size = kLeast * std::pow(kLargestTensor / kLeast, i / (kCount - 1.0));
    sizes.push_back(static_cast<std::uint32_t>(std::lround(size / 64) * 64));
  }
  return sizes;
}

Trace transformer_steps(std::uint32_t steps) {
  constexpr std::uint32_t kLongLived = 1024;
  constexpr std::uint32_t kLayers = 40;
  constexpr std::uint32_t kTensors = 5;
  const auto sizes = tensor_sizes();
  Random random{3};
  Writer writer;
  writer.start(Writer::Part::setup);
  for (std::uint32_t i = 0; i < kLongLived; ++i) writer.take(sizes[random() % sizes.size()]);
  writer.start(Writer::Part::body);
  for (std::uint32_t step = 0; step < steps; ++step) {
    std::vector<std::uint32_t> kept;
    for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
      std::vector<std::uint32_t> passing;
      for (std::uint32_t tensor = 0; tensor < kTensors; ++tensor) {
        const auto slot = writer.take(sizes[(layer * kTensors + tensor) * kStride % sizes.size()]);
        (tensor % 2 == 1 ? passing : kept).push_back(slot);
      }
      for (const auto slot : passing) writer.give(slot);
    }
    for (; !kept.empty(); kept.pop_back()) writer.give(kept.back());
  }
  return writer.finish();
}

Trace growing_batches(std::uint32_t most) {
  constexpr std::uint32_t kLayers = 40;
  constexpr std::uint32_t kBytesPerSample = 215'000;
  Random random{4};
  std::uniform_int_distribution<std::uint32_t> survivors{512, 8192};
  Writer writer;
  for (std::uint32_t batch = 4; batch <= most; ++batch) {
    std::vector<std::uint32_t> activations;
    for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
      activations.push_back(writer.take(batch * kBytesPerSample));
      writer.take(survivors(random));
    }
    for (; !activations.empty(); activations.pop_back()) writer.give(activations.back());
  }
  return writer.finish();
}

Trace log_uniform_replacement(std::uint64_t limit, std::uint32_t turns) {
  Random random{5};
  LogUniform sizes{256, 64U << 20};
  Writer writer;
  std::vector<std::uint32_t> live;
  std::uint32_t done = 0;
  while (done < turns) {
    const std::uint32_t bytes = sizes(random);
    while (writer.live_bytes() + bytes > limit) {
      writer.give(remove_one(live, random));
      ++done;
    }
    live.push_back(writer.take(bytes));
  }
  return writer.finish();
}

Trace sequential_tensors(std::uint32_t acquires) {
  constexpr std::uint32_t kUses = 10;
  const auto sizes = tensor_sizes();
  Writer writer;
  for (std::uint32_t i = 0; i < acquires; ++i) {
    writer.give(writer.take(sizes[i / kUses % sizes.size()]));
  }
  return writer.finish();
}

Trace interleaved_tensors(std::uint32_t acquires, std::uint32_t live) {
  const auto sizes = tensor_sizes();
  Writer writer;
  std::vector<std::uint32_t> ring;
  for (std::uint32_t i = 0; i < acquires; ++i) {
    const std::uint32_t bytes = sizes[i * kStride % sizes.size()];
    if (ring.size() < live) {
      ring.push_back(writer.take(bytes));
      continue;
    }
    writer.give(ring[i % live]);
    ring[i % live] = writer.take(bytes);
  }
  return writer.finish();
}

Trace random_tensors(std::uint32_t acquires, std::uint32_t live) {
  Random random{6};
  LogUniform sizes{256, kLargestTensor};
  Writer writer;
  std::vector<std::uint32_t> slots;
  for (std::uint32_t i = 0; i < acquires; ++i) {
    if (slots.size() >= live) writer.give(remove_one(slots, random));
    slots.push_back(writer.take(sizes(random)));
  }
  return writer.finish();
}

bool Watch::took(void* block, std::uint32_t bytes, std::uint32_t mark) {
  const auto at = reinterpret_cast<std::uintptr_t>(block);
  const auto after = live_.lower_bound(at);
  bool fine = after == live_.end() || at + bytes <= after->first;
  if (after != live_.begin()) {
    const auto before = std::prev(after);
    fine = fine && before->first + before->second <= at;
  }
  live_[at] = bytes;
  auto* const content = static_cast<std::byte*>(block);
  const std::size_t width = std::min<std::size_t>(bytes, sizeof mark);
  std::memcpy(content, &mark, width);
  std::memcpy(content + bytes - width, &mark, width);
  return fine;
}

bool Watch::gives(void* block, std::uint32_t bytes, std::uint32_t mark) {
  const std::size_t width = std::min<std::size_t>(bytes, sizeof mark);
  const auto* const content = static_cast<std::byte*>(block);
  live_.erase(reinterpret_cast<std::uintptr_t>(block));
  // Where both marks overlap, the second one has written over the first.
  return std::memcmp(content + bytes - width, &mark, width) == 0 &&
         (bytes < 2 * width || std::memcmp(content, &mark, width) == 0);
}

}  // namespace forebay::bench
