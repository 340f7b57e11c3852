// Traces of cache requests for tests.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "trace/cache_reader.hpp"

namespace forebay::trace {

// One record of libCacheSim's oracleGeneral.
inline std::string oracle_record(std::uint32_t time, std::uint64_t key, std::uint32_t size,
                                 std::int64_t next = -1) {
  std::string record;
  const auto put = [&](const auto& value) {
    record.append(reinterpret_cast<const char*>(&value), sizeof value);
  };
  put(time);
  put(key);
  put(size);
  put(next);
  return record;
}

struct ReadRequests {
  std::vector<CacheRequest> requests;
  Status status;
  std::uint64_t left_out = 0;
};

inline ReadRequests read_all(CacheReader& reader, std::size_t batch_size = 7) {
  ReadRequests read;
  std::vector<CacheRequest> batch;
  for (;;) {
    const auto count = reader.fill(batch, batch_size);
    if (!count.ok()) {
      read.status = count.status();
      break;
    }
    if (*count == 0) break;
    read.requests.insert(read.requests.end(), batch.begin(), batch.end());
  }
  read.left_out = reader.left_out();
  return read;
}

inline ReadRequests requests_of(std::string_view text, CacheReader::Options options = {}) {
  auto reader = CacheReader::over(text, "t", options);
  if (!reader.ok()) return {{}, reader.status(), 0};
  return read_all(*reader);
}

// Small numbers that look random: SplitMix64.
class TestRandom {
 public:
  explicit TestRandom(std::uint64_t seed) : state_(seed) {}
  std::uint64_t below(std::uint64_t bound) {
    state_ += 0x9E3779B97F4A7C15;
    return mixed(state_) % bound;
  }

 private:
  static std::uint64_t mixed(std::uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
    return x ^ (x >> 31);
  }
  std::uint64_t state_;
};

}  // namespace forebay::trace
