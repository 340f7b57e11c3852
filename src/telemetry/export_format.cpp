#include <fmt/format.h>

#include <array>
#include <utility>

#include "forebay/telemetry.hpp"

namespace forebay {

Result<ExportFormat> parse_export_format(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, ExportFormat>, 6> kFormats{{
      {"memory_viz", ExportFormat::memory_viz},
      {"memory_viz_pickle", ExportFormat::memory_viz_pickle},
      {"pprof", ExportFormat::pprof},
      {"chrome_trace", ExportFormat::chrome_trace},
      {"rmm_csv", ExportFormat::rmm_csv},
      {"folded", ExportFormat::folded},
  }};
  std::string allowed;
  for (const auto& [known, format] : kFormats) {
    if (known == name) return format;
    allowed += allowed.empty() ? "" : ", ";
    allowed += known;
  }
  return Status{Code::invalid_argument,
                fmt::format("'{}' is no export format; allowed: {}", name, allowed)};
}

}  // namespace forebay
