// The rows of the table: each is one kind of work, measured and judged.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "pool/report.hpp"
#include "tracking/figures.hpp"
#include "tracking/process.hpp"

namespace forebay::bench {

struct Settings {
  int rounds = 5;
  double scale = 1;                       // of the amount of work
  std::uint64_t operations = 10'000'000;  // of the row "drift"
  bool peers = true;

  // `count` of something, scaled, at least `least`.
  std::uint64_t scaled(std::uint64_t count, std::uint64_t least) const {
    return std::max(least, static_cast<std::uint64_t>(static_cast<double>(count) * scale));
  }
};

struct RowSpec {
  const char* id;
  const char* title;
  Row (*run)(const Settings& settings);
};
const std::vector<RowSpec>& all_rows();

Row heavy_row(const Settings& settings);
Row step_row(const Settings& settings);
Row drop_row(const Settings& settings);
Row drift_row(const Settings& settings);
Row snapshot_row(const Settings& settings);
Row top_row(const Settings& settings);

// One variant of some work, in processes of its own.
struct Contender {
  std::string name;
  std::string base;  // whose time and memory its own are told in; empty: it is one
  Command command;
  std::vector<Figures> rounds;
  std::string trouble;

  Samples samples(const std::string& figure, double factor = 1) const;
};

// One process of each in turn. One that fails is out, and says why in `trouble`.
void run_rounds(std::vector<Contender>& contenders, int rounds);

// This program at that work.
Command own_work(const std::string& work, const std::string& variant, std::uint64_t count,
                 const Folder& folder);
Command untracked_work(const std::string& work, std::uint64_t count);

// How `figure` of a contender is to its base's.
struct Ratio {
  double medians = 0;
  double least = 0;  // of the least of each
  Samples pairs;     // round by round
};
Ratio ratio_of(const std::vector<Contender>& contenders, const Contender& contender,
               const std::string& figure);
std::string to_text(const Ratio& ratio);

// Samples of a figure of each, with the ratio to the base beside it.
Part part_of(Row& row, std::string title, std::string unit,
             const std::vector<Contender>& contenders, const std::string& figure,
             double factor = 1);
// "at most `most` times the base"
void judge_ratio(Part& part, const std::vector<Contender>& contenders, const std::string& name,
                 const std::string& figure, double most);

}  // namespace forebay::bench
