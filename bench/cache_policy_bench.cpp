// What eviction policies cost, and what they hit, on names without values.
//
//   cache_policy_bench            10 M requests, Zipf 0.99 over 1 M keys, cache a tenth of them
//   cache_policy_bench lru arc    of these policies only
//   cache_policy_bench --smoke    all of them, in a second
//
// Medians, least and most of CPU time over repetitions that take turns; the second figure is with
// the key of the eighth next request prefetched, as a replay does. Bytes an entry: of the policy
// alone, and with the index of keys.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "cache/simulated_cache.hpp"
#include "cache_load.hpp"

namespace {

using forebay::bench::cpu_seconds;
using forebay::detail::kPolicyKinds;
using forebay::detail::PolicyKind;
using forebay::detail::SimulatedCache;

struct Load {
  std::size_t keys;
  std::size_t requests;
  int repetitions;
};

struct Row {
  PolicyKind kind = PolicyKind::lru;
  std::vector<double> plain{};       // M requests a second
  std::vector<double> prefetched{};  // likewise
  double miss_ratio = 0;
  double policy_bytes = 0;
  double bytes = 0;
};

void add_all(std::vector<Row>& rows) {
  for (std::size_t i = 0; i < kPolicyKinds; ++i) {
    const auto kind = static_cast<PolicyKind>(i);
    if (make_policy(kind, {.capacity = 1}) != nullptr) rows.push_back({.kind = kind});
  }
}

double run(SimulatedCache& cache, const std::vector<std::uint32_t>& keys, std::size_t ahead) {
  const double begin = cpu_seconds();
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (ahead != 0) cache.prefetch(keys[std::min(i + ahead, keys.size() - 1)]);
    cache.request({.key = keys[i]});
  }
  return static_cast<double>(keys.size()) / (cpu_seconds() - begin) / 1e6;
}

void repeat(Row& row, const Load& load, const std::vector<std::uint32_t>& keys) {
  constexpr std::size_t kAhead = 8;
  const auto fresh = [&] { return SimulatedCache(row.kind, {.capacity = load.keys / 10}); };
  SimulatedCache cache = fresh();
  row.plain.push_back(run(cache, keys, 0));
  SimulatedCache other = fresh();
  row.prefetched.push_back(run(other, keys, kAhead));

  const auto entries = static_cast<double>(cache.entries());
  row.miss_ratio =
      1 - static_cast<double>(cache.counts().hits) / static_cast<double>(cache.counts().requests);
  row.policy_bytes = static_cast<double>(cache.policy().metadata_bytes()) / entries;
  row.bytes = static_cast<double>(cache.metadata_bytes()) / entries;
}

void print(Row& row) {
  std::sort(row.plain.begin(), row.plain.end());
  std::sort(row.prefetched.begin(), row.prefetched.end());
  const auto median = [](const std::vector<double>& sorted) { return sorted[sorted.size() / 2]; };
  std::printf("%-10s %8.4f  %6.1f (%5.1f..%5.1f)  %6.1f (%5.1f..%5.1f)  %7.1f  %7.1f\n",
              std::string{to_string(row.kind)}.c_str(), row.miss_ratio, median(row.plain),
              row.plain.front(), row.plain.back(), median(row.prefetched), row.prefetched.front(),
              row.prefetched.back(), row.policy_bytes, row.bytes);
}

}  // namespace

int main(int argc, char** argv) {
  Load load{1'000'000, 10'000'000, 5};
  std::vector<Row> rows;
  for (int i = 1; i < argc; ++i) {
    const auto kind = forebay::detail::policy_kind(argv[i]);
    if (std::strcmp(argv[i], "--smoke") == 0) {
      load = {10'000, 50'000, 1};
    } else if (kind && make_policy(*kind, {.capacity = 1}) != nullptr) {
      rows.push_back({.kind = *kind});
    } else {
      std::fprintf(stderr, "%s: %s: allowed are --smoke and names of policies, auto excepted\n",
                   argv[0], argv[i]);
      return 2;
    }
  }
  if (rows.empty()) add_all(rows);

  const std::vector<std::uint32_t> keys =
      forebay::bench::zipf_ranks(load.keys, load.requests, 0.99, 7);
  for (int i = 0; i < load.repetitions; ++i) {
    for (Row& row : rows) repeat(row, load, keys);
  }
  std::printf("%-10s %8s  %22s  %22s  %7s  %7s\n", "policy", "misses", "M requests/s",
              "M/s, prefetched", "B/entry", "+ index");
  for (Row& row : rows) print(row);
  return 0;
}
