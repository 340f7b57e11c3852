// What a run found, and how it is shown: as text, Markdown and JSON.
#pragma once

#include <string>
#include <vector>

#include "pool/contenders.hpp"

namespace forebay::bench {

struct Figure {
  std::string name;
  Role role = Role::peer;
  Samples samples;   // empty: see note
  std::string note;  // more figures, or why there is none
};

// A target, and what there is to say about it.
struct Verdict {
  std::string what;   // "" where the part says it all
  std::string ours;   // with unit
  std::string best;   // of the peers, with its name; "" if the target is absolute
  std::string ratio;  // "" likewise
  std::string target;
  bool met = false;
};

// One measurement of a row: the same unit for all.
struct Part {
  std::string title;
  std::string unit;
  std::vector<Figure> figures;
  std::vector<Verdict> verdicts;
  std::vector<std::string> notes;
};

struct Row {
  std::string id;
  std::string title;
  std::vector<Part> parts;
  std::vector<std::string> failures;  // of correctness: the run fails
};

// Judgements by the medians.
const Figure* find(const Part& part, const std::string& name);
const Figure* judged(const Part& part);
const Figure* best_peer(const Part& part);
double ratio_to_best(const Part& part);  // not a number if either is missing

// "ours at most `most` times the best peer". Adds nothing without a peer.
void judge_by_best(Part& part, double most, const std::string& what = "");
// "ours at most `most`" of the part's unit, or at least.
void judge_at_most(Part& part, double most, const std::string& what = "");
void judge(Part& part, std::string what, std::string ours, std::string target, bool met);

std::string number(double value);  // three digits or so
// "12.3 MiB"
std::string size_text(double bytes);

// The arms' samples as figures; what failed of ours is a failure of the row.
Part part_of(Row& row, std::string title, std::string unit, const std::vector<Arm>& arms);

enum class Format { text, markdown };
std::string summary(const std::vector<Row>& rows, Format format);
std::string details(const Row& row, Format format);
// All medians with their spread: a line a part, a column a contender.
std::string matrix(const std::vector<Row>& rows, Format format);

struct Report {
  std::string machine;
  std::string command;
  std::vector<std::string> peers;  // a line each: where they come from
  std::vector<Row> rows;
};
std::string to_json(const Report& report);
// Throws std::runtime_error for what is no such report.
Report report_from_json(const std::string& text);
// A row as one line of JSON, and back. Throws std::runtime_error for what is no such line.
std::string to_line(const Row& row);
Row row_from_line(const std::string& line);
// Cores, memory, kernel, compiler, load, date.
std::string machine_line();

}  // namespace forebay::bench
