// What recording every event costs, in time and in the file; and what reading it back takes.
//
//   event_file_bench [--pairs 20000000] [--rounds 5] [--file PATH]
//   event_file_bench --smoke            an instant of it
//   event_file_bench --read PATH        the analyser alone: seconds, and peak resident bytes
//
// The load: two threads that acquire and release blocks of 16 to 4096 bytes (log-uniform) from 768
// stacks, at random, with 200 000 live; one release in 64 is of the other thread's block. Time is
// CPU time of the threads, with the writing, less that of the same loop without recording; rounds
// are interleaved. The analyser runs in a process of its own.
#include <spawn.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "telemetry/event_analysis.hpp"
#include "track/event_file.hpp"
#include "track/event_names.hpp"

extern char** environ;  // NOLINT(readability-identifier-naming): POSIX's name

namespace {

using forebay::detail::BlockNumber;

constexpr std::uint32_t kStacks = 768;
constexpr std::size_t kThreads = 2;
constexpr std::size_t kLiveEach = 100'000;
constexpr std::size_t kSizes = 4096;
constexpr std::size_t kDepth = 12;

// ---- Names: made stacks within this program

std::array<std::array<std::uintptr_t, kDepth>, kStacks> g_frames;

void make_frames() {
  const auto base = reinterpret_cast<std::uintptr_t>(&make_frames);
  for (std::size_t i = 0; i < kStacks; ++i) {
    for (std::size_t k = 0; k < kDepth; ++k) g_frames[i][k] = base + (i >> k) % 64 * 16 + k + 1;
  }
}

constexpr forebay::detail::EventNames kNames{
    []() noexcept { return kStacks; },
    [](forebay::StackId id) noexcept { return std::span<const std::uintptr_t>{g_frames[id - 1]}; },
    []() noexcept -> forebay::detail::ContextId { return 1; },
    [](forebay::detail::ContextId) noexcept { return forebay::detail::ContextName{}; },
    [](std::uintptr_t) { return std::string{}; }};

// ---- The load

std::array<std::uint16_t, kSizes> g_sizes;

void make_sizes() {
  for (std::size_t i = 0; i < kSizes; ++i) {
    const double share = (static_cast<double>(i) + 0.5) / kSizes;
    g_sizes[i] = static_cast<std::uint16_t>(16 * std::pow(256.0, share));
  }
}

std::uint64_t next_random(std::uint64_t& state) {
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

double thread_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

// Blocks of both threads; one in 64 is taken by whoever comes first.
using Slots = std::vector<std::atomic<std::uint64_t>>;

std::uint64_t packed(BlockNumber block) { return std::uint64_t{block.thread} << 48 | block.number; }

void free_packed(std::uint64_t block) {
  if (block != 0) {
    forebay::detail::record_free(
        {static_cast<std::uint16_t>(block >> 48), block & ((1ULL << 48) - 1)});
  }
}

template <bool kRecords>
double churn(Slots& mine, Slots& others, std::uint64_t pairs, std::uint64_t state) {
  std::uint64_t sum = 0;
  const double start = thread_seconds();
  for (std::uint64_t i = 0; i < pairs; ++i) {
    const std::uint64_t random = next_random(state);
    const std::uint32_t size = g_sizes[random % kSizes];
    const auto stack = static_cast<std::uint32_t>((random >> 12) % kStacks + 1);
    Slots& slots = (random >> 58) == 0 ? others : mine;
    auto& slot = slots[(random >> 24) % kLiveEach];
    if constexpr (kRecords) {
      const BlockNumber block = forebay::detail::record_allocate(size, 0, stack);
      free_packed(slot.load(std::memory_order_relaxed) == 0
                      ? 0
                      : slot.exchange(packed(block), std::memory_order_relaxed));
    } else {
      sum += size + stack;
      sum += slot.load(std::memory_order_relaxed) == 0
                 ? 0
                 : slot.exchange(i | 1, std::memory_order_relaxed);
    }
  }
  const double seconds = thread_seconds() - start;
  if (sum == 1) std::puts("");  // so that the sum is needed
  return seconds;
}

template <bool kRecords>
void fill(Slots& slots) {
  for (std::size_t i = 0; i < slots.size(); ++i) {
    std::uint64_t block = i + 1;
    if constexpr (kRecords)
      block = packed(forebay::detail::record_allocate(g_sizes[i % kSizes], 0, 1));
    slots[i].store(block, std::memory_order_relaxed);
  }
}

// CPU seconds of both threads.
template <bool kRecords>
double run_load(std::uint64_t pairs) {
  std::array<Slots, kThreads> slots{Slots(kLiveEach), Slots(kLiveEach)};
  std::array<double, kThreads> seconds{};
  std::atomic<std::size_t> ready{0};
  const auto work = [&](std::size_t self) {
    fill<kRecords>(slots[self]);
    ready.fetch_add(1);
    while (ready.load() < kThreads) std::this_thread::yield();
    seconds[self] = churn<kRecords>(slots[self], slots[1 - self], pairs / kThreads,
                                    88172645463325252ULL + self);
  };
  std::thread other{work, 1};
  work(0);
  other.join();
  return seconds[0] + seconds[1];
}

// ---- One thread, one kind of event at a time

struct Parts {
  double allocate_ns = 1e9;
  double free_ns = 1e9;
};

// The least of several rounds; a file is open. The sizes and stacks are as random as above.
Parts run_parts(std::size_t rounds, std::size_t blocks) {
  Parts parts;
  std::vector<BlockNumber> taken(blocks);
  std::uint64_t state = 88172645463325252ULL;
  for (std::size_t round = 0; round < rounds; ++round) {
    const double start = thread_seconds();
    for (BlockNumber& block : taken) {
      const std::uint64_t random = next_random(state);
      block = forebay::detail::record_allocate(
          g_sizes[random % kSizes], 0, static_cast<std::uint32_t>((random >> 12) % kStacks + 1));
    }
    const double middle = thread_seconds();
    for (const BlockNumber block : taken) forebay::detail::record_free(block);
    const double end = thread_seconds();
    const auto count = static_cast<double>(blocks);
    parts.allocate_ns = std::min(parts.allocate_ns, (middle - start) * 1e9 / count);
    parts.free_ns = std::min(parts.free_ns, (end - middle) * 1e9 / count);
  }
  return parts;
}

// ---- Reading back

int read_back(const char* path) {
  const double start = thread_seconds();
  const auto reader = forebay::events::EventReader::open(path);
  if (!reader.ok()) return std::fprintf(stderr, "%s\n", reader.status().message().c_str()), 2;
  const auto report = forebay::events::analyse(*reader);
  if (!report.ok()) return std::fprintf(stderr, "%s\n", report.status().message().c_str()), 2;
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  std::printf("analyser  %llu events, %llu live at the end, %zu sites: %.2f CPU-s, %.1f MB peak\n",
              static_cast<unsigned long long>(report->events),
              static_cast<unsigned long long>(report->total.live), report->sites.size(),
              thread_seconds() - start, static_cast<double>(usage.ru_maxrss) * 1024 / 1e6);
  const std::uint64_t lost = report->unmatched_frees + report->older_frees +
                             report->lost_allocations + report->contents.damaged;
  return lost == 0 ? 0 : (std::fprintf(stderr, "events are lost\n"), 1);
}

int read_in_own_process(const char* self, const std::string& path) {
  std::string read = "--read";
  std::string file = path;
  std::string program = self;
  std::array<char*, 4> arguments{program.data(), read.data(), file.data(), nullptr};
  pid_t child = 0;
  std::fflush(stdout);
  if (::posix_spawn(&child, "/proc/self/exe", nullptr, nullptr, arguments.data(), environ) != 0) {
    return 2;
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 2;
}

struct Options {
  std::uint64_t pairs = 20'000'000;
  std::size_t rounds = 5;
  std::string file = "event_file_bench.events";
};

int print_parts(const Options& options) {
  const auto opened = forebay::detail::open_event_file(options.file, kNames);
  if (!opened.ok()) return std::fprintf(stderr, "%s\n", opened.message().c_str()), 2;
  const Parts parts = run_parts(options.rounds * 4, 200'000);
  const auto closed = forebay::detail::close_event_file();
  ::unlink(options.file.c_str());
  std::printf("one thread, in order: %.1f ns an allocation, %.1f ns a free (min)\n",
              parts.allocate_ns, parts.free_ns);
  return closed.ok() ? 0 : 2;
}

int run(const char* self, const Options& options) {
  std::vector<double> costs;
  double bytes_an_event = 0;
  const double events = 2.0 * static_cast<double>(options.pairs);
  for (std::size_t round = 0; round < options.rounds; ++round) {
    const double base = run_load<false>(options.pairs);
    ::unlink(options.file.c_str());
    if (const auto opened = forebay::detail::open_event_file(options.file, kNames); !opened.ok()) {
      return std::fprintf(stderr, "%s\n", opened.message().c_str()), 2;
    }
    const double recorded = run_load<true>(options.pairs);
    const auto closed = forebay::detail::close_event_file();
    if (!closed.ok()) return std::fprintf(stderr, "%s\n", closed.message().c_str()), 2;
    costs.push_back((recorded - base) * 1e9 / events);
    struct stat info {};
    ::stat(options.file.c_str(), &info);
    bytes_an_event =
        static_cast<double>(info.st_size) / static_cast<double>(forebay::detail::events_recorded());
  }
  std::sort(costs.begin(), costs.end());
  std::printf(
      "recording %.0f M events: %.1f ns an event (min; median %.1f, max %.1f), "
      "%.2f bytes an event\n",
      events / 1e6, costs.front(), costs[costs.size() / 2], costs.back(), bytes_an_event);
  const int status = read_in_own_process(self, options.file);
  ::unlink(options.file.c_str());
  if (status != 0) return status;
  return print_parts(options);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (flag == "--smoke") {
      options.pairs = 200'000;
      options.rounds = 1;
    } else if (flag == "--read" && i + 1 < argc) {
      return read_back(argv[++i]);
    } else if (flag == "--pairs" && i + 1 < argc) {
      options.pairs = std::strtoull(argv[++i], nullptr, 10);
    } else if (flag == "--rounds" && i + 1 < argc) {
      options.rounds = std::max<std::size_t>(1, std::strtoull(argv[++i], nullptr, 10));
    } else if (flag == "--file" && i + 1 < argc) {
      options.file = argv[++i];
    } else {
      std::fprintf(stderr, "%s: allowed are --pairs, --rounds, --file, --read, --smoke\n", argv[0]);
      return 2;
    }
  }
  make_frames();
  make_sizes();
  return run(argv[0], options);
}
