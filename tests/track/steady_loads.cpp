// Five loads of services that run for weeks and lose nothing.
#include <cmath>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

#include "track/leak_stage.hpp"

namespace forebay::testing {
namespace steady {

using namespace literals;

// Sessions follow the hours of the day; each has an owner, and KV blocks for some minutes.
void inference(LeakStage& stage) {
  const double wave = std::sin(2 * std::numbers::pi * stage.minute() / 1440 - 1.2);
  for (auto n = stage.poisson(8 * (1 + 0.8 * wave)); n > 0; --n) {
    const TagScope tag{"kv"};
    const OwnerScope owner{"session-" + std::to_string(n % 50)};
    const double life = 2 + 8 * stage.uniform();
    for (int block = 0; block < 4; ++block) stage.take_for(life, 64_KiB);
  }
  const TagScope tag{"logits"};
  for (auto n = stage.poisson(20); n > 0; --n) stage.take_for(1, 128_KiB);
}

// Epochs of 45 minutes keep their samples; a checkpoint every 30; activations of each step.
void training(LeakStage& stage) {
  {
    const TagScope tag{"epoch"};
    const int left = 45 - stage.minute() % 45;
    for (auto n = stage.poisson(6); n > 0; --n) stage.take_for(left, 256_KiB);
  }
  if (stage.minute() % 30 == 0) {
    const TagScope tag{"checkpoint"};
    for (int n = 0; n < 10; ++n) stage.take_for(2, 4_MiB);
  }
  const TagScope tag{"activations"};
  for (int layer = 0; layer < 12; ++layer) {
    const Tensor hidden = stage.tensors().acquire({32, 512, 16}, DataType::f16).value();
  }
}

// Fills up in the first hour, then changes its content by the hour.
void cache(LeakStage& stage) {
  constexpr std::size_t kMost = 400;
  auto& entries = stage.state<std::vector<Buffer>>();
  const TagScope tag{"cache"};
  for (auto n = stage.poisson(8); n > 0; --n) {
    if (entries.size() == kMost) {
      std::swap(entries[stage.random()() % kMost], entries.back());
      entries.pop_back();
    }
    const Bytes size = 1_KiB * (200 + stage.random()() % 100);
    entries.push_back(stage.pool().acquire(size).value());
  }
  stage.serve_others();
}

// Jobs of 20 to 60 minutes now and then, two at a time.
void batch_jobs(LeakStage& stage) {
  if (stage.uniform() < 1 / 30.0) {
    const TagScope tag{"batch"};
    const OwnerScope owner{"job-" + std::to_string(stage.minute())};
    const double life = 20 + 40 * stage.uniform();
    for (int n = 0; n < 40; ++n) stage.take_for(life, 512_KiB);
  }
  stage.serve_others();
}

// Objects that live until the next collection, the one after, or some more.
void collected_heap(LeakStage& stage) {
  const TagScope tag{"heap"};
  const int collection = 11 - stage.minute() % 11;
  for (auto n = stage.poisson(30); n > 0; --n) {
    const auto generations = static_cast<int>(stage.poisson(0.4));
    stage.take_for(collection + 11 * generations, 1_KiB * (4 + stage.random()() % 120));
  }
  stage.serve_others();
}

}  // namespace steady

const std::vector<SteadyKind>& steady_kinds() {
  static const std::vector<SteadyKind> kinds{{"inference", steady::inference},
                                             {"training", steady::training},
                                             {"cache", steady::cache},
                                             {"batch_jobs", steady::batch_jobs},
                                             {"collected_heap", steady::collected_heap}};
  return kinds;
}

}  // namespace forebay::testing
