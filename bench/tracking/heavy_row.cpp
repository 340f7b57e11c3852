#include <fmt/format.h>

#include "tracking/rows.hpp"

namespace forebay::bench {
namespace {

constexpr std::uint64_t kPairs = 20'000'000;
constexpr std::uint64_t kSlower = 5;  // so many times fewer pairs for those that take long

struct Field {
  std::uint64_t pairs;
  const Folder& folder;
  std::vector<Contender> contenders;
  std::vector<std::string> missing;

  void add(std::string name, std::string base, Command command) {
    contenders.push_back({std::move(name), std::move(base), std::move(command), {}, {}});
  }
};

void add_ours(Field& field) {
  field.add("untracked", "", untracked_work("heavy-pool", field.pairs));
  for (const char* const grade : {"off", "counters", "sampled", "full", "tables", "recorded"}) {
    field.add(grade, "untracked", own_work("heavy", grade, field.pairs, field.folder));
  }
}

// An allocator without and with its own profiler.
void add_profiled(Field& field, const std::string& name, const std::string& file,
                  const std::string& off, const std::string& on, const std::string& mode) {
  const std::string library = find_library(file);
  if (library.empty()) {
    field.missing.push_back(fmt::format("{}: not installed ({})", name, file));
    return;
  }
  Command command = untracked_work("heavy-malloc", field.pairs);
  command.environment = {"LD_PRELOAD=" + library, off};
  field.add(name, "", command);
  command.environment.back() = on;
  field.add(name + " " + mode, name, command);
}

void add_heaptrack(Field& field) {
  const std::string program = find_program("heaptrack");
  if (program.empty()) {
    field.missing.emplace_back("heaptrack: not installed");
    return;
  }
  Command command = untracked_work("heavy-malloc", field.pairs / kSlower);
  field.add("glibc, fewer pairs", "", command);
  command.arguments.insert(command.arguments.begin(),
                           {program, "--raw", "-o", field.folder.path() + "/heaptrack"});
  field.add("heaptrack --raw", "glibc, fewer pairs", command);
}

void add_peers(Field& field) {
  field.add("glibc", "", untracked_work("heavy-malloc", field.pairs));
  add_profiled(field, "jemalloc", "libjemalloc.so.2", "MALLOC_CONF=prof:false",
               "MALLOC_CONF=prof:true,prof_active:true,lg_prof_sample:19", "prof, lg 19");
  add_profiled(field, "gperftools", "libtcmalloc.so.4", "TCMALLOC_SAMPLE_PARAMETER=0",
               "TCMALLOC_SAMPLE_PARAMETER=524288", "sampled, 512 KiB");
  add_heaptrack(field);
  field.add("untracked, fewer pairs", "", untracked_work("heavy-pool", field.pairs / kSlower));
  field.add("map and shared_mutex", "untracked, fewer pairs",
            untracked_work("heavy-map", field.pairs / kSlower));
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
  Field field{settings.scaled(kPairs, 20'000), folder, {}, {}};
  add_ours(field);
  if (settings.peers) add_peers(field);
  run_rounds(field.contenders, settings.rounds);

  Row row;
  Part time = part_of(row, "acquire + drop", "ns of CPU a pair", field.contenders, "cpu_ns");
  judge_ratio(time, field.contenders, "off", "cpu_ns", 1.005);
  judge_ratio(time, field.contenders, "counters", "cpu_ns", 1.03);
  judge_ratio(time, field.contenders, "sampled", "cpu_ns", 1.03);
  judge_ratio(time, field.contenders, "full", "cpu_ns", 2);
  judge_ratio(time, field.contenders, "recorded", "cpu_ns", 2);
  judge_recorded(time, field.contenders);
  time.notes = field.missing;
  row.parts.push_back(time);

  constexpr double kMiB = 1.0 / (1 << 20);
  Part space = part_of(row, "peak in memory", "MiB", field.contenders, "peak_bytes", kMiB);
  judge_ratio(space, field.contenders, "off", "peak_bytes", 1.005);
  judge_ratio(space, field.contenders, "counters", "peak_bytes", 1.02);
  judge_ratio(space, field.contenders, "sampled", "peak_bytes", 1.02);
  note_tracker(row, space, field.contenders);
  row.parts.push_back(space);
  return row;
}

}  // namespace forebay::bench
