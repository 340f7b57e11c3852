#include "tracking/figures.hpp"

#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace forebay::bench {
namespace {

double status_bytes(const std::string& name) {
  std::ifstream status{"/proc/self/status"};
  for (std::string word; status >> word;) {
    double kilobytes = 0;
    if (word == name && status >> kilobytes) return kilobytes * 1024;
  }
  throw std::runtime_error{"/proc/self/status has no " + name};
}

const double kBytesAtStart = status_bytes("VmRSS:");

}  // namespace

std::string to_line(const Figures& figures) { return nlohmann::json(figures).dump() + "\n"; }

Figures figures_from_line(const std::string& line) {
  const auto json = nlohmann::json::parse(line, nullptr, false);
  if (!json.is_object()) throw std::runtime_error{"its process printed no figures: " + line};
  return json.get<Figures>();
}

// Not getrusage(): what that says survives exec, and so would be the parent's.
double peak_bytes() { return status_bytes("VmHWM:") - kBytesAtStart; }

}  // namespace forebay::bench
