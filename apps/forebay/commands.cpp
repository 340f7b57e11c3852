#include <array>

#include "command.hpp"

namespace forebay::app {
namespace {

constexpr std::array<std::string_view, 3> kGenerateExamples{
    "forebay generate --prompt \"The ocean is\" --max-memory-gb 1",
    "forebay generate --chat --prompt \"Why is the sky blue?\" --selection-threshold 1 --json",
    "cat story.txt | forebay generate - --config config.yaml --verbose",
};
constexpr std::array<std::string_view, 3> kPlanExamples{
    "forebay plan --max-memory-gb 1",
    "forebay plan --model model.gguf --kv-type q8_0 --context-tokens 4096 --json",
    "forebay plan --layers 32 --heads 32 --kv-heads 8 --embedding 4096 --feed-forward 14336 "
    "--vocabulary 128256 --weights 4.6GiB",
};
constexpr std::array<std::string_view, 3> kReplayAllocExamples{
    "forebay replay alloc traces/transformer_step.jsonl",
    "forebay replay alloc trace.csv --device simulated --capacity 40GiB --chart replay.svg",
    "forebay replay alloc trace.jsonl --pool default --pool 'mine:ttl=10s,max_retained=1GiB' "
    "--touch --json",
};
constexpr std::array<std::string_view, 3> kReplayCacheExamples{
    "forebay replay cache traces/cdn.csv",
    "forebay replay cache trace.oracleGeneral.zst --policy all,belady --chart curves.svg",
    "forebay replay cache - --capacity 64MiB,1GiB --policy lru,sieve,auto --json < trace.csv",
};
constexpr std::array<std::string_view, 3> kTopExamples{
    "forebay top",
    "forebay top 4711 --interval 200",
    "forebay top --once --json",
};
constexpr std::array<std::string_view, 2> kReportExamples{
    "forebay report run.events",
    "forebay report run.events --top 30 --json",
};
constexpr std::array<std::string_view, 3> kSnapshotExamples{
    "forebay snapshot 4711 --out memory.json.zst",
    "forebay snapshot memory.json.zst --export pprof=heap.pb.gz --export folded=heap.folded",
    "forebay snapshot forebay-4711.json --json",
};
constexpr std::array<std::string_view, 3> kLeaksExamples{
    "forebay leaks 4711",
    "forebay leaks 4711 --older-than 3600",
    "forebay leaks memory.json.zst --suppressions known.txt --json",
};
constexpr std::array<std::string_view, 2> kDiffExamples{
    "forebay diff monday.json.zst tuesday.json.zst",
    "forebay diff monday.json.zst 4711 --json",
};
constexpr std::array kCommands{
    Command{"generate", "text from a GGUF model under a memory line", kGenerate, "[-] [FLAGS]", "",
            kGenerateExamples, run_generate},
    Command{"plan", "what fits under a line, before anything is loaded", kPlan, "[FLAGS]", "",
            kPlanExamples, run_plan},
    Command{"replay alloc", "an allocation trace against pool configurations; recommends one",
            kReplayAlloc, "TRACE [FLAGS]", "trace", kReplayAllocExamples, run_replay_alloc},
    Command{"replay cache", "requests to a cache against eviction policies; recommends one",
            kReplayCache, "TRACE|- [FLAGS]", "trace", kReplayCacheExamples, run_replay_cache},
    Command{"top", "what a running process holds, and how near its line it is", kTop,
            "[PID] [FLAGS]", "pid", kTopExamples, run_top},
    Command{"report", "who took what in a recording of every event", kReport, "FILE [FLAGS]",
            "recording", kReportExamples, run_report},
    Command{"snapshot", "who holds what, of a process or in a file; saves and converts it",
            kSnapshot, "PID|FILE [FLAGS]", "source", kSnapshotExamples, run_snapshot},
    Command{"leaks", "what is live in a process or a snapshot, by tag and place in the code",
            kLeaks, "PID|FILE [FLAGS]", "source", kLeaksExamples, run_leaks},
    Command{"diff", "what changed between two snapshots, most grown first", kDiff, "A B [FLAGS]",
            "snapshot", kDiffExamples, run_diff},
};

}  // namespace

std::span<const Command> commands() noexcept { return kCommands; }

Exit exit_of(const Status& status) noexcept {
  switch (status.code()) {
    case Code::ok:
      return Exit::done;
    case Code::memory_refused:
      return Exit::memory_refused;
    case Code::interrupted:
      return Exit::interrupted;
    default:
      return Exit::bad_input;
  }
}

}  // namespace forebay::app
