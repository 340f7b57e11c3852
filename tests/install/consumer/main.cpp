// A program of another project: it must link, and what the library throws must be caught
// as what it is, also from a shared library.
#include <cstdio>
#include <forebay/forebay.hpp>
#include <new>

using namespace forebay::literals;

int main() {
  const auto reading = forebay::PressureMonitor{}.read().value();
  std::printf("resident %s\n", forebay::to_string(reading.resident).c_str());
  forebay::Budget line{"line", {.limit = 64_MiB}};
  const auto pool = forebay::Pool::create(line.meter(forebay::Device::host()));
  const auto buffer = pool->acquire(1_MiB).value();
  std::printf("%s charged\n", forebay::to_string(line.stats().used).c_str());
  try {
    pool->acquire(1_GiB).value();
    return 1;
  } catch (const std::bad_alloc& refused) {
    std::printf("refused: %s\n", refused.what());
  }
  try {
    forebay::Status{forebay::Refusal{.budget = "process", .asked = 2_GiB, .limit = 1_GiB}}
        .throw_if_error();
  } catch (const forebay::Error& error) {
    std::printf("refused: %s\n", error.status().message().c_str());
  }
  try {
    forebay::parse_bytes("plenty").value();
  } catch (const std::bad_alloc&) {
    return 1;
  } catch (const forebay::Failure& failure) {
    std::printf("failed: %s\n", failure.what());
    return 0;
  }
  return 1;
}
