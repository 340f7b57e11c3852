#include "pool/report.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <thread>

namespace forebay::bench {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

using Line = std::vector<std::string>;

std::size_t width_of(const std::string& text) {
  std::size_t width = 0;  // UTF-8: characters, not bytes
  for (const char c : text) width += (static_cast<unsigned char>(c) & 0xC0U) != 0x80U ? 1U : 0U;
  return width;
}

std::string padded(const std::string& text, std::size_t width) {
  return text + std::string(width - std::min(width, width_of(text)), ' ');
}

std::string table(const std::vector<Line>& lines, Format format) {
  std::vector<std::size_t> widths(lines.front().size());
  for (const Line& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i) {
      widths[i] = std::max(widths[i], width_of(line[i]));
    }
  }
  std::string text;
  for (const Line& line : lines) {
    if (format == Format::markdown) {
      text += fmt::format("| {} |\n", fmt::join(line, " | "));
      if (&line == &lines.front()) {
        for (std::size_t i = 0; i < line.size(); ++i) text += "|---";
        text += "|\n";
      }
      continue;
    }
    std::string row = "  ";
    for (std::size_t i = 0; i < line.size(); ++i) row += padded(line[i], widths[i]) + "  ";
    row.erase(row.find_last_not_of(' ') + 1);
    text += row + "\n";
  }
  return text;
}

std::string with_unit(double value, const std::string& unit) {
  return number(value) + (unit.empty() ? "" : " " + unit);
}

Line figure_line(const Part& part, const Figure& figure) {
  if (figure.samples.empty()) return {figure.name, "-", "-", "-", figure.note};
  const Figure* const best = best_peer(part);
  const double median = figure.samples.median();
  const bool compares = best != nullptr && figure.role != Role::shown;
  return {figure.name, number(median),
          number(figure.samples.least()) + " - " + number(figure.samples.most()),
          compares ? fmt::format("{:.2f}", median / best->samples.median()) : "", figure.note};
}

nlohmann::json to_json(const Part& part) {
  nlohmann::json figures = nlohmann::json::array();
  for (const Figure& figure : part.figures) {
    nlohmann::json entry{{"name", figure.name}, {"role", to_string(figure.role)}};
    if (!figure.samples.empty()) {
      entry["median"] = figure.samples.median();
      entry["least"] = figure.samples.least();
      entry["most"] = figure.samples.most();
      entry["samples"] = figure.samples.values();
    }
    if (!figure.note.empty()) entry["note"] = figure.note;
    figures.push_back(std::move(entry));
  }
  nlohmann::json verdicts = nlohmann::json::array();
  for (const Verdict& verdict : part.verdicts) {
    verdicts.push_back({{"what", verdict.what},
                        {"ours", verdict.ours},
                        {"best_peer", verdict.best},
                        {"ratio", verdict.ratio},
                        {"target", verdict.target},
                        {"met", verdict.met}});
  }
  return {{"title", part.title},
          {"unit", part.unit},
          {"figures", std::move(figures)},
          {"verdicts", std::move(verdicts)},
          {"notes", part.notes}};
}

nlohmann::json to_json(const Row& row) {
  nlohmann::json parts = nlohmann::json::array();
  for (const Part& part : row.parts) parts.push_back(to_json(part));
  return {{"id", row.id},
          {"title", row.title},
          {"parts", std::move(parts)},
          {"failures", row.failures}};
}

Role role_from(const std::string& text) {
  if (text == to_string(Role::ours)) return Role::ours;
  return text == to_string(Role::peer) ? Role::peer : Role::shown;
}

Part part_from(const nlohmann::json& json) {
  Part part;
  part.title = json.at("title");
  part.unit = json.at("unit");
  part.notes = json.at("notes").get<std::vector<std::string>>();
  for (const auto& entry : json.at("figures")) {
    Figure figure{entry.at("name"), role_from(entry.at("role")), {}, entry.value("note", "")};
    const auto samples = entry.value("samples", std::vector<double>{});
    for (const double value : samples) figure.samples.add(value);
    part.figures.push_back(std::move(figure));
  }
  for (const auto& entry : json.at("verdicts")) {
    part.verdicts.push_back({entry.at("what"), entry.at("ours"), entry.at("best_peer"),
                             entry.at("ratio"), entry.at("target"), entry.at("met")});
  }
  return part;
}

