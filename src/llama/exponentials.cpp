// Built with -ffast-math (see CMakeLists.txt), so that the compiler may use the vector exp
// of the C library: 49 152 logits cost some 40 us instead of 250, against a decode of 6 ms.
// Logits are finite, and a relative error of 1e-6 changes no choice that a threshold with
// two digits makes.
#include <algorithm>
#include <cmath>

#include "llama/selection.hpp"

namespace forebay::llama {

double sum_of_exponentials(std::span<const float> logits, float maximum) noexcept {
  constexpr std::size_t kBlock = 1024;  // summed in float, then added up in double
  double sum = 0;
  for (std::size_t begin = 0; begin < logits.size(); begin += kBlock) {
    const std::size_t end = std::min(begin + kBlock, logits.size());
    float block = 0;
    for (std::size_t i = begin; i < end; ++i) block += std::exp(logits[i] - maximum);
    sum += static_cast<double>(block);
  }
  return sum;
}

}  // namespace forebay::llama
