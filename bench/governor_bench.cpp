// What a look at the machine costs: the monitor's thread pays it at every tick.
#include <benchmark/benchmark.h>

#include "forebay/governor.hpp"

namespace {

void read_pressure(benchmark::State& state) {
  const forebay::PressureMonitor monitor;
  for (auto _ : state) benchmark::DoNotOptimize(monitor.read());
}
BENCHMARK(read_pressure)->Unit(benchmark::kMicrosecond);

void make_monitor(benchmark::State& state) {
  for (auto _ : state) {
    const forebay::PressureMonitor monitor;
    benchmark::DoNotOptimize(&monitor);
  }
}
BENCHMARK(make_monitor)->Unit(benchmark::kMicrosecond);

}  // namespace
