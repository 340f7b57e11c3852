// What recording an event costs, clock included, beside what other recorders do:
//   mutex_vector  a mutex around a bounded std::vector of events
//   csv_line      a line of text as RMM's logging resource formats it, in a buffer of the
//                 thread's own; the write of it left out
#include <benchmark/benchmark.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <mutex>
#include <vector>

#include "track/timeline.hpp"

namespace {

using forebay::Bytes;
using forebay::EventKind;
using forebay::Timeline;

void start_timeline(const benchmark::State&) { Timeline::start().throw_if_error(); }
void stop_timeline(const benchmark::State&) { Timeline::stop(); }

void timeline(benchmark::State& state) {
  const auto pool = forebay::detail::subject("pool");
  std::uintptr_t address = 0;
  for (auto _ : state) {
    forebay::detail::record(EventKind::allocate, pool, Bytes{4096}, address += 64, 1);
  }
}
BENCHMARK(timeline)->Setup(start_timeline)->Teardown(stop_timeline)->ThreadRange(1, 2);

void timeline_off(benchmark::State& state) {
  std::uintptr_t address = 0;
  for (auto _ : state) {
    forebay::detail::record(EventKind::allocate, 1, Bytes{4096}, address += 64, 1);
  }
}
BENCHMARK(timeline_off)->ThreadRange(1, 2);

void mutex_vector(benchmark::State& state) {
  static std::mutex mutex;
  static std::vector<forebay::TimelineEvent> events(1 << 17);
  static std::size_t next = 0;
  std::uintptr_t address = 0;
  for (auto _ : state) {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    const std::lock_guard lock{mutex};
    events[next] = {.kind = EventKind::allocate,
                    .tag = 1,
                    .thread = 1,
                    .at = now,
                    .address = address += 64,
                    .bytes = Bytes{4096},
                    .subject = "pool"};
    next = (next + 1) % events.size();
  }
}
BENCHMARK(mutex_vector)->ThreadRange(1, 2);

void csv_line(benchmark::State& state) {
  std::array<char, 128> line{};
  std::uintptr_t address = 0;
  for (auto _ : state) {
    const double now =
        std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
    address += 64;
    benchmark::DoNotOptimize(std::snprintf(line.data(), line.size(), "%d,%.6f,%s,%#zx,%d,%#x\n", 1,
                                           now, "allocate", address, 4096, 0));
  }
}
BENCHMARK(csv_line)->ThreadRange(1, 2);

}  // namespace
