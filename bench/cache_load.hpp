// What the programs that measure caches share: clocks, bytes of the process, requests of Zipf.
#pragma once

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

#include "forebay/bytes.hpp"

namespace forebay::bench {

inline double seconds_of(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}
// Of the calling thread.
inline double cpu_seconds() { return seconds_of(CLOCK_THREAD_CPUTIME_ID); }
inline double wall_seconds() { return seconds_of(CLOCK_MONOTONIC); }

// SplitMix64's last steps: neighbours become strangers.
inline std::uint64_t mixed(std::uint64_t key) {
  key = (key ^ key >> 30) * 0xbf58476d1ce4e5b9ULL;
  key = (key ^ key >> 27) * 0x94d049bb133111ebULL;
  return key ^ key >> 31;
}

inline Bytes resident_bytes() {
  std::FILE* const file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr) return {};
  unsigned long long pages = 0;
  const int read = std::fscanf(file, "%*s %llu", &pages);
  std::fclose(file);
  return read == 1 ? Bytes{pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE))} : Bytes{};
}

// Ranks from 0 on, by bisection of the summed weights: exact.
inline std::vector<std::uint32_t> zipf_ranks(std::size_t keys, std::size_t count, double exponent,
                                             std::uint64_t seed) {
  std::vector<double> sums(keys);
  double sum = 0;
  for (std::size_t i = 0; i != keys; ++i) {
    sum += std::pow(static_cast<double>(i + 1), -exponent);
    sums[i] = sum;
  }
  std::mt19937_64 random{seed};
  std::uniform_real_distribution<double> draw{0, sum};
  std::vector<std::uint32_t> ranks(count);
  for (std::uint32_t& rank : ranks) {
    const auto at = std::lower_bound(sums.begin(), sums.end(), draw(random)) - sums.begin();
    rank = static_cast<std::uint32_t>(std::min(static_cast<std::size_t>(at), keys - 1));
  }
  return ranks;
}

}  // namespace forebay::bench
