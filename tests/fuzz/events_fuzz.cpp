// Feeds arbitrary bytes to the analyser of recordings: it must end with sums that add up or with
// one clear line, and nothing else.
//
// A changed byte spoils a chunk's checksum, and the chunk is skipped: as a test that is soon dull.
// So each input is read a second time with all checksums set right.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

#include "telemetry/event_analysis.hpp"
#include "track/event_format.hpp"

namespace {

using forebay::Code;
using forebay::detail::ChunkHeader;
using forebay::events::EventReport;
using forebay::events::Site;

void demand(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "events_fuzz: %s\n", what);
  std::abort();
}

void check_error(const forebay::Status& status) {
  const bool expected = status.code() == Code::corrupt_data || status.code() == Code::unsupported ||
                        status.code() == Code::memory_refused;
  demand(expected, "an error of an unexpected kind");
  demand(status.message().starts_with("fuzz:"), "an error without the file's name");
  demand(status.message().size() < 1024, "an error that goes on and on");
}

void check_report(const EventReport& report, std::size_t size) {
  std::uint64_t allocations = 0;
  std::uint64_t live = 0;
  std::uint64_t temporary = 0;
  for (const Site& site : report.sites) {
    allocations += site.allocations;
    live += site.live;
    temporary += site.temporary;
    demand(site.live <= site.allocations, "more live than was taken");
    demand(site.stack == 0 || site.allocations > 0, "a site of nothing");
  }
  const auto& total = report.total;
  demand(allocations == total.allocations && live == total.live && temporary == total.temporary,
         "sites that do not add up");
  demand(report.frees + total.live == total.allocations, "blocks that are neither live nor freed");
  std::uint64_t freed = 0;
  for (const std::uint64_t count : total.lifetimes) freed += count;
  demand(freed == report.frees, "lifetimes that do not add up");
  demand(report.events ==
             total.allocations + report.frees + report.older_frees + report.unmatched_frees,
         "events that do not add up");
  demand(report.events <= size, "more events than bytes");
  demand(report.contents.damaged_bytes + report.contents.cut_bytes <= size, "too much damage");
  demand(report.timeline.size() <= 480, "a timeline without end");
}

void run(std::string_view bytes) {
  forebay::events::AnalysisOptions options;
  options.most = forebay::Bytes{64ULL << 20};
  const auto reader = forebay::events::EventReader::over(bytes, "fuzz");
  const auto report = forebay::events::analyse(reader, options);
  if (!report.ok()) return check_error(report.status());
  check_report(*report, bytes.size());
}

void set_checksums(std::string& bytes) {
  constexpr std::size_t kHeader = sizeof(ChunkHeader);
  for (std::size_t at = 0; at + kHeader <= bytes.size();) {
    ChunkHeader header;
    std::memcpy(&header, bytes.data() + at, kHeader);
    if (header.length > bytes.size() - at - kHeader ||
        header.length > forebay::detail::kMostPayload) {
      return;
    }
    header.magic = forebay::detail::kChunkMagic;
    header.version = forebay::detail::kEventVersion;
    const auto* const payload = reinterpret_cast<const std::byte*>(bytes.data() + at + kHeader);
    header.checksum = forebay::detail::checksum_of(header, payload);
    std::memcpy(bytes.data() + at, &header, kHeader);
    at += kHeader + header.length;
  }
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer calls it by this name
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string bytes{reinterpret_cast<const char*>(data), size};
  run(bytes);
  set_checksums(bytes);
  run(bytes);
  return 0;
}
