// PublishedView: what a process tells of itself, as values. The publisher fills it and puts it into
// a segment; a reader gets it back.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "forebay/budget.hpp"
#include "forebay/tracker.hpp"

namespace forebay::detail {

struct PublishedPool {
  std::string name;
  Bytes live;
  Bytes idle;
  Bytes reserved;
  Bytes largest_free;
  std::uint64_t live_blocks = 0;
  std::uint64_t refused = 0;
  double fragmentation = 0;  // 0 to 1
  double hit_rate = 1;       // 0 to 1
};

struct PublishedEvent {
  EventKind kind = EventKind::mark;
  std::uint32_t thread = 0;
  Duration age{0};  // before the view was taken
  Bytes bytes;
  std::string subject;
  std::string tag;
};

// What did not fit.
struct LeftOut {
  std::uint64_t budgets = 0;
  std::uint64_t pools = 0;
  std::uint64_t tags = 0;
  std::uint64_t groups = 0;
};

struct PublishedView {
  std::int64_t pid = 0;
  std::string program;
  std::uint64_t updates = 0;    // how many came before
  Duration taken{0};            // by the system's clock, since 1970
  Duration interval{0};         // between updates
  Duration publisher_cpu{0};    // what publishing took since it began,
  Duration publisher_since{0};  // which is so long ago
  Bytes line = Bytes::unlimited();
  Bytes used;  // under that line
  Bytes resident;
  Pressure pressure = Pressure::normal;

  std::vector<BudgetStats> budgets;     // parents before children
  std::vector<PublishedPool> pools;     // largest first
  std::vector<TagStats> tags;           // most live bytes first
  std::vector<StatisticsGroup> groups;  // of all other kinds
  std::vector<PublishedEvent> events;   // the latest, oldest first
  LeftOut left_out;
};

}  // namespace forebay::detail
