// A program that publishes made-up statistics until its standard input ends.
//
//   publishing_program DIRECTORY [SECONDS_OF_WORK]
//
// With a second argument it computes for so long, and prints what its publisher took meanwhile.
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "telemetry/attach.hpp"
#include "telemetry/publisher.hpp"
#include "track/timeline.hpp"

namespace {

using namespace forebay;
using namespace forebay::literals;

std::vector<StatisticsRegistration> made_up_groups() {
  const auto fixed = [](std::vector<Statistic> values) {
    return [values = std::move(values)](std::vector<Statistic>& into) {
      into.insert(into.end(), values.begin(), values.end());
    };
  };
  std::vector<StatisticsRegistration> groups;
  groups.emplace_back("budget", "process",
                      fixed({{"limit_bytes", 1 << 30},
                             {"charged_bytes", 943718400},
                             {"used_bytes", 900000000},
                             {"peak_bytes", 1 << 30},
                             {"denials_total", 3},
                             {"pressure", 1}}));
  groups.emplace_back(
      "budget", "process/teacher",
      fixed({{"limit_bytes", 1 << 29}, {"charged_bytes", 1 << 28}, {"used_bytes", 1 << 28}}));
  groups.emplace_back("pool", "activations",
                      fixed({{"live_bytes", 209715200},
                             {"idle_bytes", 58720256},
                             {"reserved_bytes", 268435456},
                             {"largest_free_bytes", 14680064},
                             {"fragmentation_ratio", 0.75},
                             {"hit_rate_ratio", 0.98},
                             {"live_blocks", 1234},
                             {"refused_total", 1}}));
  groups.emplace_back("cache", "prefix",
                      fixed({{"used_bytes", 1048576},
                             {"limit_bytes", 2097152},
                             {"hits_total", 75},
                             {"misses_total", 25}}));
  groups.emplace_back("kv", "kv0", fixed({{"used_bytes", 65536}, {"pages_used", 10}}));
  return groups;
}

std::vector<TagStats> made_up_tags() {
  std::vector<TagStats> tags;
  for (int layer = 0; layer < 100; ++layer) {
    tags.push_back({.tag = fmt::format("decoder/layer{}", layer),
                    .owner = layer % 2 == 0 ? "tenant-a" : "",
                    .live = 1_MiB * static_cast<std::uint64_t>(1 + layer),
                    .live_blocks = 7,
                    .allocated = 1_GiB,
                    .allocations = 1000});
  }
  return tags;
}

// Work that records events while it goes on, as a busy program does.
void work_for(std::chrono::seconds duration) {
  const auto pool = detail::subject("activations");
  const auto end = std::chrono::steady_clock::now() + duration;
  std::uint64_t events = 0;
  while (std::chrono::steady_clock::now() < end) {
    for (int i = 0; i < 1000; ++i) {
      detail::record(EventKind::allocate, pool, 4_KiB, ++events);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const PublishOptions options{.interval = std::chrono::milliseconds{argc > 2 ? 200 : 20},
                               .directory = argv[1]};
  const auto groups = made_up_groups();
  Timeline::start().throw_if_error();
  Timeline::mark("epoch 1");
  detail::record(EventKind::deny, detail::subject("process"), 64_MiB);
  detail::PublishSources sources = detail::common_sources();
  sources.tags = made_up_tags;
  sources.snapshot = [] { return std::string{"{\"made\": \"up\"}"}; };
  const auto publisher = detail::start_publisher(options, std::move(sources)).value();
  if (argc > 2) {
    work_for(std::chrono::seconds{std::atoi(argv[2])});
    const auto view = detail::read_published(options.directory, ::getpid()).value();
    const auto cpu = static_cast<double>(view.publisher_cpu.count());
    std::puts(
        fmt::format("{} updates, {:.1f} us each, {:.3f} % of the time", view.updates,
                    cpu / 1000 / static_cast<double>(std::max<std::uint64_t>(view.updates, 1)),
                    100 * cpu / static_cast<double>(view.publisher_since.count()))
            .c_str());
    return 0;
  }
  std::puts("ready");
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
  return 0;
}
