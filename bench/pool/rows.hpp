// The rows of the table: each is one kind of work, measured and judged.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "pool/report.hpp"

namespace forebay::bench {

struct Settings {
  int rounds = 5;
  double scale = 1;  // of the amount of work
  bool smoke = false;
  bool sized_free = false;
  bool untracked = false;                 // ours with tracking off; else at its default grade
  std::vector<std::string> wanted_peers;  // empty: all
  Peers peers;                            // those of them that are here

  // `count` of something, scaled, at least `least`.
  std::uint32_t scaled(std::uint32_t count, std::uint32_t least = 1) const {
    return std::max(least, static_cast<std::uint32_t>(count * scale));
  }
};

struct RowSpec {
  const char* id;
  const char* title;
  Row (*run)(const Settings& settings);
};
const std::vector<RowSpec>& all_rows();
// Runs this program again for that row alone: what one row does to a malloc (glibc's grows its
// thresholds as it goes) must not change what the next one measures.
Row run_apart(const Settings& settings, const RowSpec& spec);

// Work that a process of its own does for one contender, since its resident memory counts.
using Figures = std::map<std::string, double>;
struct ChildSpec {
  const char* id;
  Figures (*run)(const Settings& settings, const std::string& contender);
};
const std::vector<ChildSpec>& all_children();
// Runs this program again for it. Throws std::runtime_error with what it said if it failed.
Figures run_child(const Settings& settings, const std::string& id, const std::string& contender);
// Of a child, for its parent.
std::string to_line(const Figures& figures);

Row random_row(const Settings& settings);
Row flat_row(const Settings& settings);
Row step_row(const Settings& settings);
Row hot_row(const Settings& settings);
Row churn_row(const Settings& settings);
Row fresh_row(const Settings& settings);
Row accounting_row(const Settings& settings);
Row latency_row(const Settings& settings);
Row threads_row(const Settings& settings);
Row pipe_row(const Settings& settings);
Row growth_row(const Settings& settings);
Row replace_row(const Settings& settings);
Row burst_row(const Settings& settings);
Row hits_row(const Settings& settings);

Figures growth_child(const Settings& settings, const std::string& contender);
Figures replace_child(const Settings& settings, const std::string& contender);
Figures burst_child(const Settings& settings, const std::string& contender);

}  // namespace forebay::bench
