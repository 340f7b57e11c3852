#include "environment.hpp"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace forebay::app {
namespace {

constexpr std::string_view kDefaultModel = "SmolLM2-135M-Instruct.Q4_1.gguf";

std::filesystem::path cache_folder() {
  if (const char* folder = ::secure_getenv("FOREBAY_CACHE"); folder != nullptr && *folder != '\0') {
    return folder;
  }
  const char* home = ::secure_getenv("HOME");
  return std::filesystem::path{home == nullptr ? "" : home} / ".cache" / "forebay";
}

int cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return ::sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

}  // namespace

// Asked for: all of it, or what machine and cgroup allow. By default: never more than 80 % of
// that.
LineChoice line_of(const Config& config, const MemoryReading& reading) {
  constexpr double kDefaultShare = 0.8;
  if (config.line.fraction) return choose_share(*config.line.fraction, reading);
  if (config.origin("line").source == ConfigOrigin::Source::built_in) {
    return choose_share(kDefaultShare, reading, config.line.bytes);
  }
  return choose_line(config.line.bytes, reading);
}

Result<std::filesystem::path> model_of(const Config& config) {
  if (!config.model.empty()) return std::filesystem::path{config.model};
  std::filesystem::path file = cache_folder() / "models" / kDefaultModel;
  std::error_code error;
  if (std::filesystem::exists(file, error)) return file;
  return Status{Code::not_found,
                fmt::format("{}: no default model there; run 'make setup', or give --model FILE",
                            file.string())};
}

int threads_of(const Config& config) {
  if (config.threads) return static_cast<int>(*config.threads);
  double load = 0;
  if (::getloadavg(&load, 1) != 1) load = 0;
  constexpr int kMost = 8;
  return std::clamp(cores() - static_cast<int>(std::lround(load)), 1, kMost);
}

}  // namespace forebay::app
