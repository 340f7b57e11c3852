// The main of every benchmark program: Google Benchmark's, and --smoke, which runs each
// benchmark for about a millisecond.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <string_view>
#include <vector>

int main(int argc, char** argv) {
  static char smoke[] = "--benchmark_min_time=0.001";
  std::vector<char*> arguments{argv, argv + argc};
  for (char*& argument : arguments) {
    if (std::string_view{argument} == "--smoke") argument = smoke;
  }
  int count = static_cast<int>(arguments.size());
  arguments.push_back(nullptr);
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 2;
  if (benchmark::RunSpecifiedBenchmarks() == 0) {
    std::fputs("no benchmark ran\n", stderr);
    return 1;
  }
  benchmark::Shutdown();
  return 0;
}
