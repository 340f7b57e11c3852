// The examples of docs/tensors.md, word for word.
#include <gtest/gtest.h>

#include <cstring>
#include <list>
#include <vector>

#include "forebay/forebay.hpp"

namespace {

using namespace forebay::literals;
using namespace std::chrono_literals;
using forebay::DataType;

void run_layer(void* data) { std::memset(data, 1, 64); }

TEST(TensorsPage, AStepOverATensorPool) {
  auto pool = forebay::Pool::create(forebay::Device::host(), {.name = "host pool"});
  auto tensors = forebay::TensorPool::create(pool, {.name = "activations"});
  for (int step = 0; step < 100; ++step) {
    auto hidden = tensors->acquire({4, 128, 256}, DataType::f16).value();
    auto scores = tensors->acquire({4, 128}, DataType::f32, forebay::Contents::zeroed).value();
    run_layer(hidden.data());
    scores.as<float>()[0] += 1.0F;
  }
  EXPECT_EQ(tensors->stats().misses, 2U);
  EXPECT_EQ(tensors->stats().hits, 198U);
}

TEST(TensorsPage, TheTeachersBuffers) {
  auto gpu = forebay::SimulatedDevice::create({.name = "a100", .capacity = 40_GiB});
  forebay::Budget teacher{"teacher", {.limit = 7_GiB}};
  auto pool = forebay::Pool::create(teacher.meter(gpu), {.name = "teacher pool"});
  const forebay::TensorDevice a100{forebay::DeviceKind::simulated, 0};
  auto tensors = forebay::TensorPool::create(pool, {.name = "teacher", .device = a100});

  const forebay::TeacherShapes shapes{.batch = 8, .sequence = 2048, .hidden = 4096, .vocab = 32000};
  if (auto ready = tensors->preallocate_teacher(shapes); !ready.ok()) FAIL() << ready.message();
  auto logits = tensors->acquire({8, 2048, 32000}, DataType::f16).value();  // is there already
  EXPECT_EQ(tensors->stats().misses, 0U);

  const auto refused = tensors->preallocate_teacher(
      {.batch = 256, .sequence = 2048, .hidden = 4096, .vocab = 32000});
  EXPECT_EQ(refused.code(), forebay::Code::memory_refused);
  EXPECT_EQ(tensors->stats().idle_tensors, 2U);  // as before
}

TEST(TensorsPage, GivingBack) {
  auto pool = forebay::Pool::create(forebay::Device::host());
  auto tensors = forebay::TensorPool::create(pool);
  tensors->acquire({1024}, DataType::f32).value().reset();

  const auto cleaned = tensors->cleanup_unused(5);  // keys used fewer than 5 times since the last
  EXPECT_EQ(cleaned.tensors, 1U);
  EXPECT_EQ(cleaned.bytes, 4_KiB);
  tensors->tick();          // what is idle for longer than ttl
  tensors->reclaim(1_GiB);  // what a budget in need calls, if registered there
}

TEST(TensorsPage, StandardContainers) {
  auto pool = forebay::Pool::create(forebay::Device::host());

  forebay::PmrResource resource{pool};
  std::pmr::vector<int> tokens{&resource};
  tokens.push_back(42);

  const forebay::Allocator<float> allocator{pool};
  std::vector<float, forebay::Allocator<float>> scores(1000, allocator);
  std::list<int, forebay::Allocator<int>> order{allocator};
  order.push_back(1);
  EXPECT_GE(pool->stats().live_blocks, 3U);
}

TEST(TensorsPage, AContainerUnderALine) {
  forebay::Budget line{"prompt cache", {.limit = 1_MiB}};
  const forebay::Allocator<char> allocator{line.meter(forebay::Device::host())};
  std::vector<char, forebay::Allocator<char>> text(1000, 'x', allocator);
  try {
    text.resize(2 << 20);
    FAIL();
  } catch (const forebay::MemoryRefused& refused) {  // a std::bad_alloc
    EXPECT_EQ(refused.status().refusal()->budget, "prompt cache");
  }
  EXPECT_EQ(text.size(), 1000U);
}

}  // namespace
