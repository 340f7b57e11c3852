// Made-up requests for tests of caches: skewed keys, sizes over six orders of magnitude.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>

#include "cache/simulated_cache.hpp"

namespace forebay::testing {

enum class Sizes { one, steady, changing };

// A key's bytes are always the same with `steady`, and others in one of eight requests with
// `changing`.
class Requests {
 public:
  Requests(std::uint64_t seed, std::uint64_t keys, Sizes sizes)
      : random_(seed), keys_(keys), sizes_(sizes) {}

  detail::CacheRequest next() {
    // Squared: a few keys are asked for often.
    const double draw = std::uniform_real_distribution<>{0, 1}(random_);
    const auto key = static_cast<std::uint64_t>(draw * draw * static_cast<double>(keys_));
    std::uint64_t version = 0;
    if (sizes_ == Sizes::changing && random_() % 8 == 0) version = random_() % 4;
    return {key, bytes(key, version), cost(key), static_cast<float>(key % 7)};
  }

  static constexpr std::uint64_t kMostBytes = 1'000'000;

 private:
  std::uint64_t bytes(std::uint64_t key, std::uint64_t version) const {
    if (sizes_ == Sizes::one) return 1;
    std::minstd_rand sizes(static_cast<std::minstd_rand::result_type>(key * 4 + version + 1));
    sizes.discard(3);
    const double log = std::uniform_real_distribution<>{0, 6}(sizes);
    return static_cast<std::uint64_t>(std::pow(10.0, log));
  }
  static float cost(std::uint64_t key) { return static_cast<float>(1 + key % 100); }

  std::mt19937_64 random_;
  std::uint64_t keys_;
  Sizes sizes_;
};

}  // namespace forebay::testing
