// What a robot keeps, each in its own shape: similarities of experiences, their activations in
// device memory, and the latest readings of a sensor.
#include <cstdio>

#include "forebay/cache_shapes.hpp"
#include "forebay/cache_streams.hpp"
#include "forebay/pool.hpp"

using namespace forebay::literals;

int main() {
  forebay::Budget host{"host", {.limit = 64_MiB}};
  forebay::Budget gpu{"gpu", {.limit = 1_GiB}};
  auto pool = forebay::Pool::create(forebay::SimulatedDevice::create({.name = "gpu0"}));

  forebay::PairCache<int, float> similar{{.max_bytes = 8_MiB, .budget = &host}};
  similar.put(1, 2, 0.8F).status().throw_if_error();
  similar.put(3, 1, 0.4F).status().throw_if_error();
  std::printf("2 and 1: %.1f\n", static_cast<double>(*similar.find(2, 1)));
  std::printf("pairs with 1 erased: %d\n", static_cast<int>(similar.erase_all_of(1)));

  forebay::TensorCacheOptions options;
  options.host.budget = &host;
  options.max_device_bytes = 256_MiB;
  options.device_budget = &gpu;
  options.idle = pool;
  forebay::TensorCache<int, forebay::Buffer> activations{options};
  for (int i = 0; i != 6; ++i) {
    activations.put(i, pool->acquire(64_MiB).value(), {.utility = static_cast<float>(i)})
        .status()
        .throw_if_error();
  }
  std::printf("activations kept: %s of the device, the highest of them %s\n",
              to_string(gpu.stats().used).c_str(), activations.find(5) ? "too" : "not");

  forebay::StreamRing<float> readings{{.max_bytes = 64_KiB, .budget = &host}};
  for (int i = 0; i != 5000; ++i) {
    readings.append(static_cast<float>(i)).status().throw_if_error();
  }
  const auto slice = readings.range(0, 9999);
  std::printf("readings: %zu there, %llu gone, %llu not yet\n", slice.values.size(),
              static_cast<unsigned long long>(slice.gone),
              static_cast<unsigned long long>(slice.not_yet));
}
