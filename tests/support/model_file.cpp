#include "support/model_file.hpp"

#include <cstdlib>

namespace forebay::test {

std::filesystem::path model_file() {
  if (const char* named = std::getenv("FOREBAY_TEST_MODEL")) return named;
  const char* cache = std::getenv("FOREBAY_CACHE");
  const char* home = std::getenv("HOME");
  if (cache == nullptr && home == nullptr) return {};
  const auto folder = cache != nullptr ? std::filesystem::path{cache}
                                       : std::filesystem::path{home} / ".cache/forebay";
  const auto file = folder / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf";
  return std::filesystem::exists(file) ? file : std::filesystem::path{};
}

}  // namespace forebay::test
