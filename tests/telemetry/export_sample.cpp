// Writes the snapshots made by hand in all formats, for tests that read them with other tools.
//
// usage: export_sample FOLDER [BLOCKS]   (BLOCKS: the large snapshot, of that many)
#include <cstdio>
#include <cstdlib>
#include <string>

#include "telemetry/sample_snapshot.hpp"

int main(int argc, char** argv) {
  using forebay::ExportFormat;
  if (argc < 2) return 2;
  const std::string folder = argv[1];
  const forebay::Snapshot snapshot =
      argc > 2 ? forebay::testing::large_snapshot(std::strtoull(argv[2], nullptr, 10))
               : forebay::testing::sample_snapshot();
  const std::pair<const char*, ExportFormat> formats[] = {
      {"memory_viz.json", ExportFormat::memory_viz},
      {"memory_viz.pickle", ExportFormat::memory_viz_pickle},
      {"heap.pb.gz", ExportFormat::pprof},
      {"trace.json", ExportFormat::chrome_trace},
      {"rmm.csv", ExportFormat::rmm_csv},
      {"folded.txt", ExportFormat::folded},
  };
  for (const auto& [name, format] : formats) {
    const auto status = forebay::export_snapshot(snapshot, format, folder + "/" + name);
    if (!status.ok()) return std::fprintf(stderr, "%s\n", status.message().c_str()), 1;
  }
  const auto totals = forebay::testing::totals_of(snapshot);
  std::printf(
      "{\"segments_bytes\": %llu, \"blocks_bytes\": %llu, \"weight_bytes\": %.2f, "
      "\"weight_blocks\": %.2f}\n",
      static_cast<unsigned long long>(totals.segments_bytes),
      static_cast<unsigned long long>(totals.blocks_bytes), totals.weight_bytes,
      totals.weight_blocks);
  return 0;
}
