// The part of tracking_bench's work that is also done without tracking: with it compiled out, or
// on the process's own malloc. tracking_bench runs this program; see there.
//
//   tracking_bench_untracked heavy-malloc|heavy-pool|heavy-map|step|step-written COUNT

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>

#include "tracking/heavy_work.hpp"
#include "tracking/step_work.hpp"

namespace {

using namespace forebay::bench;

Figures work(const std::string& name, std::uint64_t count) {
  if (name == "heavy-malloc") return heavy_work(Supplier::malloc, count);
  if (name == "heavy-pool") return heavy_work(Supplier::pool, count);
  if (name == "heavy-map") return heavy_work(Supplier::mapped_pool, count);
  if (name == "step") return step_work(Tensors::untouched, count);
  if (name == "step-written") return step_work(Tensors::written, count);
  throw std::runtime_error{"no work " + name};
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc != 3) throw std::runtime_error{"run by tracking_bench: NAME COUNT"};
    std::fputs(to_line(work(argv[1], std::strtoull(argv[2], nullptr, 10))).c_str(), stdout);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tracking_bench_untracked: %s\n", error.what());
    return 1;
  }
}
