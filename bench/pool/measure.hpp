// Clocks, samples and the process's resident memory.
#pragma once

#include <time.h>
#include <x86intrin.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace forebay::bench {

// One figure of several rounds.
class Samples {
 public:
  void add(double value) { values_.push_back(value); }
  bool empty() const { return values_.empty(); }
  double median() const;
  double least() const;
  double most() const;
  const std::vector<double>& values() const { return values_; }

 private:
  std::vector<double> values_;
};

inline double nanoseconds_of(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

// Of this thread alone, so that a busy machine shows as little as can be.
inline double thread_cpu_ns() { return nanoseconds_of(CLOCK_THREAD_CPUTIME_ID); }
inline double process_cpu_ns() { return nanoseconds_of(CLOCK_PROCESS_CPUTIME_ID); }
inline double wall_ns() { return nanoseconds_of(CLOCK_MONOTONIC); }

// CPU nanoseconds that `body()` takes on this thread.
template <typename Body>
double timed(Body&& body) {
  const double start = thread_cpu_ns();
  body();
  return thread_cpu_ns() - start;
}

// The fences keep what is measured between the two reads.
inline std::uint64_t ticks_before() {
  _mm_lfence();
  const std::uint64_t now = __rdtsc();
  _mm_lfence();
  return now;
}
inline std::uint64_t ticks_after() {
  unsigned core = 0;
  const std::uint64_t now = __rdtscp(&core);
  _mm_lfence();
  return now;
}
double nanoseconds_per_tick();
// What two reads with nothing between them take, median.
std::uint64_t ticks_of_nothing();

// The compiler must not know what happens to the block.
inline void keep(void* block) { asm volatile("" : : "r"(block) : "memory"); }

// Writes a byte of each page.
inline void touch(void* block, std::size_t bytes) {
  constexpr std::size_t kPage = 4096;
  auto* const at = static_cast<volatile char*>(block);
  for (std::size_t i = 0; i < bytes; i += kPage) at[i] = 1;
}

// Bytes of this process in memory now. The kernel's counter may lag by some hundred KiB.
double resident_bytes();

}  // namespace forebay::bench
