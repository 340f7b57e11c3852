// Feeds arbitrary operations to a pool (tests/pool/pool_model.hpp says what must hold). The first
// byte picks what the pool stands on; every five that follow are an operation.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

#include "pool/pool_model.hpp"

namespace {

using forebay::Bytes;
using forebay::testing::Below;
using forebay::testing::PoolModel;
using forebay::testing::PoolOperation;

constexpr std::size_t kBytesEach = 5;
constexpr std::size_t kMostOperations = 400;

void run(const std::uint8_t* data, std::size_t size) {
  const auto below = static_cast<Below>(data[0] % 5);
  const bool large_only = (data[0] & 8) != 0;
  const Bytes max_retained = (data[0] & 16) != 0 ? Bytes{2ULL << 20} : Bytes::unlimited();
  PoolModel model{below, large_only, max_retained};
  std::size_t operations = 0;
  for (std::size_t i = 1; i + kBytesEach <= size && operations != kMostOperations;
       i += kBytesEach, ++operations) {
    model.apply({data[i], data[i + 1], data[i + 2],
                 static_cast<std::uint16_t>(data[i + 3] | data[i + 4] << 8)});
  }
  model.end();
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer calls it by this name
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  try {
    run(data, size);
  } catch (const std::logic_error& broken) {
    std::fprintf(stderr, "pool_fuzz: %s\n", broken.what());
    std::abort();
  }
  return 0;
}
