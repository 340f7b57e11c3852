// Work that a process of its own does, so that processor time and memory are its alone and no
// setting outlives it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tracking/figures.hpp"

namespace forebay::bench {

struct WorkOptions {
  std::string variant;
  std::uint64_t count = 0;  // pairs, steps, blocks, ...
  std::string folder;       // for files, made and removed by the parent
};

struct WorkSpec {
  const char* id;
  Figures (*run)(const WorkOptions& options);
};
const std::vector<WorkSpec>& all_work();

Figures tracked_heavy_work(const WorkOptions& options);
Figures tracked_step_work(const WorkOptions& options);
Figures drop_work(const WorkOptions& options);
Figures drift_work(const WorkOptions& options);
Figures snapshot_work(const WorkOptions& options);
Figures top_work(const WorkOptions& options);

}  // namespace forebay::bench
