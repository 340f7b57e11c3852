// What it costs to find a stack of 20 frames, and to intern it.
//
//   stack_bench                 the table
//   stack_bench --rounds 41     more rounds, for a busy machine
//   stack_bench --smoke         all of it, in a second
//
// Each round times every method once, one after the other, on the same warm stack; CPU time of
// the thread; minimum, median and quartiles over the rounds, and the ratio to the C library's
// backtrace() of the same round. "Unchecked" is the floor: the frames, one after the other.
// libunwind is a peer if it is installed; it is opened here, by itself, so that its names replace
// nobody's.
#include <dlfcn.h>
#include <execinfo.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "track/stack.hpp"
#include "track/unwind_table.hpp"

namespace {

using forebay::StackMethod;
using forebay::detail::Stack;

constexpr int kFrames = 20;

double cpu_nanoseconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

// So that a stack is not thrown away unseen.
template <typename T>
void use(const T& value) {
  asm volatile("" : : "r"(&value) : "memory");
}

using UnwBacktrace = int (*)(void**, int);
UnwBacktrace g_unw_backtrace = nullptr;

template <StackMethod method>
[[gnu::noinline]] void capture_once() {
  Stack stack;
  forebay::detail::capture(stack, method, nullptr);
  use(stack);
}
template <StackMethod method>
[[gnu::noinline]] void capture_and_intern_once() {
  use(forebay::detail::capture_and_intern(method, nullptr));
}
[[gnu::noinline]] void intern_once() {
  static const Stack stack = [] {
    Stack made;
    forebay::detail::capture(made, StackMethod::automatic, nullptr);
    made.depth = kFrames;
    return made;
  }();
  use(forebay::detail::intern(stack));
}
// Of many stacks in turn, as a program has them.
constexpr std::size_t kManyStacks = 768;
const std::vector<Stack>& many_stacks() {
  static const std::vector<Stack> stacks = [] {
    std::vector<Stack> made(kManyStacks);
    for (std::size_t i = 0; i < made.size(); ++i) {
      for (std::uint32_t j = 0; j < kFrames; ++j) made[i].frames[j] = 0x400000 + j * 64 + i * 5;
      made[i].depth = kFrames;
    }
    return made;
  }();
  return stacks;
}
[[gnu::noinline]] void intern_one_of_many() {
  static std::size_t turn = 0;
  turn = (turn + 389) % kManyStacks;
  use(forebay::detail::intern(many_stacks()[turn]));
}
// What the frames alone cost: no bounds, no checks, as nobody may do it. (One less, as capture_once
// is one.)
[[gnu::noinline]] void follow_bare() {
  std::array<void*, kFrames - 1> frames;
  auto* const* fp = static_cast<void* const*>(__builtin_frame_address(0));
  for (void*& frame : frames) {
    frame = fp[1];
    fp = static_cast<void* const*>(fp[0]);
  }
  use(frames);
}
[[gnu::noinline]] void backtrace_once() {
  std::array<void*, kFrames> frames;
  use(backtrace(frames.data(), kFrames));
  use(frames);
}
[[gnu::noinline]] void unw_backtrace_once() {
  std::array<void*, kFrames> frames;
  use(g_unw_backtrace(frames.data(), kFrames));
  use(frames);
}

struct Row {
  const char* name;
  void (*once)();
  int iterations;
  StackMethod sees;            // whose 20 frames it walks
  std::vector<double> took{};  // nanoseconds, a round each
};

double time_of(const Row& row, int divisor) {
  const int iterations = std::max(1, row.iterations / divisor);
  for (int i = 0; i < iterations / 10 + 2; ++i) row.once();
  const double start = cpu_nanoseconds();
  for (int i = 0; i < iterations; ++i) row.once();
  return (cpu_nanoseconds() - start) / iterations;
}

double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(q * static_cast<double>(values.size() - 1))];
}

void report(const std::vector<Row>& rows, const Row& judge) {
  std::printf("%-34s %9s %9s %9s %9s %10s\n", "20 frames, ns", "minimum", "quartile", "median",
              "quartile", "backtrace");
  for (const Row& row : rows) {
    std::vector<double> ratios;
    for (std::size_t i = 0; i < row.took.size(); ++i) ratios.push_back(judge.took[i] / row.took[i]);
    std::printf("%-34s %9.1f %9.1f %9.1f %9.1f %9.1fx\n", row.name, quantile(row.took, 0),
                quantile(row.took, 0.25), quantile(row.took, 0.5), quantile(row.took, 0.75),
                quantile(ratios, 0.5));
  }
}