Row row_from(const nlohmann::json& json) {
  Row row;
  row.id = json.at("id");
  row.title = json.at("title");
  for (const auto& part : json.at("parts")) row.parts.push_back(part_from(part));
  row.failures = json.at("failures").get<std::vector<std::string>>();
  return row;
}

// "15.4 (15.2 - 16.6)", or one figure if there is but one.
std::string spread(const Samples& samples) {
  if (samples.values().size() == 1) return number(samples.median());
  return fmt::format("{} ({} - {})", number(samples.median()), number(samples.least()),
                     number(samples.most()));
}

std::string cpu_model() {
  std::ifstream file{"/proc/cpuinfo"};
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "unknown processor";
}

std::string huge_page_policy() {
  std::ifstream file{"/sys/kernel/mm/transparent_hugepage/enabled"};
  std::string line;
  std::getline(file, line);
  const auto from = line.find('[');
  const auto to = line.find(']');
  return from == std::string::npos || to == std::string::npos
             ? "none"
             : line.substr(from + 1, to - from - 1);
}

}  // namespace

const Figure* find(const Part& part, const std::string& name) {
  for (const Figure& figure : part.figures) {
    if (figure.name == name && !figure.samples.empty()) return &figure;
  }
  return nullptr;
}

const Figure* judged(const Part& part) {
  for (const Figure& figure : part.figures) {
    if (figure.role == Role::ours && !figure.samples.empty()) return &figure;
  }
  return nullptr;
}

const Figure* best_peer(const Part& part) {
  const Figure* best = nullptr;
  for (const Figure& figure : part.figures) {
    if (figure.role != Role::peer || figure.samples.empty()) continue;
    if (best == nullptr || figure.samples.median() < best->samples.median()) best = &figure;
  }
  return best;
}

double ratio_to_best(const Part& part) {
  const Figure* const ours = judged(part);
  const Figure* const best = best_peer(part);
  if (ours == nullptr || best == nullptr) return kNone;
  return ours->samples.median() / best->samples.median();
}

void judge_by_best(Part& part, double most, const std::string& what) {
  const double ratio = ratio_to_best(part);
  if (std::isnan(ratio)) return;
  const Figure* const best = best_peer(part);
  part.verdicts.push_back({what, with_unit(judged(part)->samples.median(), part.unit),
                           best->name + " " + number(best->samples.median()),
                           fmt::format("{:.2f}", ratio), fmt::format("≤ {}× the best peer", most),
                           ratio <= most});
}

void judge_at_most(Part& part, double most, const std::string& what) {
  const Figure* const ours = judged(part);
  if (ours == nullptr) return;
  const double value = ours->samples.median();
  judge(part, what, with_unit(value, part.unit), "≤ " + with_unit(most, part.unit), value <= most);
}

void judge(Part& part, std::string what, std::string ours, std::string target, bool met) {
  part.verdicts.push_back({std::move(what), std::move(ours), "", "", std::move(target), met});
}

std::string number(double value) {
  const double size = std::abs(value);
  if (size >= 1000) return fmt::format("{:.0f}", value);
  if (size >= 100) return fmt::format("{:.0f}", value);
  return size >= 10 ? fmt::format("{:.1f}", value) : fmt::format("{:.2f}", value);
}

std::string size_text(double bytes) {
  return to_string(Bytes{static_cast<std::uint64_t>(std::max(bytes, 0.0))});
}

Part part_of(Row& row, std::string title, std::string unit, const std::vector<Arm>& arms) {
  Part part;
  part.title = std::move(title);
  part.unit = std::move(unit);
  for (const Arm& arm : arms) {
    part.figures.push_back(
        {arm.name, arm.role, arm.samples, arm.only_once ? "one round only: slow" : arm.trouble});
    const bool is_ours = arm.name.rfind(kRaw, 0) == 0;
    if (is_ours && !arm.trouble.empty()) {
      row.failures.push_back(fmt::format("{}: {}: {}", part.title, arm.name, arm.trouble));
    }
  }
  return part;
}

