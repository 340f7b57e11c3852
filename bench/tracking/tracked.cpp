// The work that is also done without tracking, with each of its grades.

#include <filesystem>
#include <memory>
#include <stdexcept>

#include "forebay/telemetry.hpp"
#include "forebay/tracker.hpp"
#include "pool/measure.hpp"
#include "tracking/heavy_work.hpp"
#include "tracking/step_work.hpp"
#include "tracking/work.hpp"

namespace forebay::bench {
namespace {

void set_grade(TrackingGrade grade, StackMethod stacks = StackMethod::automatic) {
  TrackerOptions options;
  options.grade = grade;
  options.stacks = stacks;
  Tracker::set_options(options).throw_if_error();
}

void set_grade(const std::string& name) {
  for (const auto grade :
       {TrackingGrade::off, TrackingGrade::counters, TrackingGrade::sampled, TrackingGrade::full}) {
    if (name == to_string(grade)) return set_grade(grade);
  }
  if (name == "tables") return set_grade(TrackingGrade::full, StackMethod::unwind_tables);
  throw std::runtime_error{"no grade " + name};
}

// With every event in a file, and what that came to.
Figures recorded_heavy_work(const WorkOptions& options) {
  set_grade(TrackingGrade::full);
  const std::string path = options.folder + "/events";
  const double start = process_cpu_ns();
  Tracker::record_to(path).throw_if_error();
  heavy_work(Supplier::pool, options.count);
  Figures figures{{"peak_bytes", peak_bytes()}};
  const double closing = process_cpu_ns();
  Tracker::stop_recording().throw_if_error();
  figures["close_ms"] = (process_cpu_ns() - closing) / 1e6;
  const auto pairs = static_cast<double>(options.count);
  figures["cpu_ns"] = (process_cpu_ns() - start) / pairs;
  figures["bytes_an_event"] = static_cast<double>(std::filesystem::file_size(path)) / (2 * pairs);
  std::filesystem::remove(path);
  return figures;
}

}  // namespace

Figures tracked_heavy_work(const WorkOptions& options) {
  Figures figures;
  if (options.variant == "recorded") {
    figures = recorded_heavy_work(options);
  } else {
    set_grade(options.variant);
    figures = heavy_work(Supplier::pool, options.count);
  }
  figures["metadata_bytes"] = static_cast<double>(Tracker::metadata().count());
  figures["dropped"] = static_cast<double>(Tracker::dropped());
  return figures;
}

// "default" and "everything" (the timeline and a publisher too); ending in "-written": with
// tensors written.
Figures tracked_step_work(const WorkOptions& options) {
  set_grade(TrackingGrade::sampled);
  std::unique_ptr<Publisher> publisher;
  if (options.variant.starts_with("everything")) {
    Timeline::start().throw_if_error();
    PublishOptions publishing;
    publishing.directory = options.folder;
    publisher = Publisher::start(publishing).value();
  }
  const bool written = options.variant.ends_with("-written");
  Figures figures = step_work(written ? Tensors::written : Tensors::untouched, options.count);
  figures["metadata_bytes"] = static_cast<double>(Tracker::metadata().count());
  figures["events"] = static_cast<double>(Timeline::recorded());
  return figures;
}

}  // namespace forebay::bench