std::vector<Row> make_rows() {
  constexpr auto kByFp = StackMethod::frame_pointers;
  constexpr auto kAll = StackMethod::unwind_tables;
  constexpr auto kBoth = StackMethod::automatic;
  std::vector<Row> rows{
      {"frame pointers", &capture_once<kByFp>, 200000, kByFp},
      {"unwind tables", &capture_once<kAll>, 100000, kAll},
      {"automatic", &capture_once<kBoth>, 200000, kAll},
      {"intern, known", &intern_once, 200000, kAll},
      {"intern, known, 768 in turn", &intern_one_of_many, 200000, kAll},
      {"frame pointers and intern", &capture_and_intern_once<kByFp>, 200000, kByFp},
      {"automatic and intern", &capture_and_intern_once<kBoth>, 200000, kAll},
      {"frame pointers, unchecked", &follow_bare, 200000, kByFp},
      {"unw_backtrace", &unw_backtrace_once, 100000, kAll},
      {"backtrace", &backtrace_once, 5000, kAll},
  };
  if (g_unw_backtrace == nullptr) rows.erase(rows.end() - 2);
  return rows;
}

// The frames between the measurement and the loop: 20 in all. By frame pointers the outermost,
// of the C library, are not seen; they are for the other methods.
[[gnu::noinline]] int descend(int depth, Row& row, int divisor) {
  if (depth == 0) {
    row.took.push_back(time_of(row, divisor));
  } else {
    depth = descend(depth - 1, row, divisor);
  }
  asm volatile("" : "+r"(depth));
  return depth;
}

std::uint32_t g_depth = 0;
StackMethod g_method;
[[gnu::noinline]] void count_frames() {
  Stack stack;
  forebay::detail::capture(stack, g_method, nullptr);
  g_depth = stack.depth;
}

// How often measure() is to descend so that `method` finds 20 frames. Descends once, and is a frame
// itself.
[[gnu::noinline]] int depth_for(StackMethod method) {
  g_method = method;
  Row row{"", &count_frames, 1, method};
  descend(1, row, 1);
  return std::max(0, kFrames - static_cast<int>(g_depth) + 2);
}

[[gnu::noinline]] int measure(std::vector<Row>& rows, int rounds, int divisor) {
  const int by_frame_pointers = depth_for(StackMethod::frame_pointers);
  const int all = forebay::detail::has_unwind_tables() ? depth_for(StackMethod::unwind_tables)
                                                       : by_frame_pointers;
  for (const StackMethod method : {StackMethod::frame_pointers, StackMethod::unwind_tables}) {
    g_method = method;
    Row row{"", &count_frames, 1, method};
    descend(method == StackMethod::frame_pointers ? by_frame_pointers : all, row, 1);
    if (g_depth != kFrames) std::printf("not 20 frames but %u\n", g_depth);
  }
  for (int round = 0; round < rounds; ++round) {
    for (Row& row : rows) {
      descend(row.sees == StackMethod::frame_pointers ? by_frame_pointers : all, row, divisor);
    }
  }
  asm volatile("");
  return rounds;
}

}  // namespace

int main(int count, char** arguments) {
  int rounds = 21;
  int divisor = 1;
  for (int i = 1; i < count; ++i) {
    if (std::strcmp(arguments[i], "--smoke") == 0) {
      rounds = 3;
      divisor = 50;
    } else if (std::strcmp(arguments[i], "--rounds") == 0 && i + 1 < count) {
      rounds = std::max(1, std::atoi(arguments[++i]));
    } else {
      std::fprintf(stderr, "usage: stack_bench [--smoke] [--rounds N]\n");
      return 2;
    }
  }
  void* const libunwind = dlopen("libunwind.so.8", RTLD_NOW | RTLD_LOCAL);
  if (libunwind != nullptr) {
    g_unw_backtrace = reinterpret_cast<UnwBacktrace>(dlsym(libunwind, "unw_backtrace"));
  }
  forebay::detail::know_this_threads_stack();
  if (!forebay::detail::has_unwind_tables()) std::puts("no unwind tables on this system");
  if (g_unw_backtrace == nullptr) std::puts("no libunwind.so.8 here: no row unw_backtrace");
  std::vector<Row> rows = make_rows();
  measure(rows, rounds, divisor);
  report(rows, rows.back());
  return 0;
}