std::string summary(const std::vector<Row>& rows, Format format) {
  std::vector<Line> lines{{"row", "work", "ours", "best peer", "ratio", "target", ""}};
  for (const Row& row : rows) {
    for (const Part& part : row.parts) {
      for (const Verdict& verdict : part.verdicts) {
        const std::string what =
            verdict.what.empty() ? part.title : part.title + ": " + verdict.what;
        lines.push_back({row.id, what, verdict.ours, verdict.best, verdict.ratio, verdict.target,
                         verdict.met ? "met" : "MISSED"});
      }
    }
  }
  return lines.size() == 1 ? "" : table(lines, format);
}

std::string details(const Row& row, Format format) {
  std::string text = format == Format::markdown ? fmt::format("### {}: {}\n", row.id, row.title)
                                                : fmt::format("{}: {}\n", row.id, row.title);
  for (const Part& part : row.parts) {
    const std::string unit = part.unit.empty() ? "" : ", " + part.unit;
    text += fmt::format("\n{}{}\n{}", part.title, unit, format == Format::markdown ? "\n" : "");
    std::vector<Line> lines{{"who", "median", "least - most", "of the best peer", ""}};
    for (const Figure& figure : part.figures) lines.push_back(figure_line(part, figure));
    if (lines.size() > 1) text += table(lines, format);
    for (const std::string& note : part.notes) {
      text += fmt::format("{}{}\n", format == Format::markdown ? "\n" : "  ", note);
    }
  }
  for (const std::string& failure : row.failures) text += fmt::format("  FAILED: {}\n", failure);
  return text;
}

std::string matrix(const std::vector<Row>& rows, Format format) {
  constexpr std::size_t kFewest = 3;  // figures that make a comparison
  Line names;
  std::vector<const Part*> parts;
  for (const Row& row : rows) {
    for (const Part& part : row.parts) {
      if (part.figures.size() < kFewest) continue;
      parts.push_back(&part);
      for (const Figure& figure : part.figures) {
        const bool known = std::find(names.begin(), names.end(), figure.name) != names.end();
        if (!known) names.push_back(figure.name);
      }
    }
  }
  if (parts.empty()) return "";
  std::vector<Line> lines{{"work"}};
  lines[0].insert(lines[0].end(), names.begin(), names.end());
  for (const Part* const part : parts) {
    Line line{part->title + ", " + part->unit};
    for (const std::string& name : names) {
      const Figure* const figure = find(*part, name);
      line.push_back(figure == nullptr ? "-" : spread(figure->samples));
    }
    lines.push_back(std::move(line));
  }
  return table(lines, format);
}

std::string to_json(const Report& report) {
  nlohmann::json out{{"machine", report.machine}, {"command", report.command}};
  out["peers"] = report.peers;
  out["rows"] = nlohmann::json::array();
  for (const Row& row : report.rows) out["rows"].push_back(to_json(row));
  return out.dump(2) + "\n";
}

std::string to_line(const Row& row) { return to_json(row).dump() + "\n"; }

Row row_from_line(const std::string& line) {
  try {
    return row_from(nlohmann::json::parse(line));
  } catch (const nlohmann::json::exception& error) {
    throw std::runtime_error{fmt::format("not a row: {}", error.what())};
  }
}

Report report_from_json(const std::string& text) {
  try {
    const auto json = nlohmann::json::parse(text);
    Report report{json.at("machine"),
                  json.at("command"),
                  json.at("peers").get<std::vector<std::string>>(),
                  {}};
    for (const auto& row : json.at("rows")) report.rows.push_back(row_from(row));
    return report;
  } catch (const nlohmann::json::exception& error) {
    throw std::runtime_error{fmt::format("not what --json writes: {}", error.what())};
  }
}

std::string machine_line() {
  utsname system{};
  uname(&system);
  double load = 0;
  getloadavg(&load, 1);
  struct sysinfo memory {};
  sysinfo(&memory);
  return fmt::format(
      "{:%Y-%m-%d %H:%M} UTC; {} x {}; {}; Linux {}; gcc {}; huge pages: {}; load {:.1f}",
      fmt::gmtime(std::time(nullptr)), std::thread::hardware_concurrency(), cpu_model(),
      size_text(static_cast<double>(memory.totalram) * memory.mem_unit), system.release,
      __VERSION__, huge_page_policy(), load);
}

}  // namespace forebay::bench
