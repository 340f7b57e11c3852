#include <fmt/format.h>

#include "tracking/rows.hpp"

namespace forebay::bench {
namespace {

constexpr std::uint64_t kPairs = 20'000'000;
constexpr std::uint64_t kSlower = 5;  // so many times fewer pairs for those that take long

struct Cast {
  std::uint64_t pairs;
  const Folder& folder;
  std::vector<Contender> contenders;
  std::vector<std::string> missing;

  void add(std::string name, std::string base, Command command) {
    contenders.push_back({std::move(name), std::move(base), std::move(command), {}, {}});
  }
};

void add_ours(Cast& cast) {
  cast.add("untracked", "", untracked_work("heavy-pool", cast.pairs));
  for (const char* const grade : {"off", "counters", "sampled", "full", "tables", "recorded"}) {
    cast.add(grade, "untracked", own_work("heavy", grade, cast.pairs, cast.folder));
  }
}

// An allocator without and with its own profiler.
void add_profiled(Cast& cast, const std::string& name, const std::string& file,
                  const std::string& off, const std::string& on, const std::string& mode) {
  const std::string library = find_library(file);
  if (library.empty()) {
    cast.missing.push_back(fmt::format("{}: not installed ({})", name, file));
    return;
  }
  Command command = untracked_work("heavy-malloc", cast.pairs);
  command.environment = {"LD_PRELOAD=" + library, off};
  cast.add(name, "", command);
  command.environment.back() = on;
  cast.add(name + " " + mode, name, command);
}

void add_heaptrack(Cast& cast) {
  const std::string program = find_program("heaptrack");
  if (program.empty()) {
    cast.missing.emplace_back("heaptrack: not installed");
    return;
  }
  Command command = untracked_work("heavy-malloc", cast.pairs / kSlower);
  cast.add("glibc, fewer pairs", "", command);
  command.arguments.insert(command.arguments.begin(),
                           {program, "--raw", "-o", cast.folder.path() + "/heaptrack"});
  cast.add("heaptrack --raw", "glibc, fewer pairs", command);
}

void add_peers(Cast& cast) {
  cast.add("glibc", "", untracked_work("heavy-malloc", cast.pairs));
  add_profiled(cast, "jemalloc", "libjemalloc.so.2", "MALLOC_CONF=prof:false",
               "MALLOC_CONF=prof:true,prof_active:true,lg_prof_sample:19", "prof, lg 19");
  add_profiled(cast, "gperftools", "libtcmalloc.so.4", "TCMALLOC_SAMPLE_PARAMETER=0",
               "TCMALLOC_SAMPLE_PARAMETER=524288", "sampled, 512 KiB");
  add_heaptrack(cast);
  cast.add("untracked, fewer pairs", "", untracked_work("heavy-pool", cast.pairs / kSlower));
  cast.add("map and shared_mutex", "untracked, fewer pairs",
           untracked_work("heavy-map", cast.pairs / kSlower));
}

void judge_recorded(Part& part, const std::vector<Contender>& contenders) {
  constexpr double kMost = 6;
  for (const Contender& contender : contenders) {
    if (contender.name != "recorded" || contender.rounds.empty()) continue;
    const double bytes = contender.samples("bytes_an_event").median();
    judge(part, "recorded, in the file", fmt::format("{:.2f} B an event", bytes), "≤ 6 B an event",
          bytes <= kMost);
  }
}

// What the tracker says of itself, and whether all found room.
void note_tracker(Row& row, Part& part, const std::vector<Contender>& contenders) {
  for (const Contender& contender : contenders) {
    const Samples metadata = contender.samples("metadata_bytes");
    if (metadata.empty()) continue;
    const double dropped = contender.samples("dropped").most();
    part.notes.push_back(fmt::format("{}: records and stacks {}, dropped {:.0f}", contender.name,
                                     size_text(metadata.median()), dropped));
    if (contender.name != "recorded" && dropped > 0) {
      row.failures.push_back(fmt::format("{}: {:.0f} dropped", contender.name, dropped));
    }
  }
}

}  // namespace

Row heavy_row(const Settings& settings) {
  const Folder folder;
  Cast cast{settings.scaled(kPairs, 20'000), folder, {}, {}};
  add_ours(cast);
  if (settings.peers) add_peers(cast);
  run_rounds(cast.contenders, settings.rounds);

  Row row;
  Part time = part_of(row, "acquire + drop", "ns of CPU a pair", cast.contenders, "cpu_ns");
  judge_ratio(time, cast.contenders, "off", "cpu_ns", 1.005);
  judge_ratio(time, cast.contenders, "counters", "cpu_ns", 1.03);
  judge_ratio(time, cast.contenders, "sampled", "cpu_ns", 1.03);
  judge_ratio(time, cast.contenders, "full", "cpu_ns", 2);
  judge_ratio(time, cast.contenders, "recorded", "cpu_ns", 2);
  judge_recorded(time, cast.contenders);
  time.notes = cast.missing;
  row.parts.push_back(time);

  constexpr double kMiB = 1.0 / (1 << 20);
  Part space = part_of(row, "peak in memory", "MiB", cast.contenders, "peak_bytes", kMiB);
  judge_ratio(space, cast.contenders, "off", "peak_bytes", 1.005);
  judge_ratio(space, cast.contenders, "counters", "peak_bytes", 1.02);
  judge_ratio(space, cast.contenders, "sampled", "peak_bytes", 1.02);
  note_tracker(row, space, cast.contenders);
  row.parts.push_back(space);
  return row;
}

}  // namespace forebay::bench
