// The chart of a replay of allocations: two panels that share the axis of operations.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

#include "chart.hpp"
#include "chart_canvas.hpp"

namespace forebay::app {
namespace {

using trace::Replay;
using trace::ReplayRun;
using trace::Sample;

constexpr double kWidth = 1120, kHeight = 700;
constexpr double kLeft = 96, kRight = 1088;
constexpr double kTopPanel = 158, kTopPanelEnd = 452;
constexpr double kLowPanel = 510, kLowPanelEnd = 630;
constexpr Colour kLive = of_hex(0xDCE6EE), kLiveEdge = of_hex(0x8FA8BC);

struct Unit {
  double bytes;
  std::string_view name;
};
Unit unit_of(double most) {
  constexpr std::array kUnits{Unit{1ULL << 40, "TiB"}, Unit{1ULL << 30, "GiB"},
                              Unit{1ULL << 20, "MiB"}, Unit{1ULL << 10, "KiB"}};
  const auto* const fits =
      std::ranges::find_if(kUnits, [most](const Unit& unit) { return most >= unit.bytes; });
  return fits == kUnits.end() ? Unit{1, "bytes"} : *fits;
}

// Axes of one panel: operations to the right, a value upwards.
struct Panel {
  double top, bottom;
  double most_x, most_y;

  double x(double operation) const { return kLeft + operation / most_x * (kRight - kLeft); }
  double y(double value) const { return bottom - value / most_y * (bottom - top); }
};

using Value = std::function<double(const Sample&)>;

// Values hold until the next look: steps, not slopes.
void trace_path(const Canvas& canvas, const Panel& panel, const ReplayRun& run,
                const Value& value) {
  cairo_new_path(canvas.cairo());
  // Quarters are exact in cairo's numbers, and short in a file.
  const auto rounded = [](double at) { return std::round(at * 4) / 4; };
  double last = panel.bottom, x = kLeft;
  for (const Sample& sample : run.samples) {
    x = rounded(panel.x(static_cast<double>(sample.operation)));
    const double y = rounded(panel.y(value(sample)));
    if (y == last) continue;
    cairo_line_to(canvas.cairo(), x, last);
    cairo_line_to(canvas.cairo(), x, y);
    last = y;
  }
  cairo_line_to(canvas.cairo(), x, last);
}

void draw_line(const Canvas& canvas, const Panel& panel, const ReplayRun& run, Colour c,
               double width, const Value& value) {
  trace_path(canvas, panel, run, value);
  canvas.colour(c);
  cairo_set_line_width(canvas.cairo(), width);
  cairo_set_line_join(canvas.cairo(), CAIRO_LINE_JOIN_ROUND);
  cairo_stroke(canvas.cairo());
}

void draw_area(const Canvas& canvas, const Panel& panel, const ReplayRun& run, const Value& value) {
  trace_path(canvas, panel, run, value);
  cairo_line_to(canvas.cairo(), panel.x(panel.most_x), panel.bottom);
  cairo_line_to(canvas.cairo(), kLeft, panel.bottom);
  cairo_close_path(canvas.cairo());
  canvas.colour(kLive);
  cairo_fill(canvas.cairo());
  draw_line(canvas, panel, run, kLiveEdge, 1, value);
}

void draw_grid(const Canvas& canvas, const Panel& panel, double step, double scale) {
  for (int i = 0; i * step <= panel.most_y * 1.0001; ++i) {
    const double y = std::round(panel.y(i * step)) + 0.5;
    canvas.line(kLeft, y, kRight, y, kGrid);
    canvas.text(tick_text(i * step * scale, step * scale), kLeft - 12, y + 4, 12.5, kFaint, 1);
  }
}

void draw_operations_axis(const Canvas& canvas, const Panel& panel, bool labelled) {
  canvas.line(kLeft, panel.bottom + 0.5, kRight, panel.bottom + 0.5, kAxis);
  const double step = std::max(1.0, step_of(panel.most_x, 9));
  for (int i = 0; i * step <= panel.most_x; ++i) {
    const double x = std::round(panel.x(i * step)) + 0.5;
    canvas.line(x, panel.bottom, x, panel.bottom + 5, kAxis);
    if (labelled) {
      canvas.text(tick_text(i * step, step), x, panel.bottom + 22, 12.5, kFaint, 0.5);
    }
  }
}

class Picture {
 public:
  Picture(const Canvas& canvas, const Replay& replay, const std::string& title)
      : canvas_(canvas), replay_(replay), title_(title) {}

  void draw() {
    canvas_.fill(of_hex(0xFFFFFF));
    draw_title();
    draw_legend();
    draw_memory();
    draw_fragmentation();
    canvas_.text("operations (allocations and frees)", (kLeft + kRight) / 2, kLowPanelEnd + 48, 13,
                 kInk, 0.5);
  }

 private:
  double operations() const {
    return static_cast<double>(std::max<std::uint64_t>(1, replay_.demand.operations));
  }

  void draw_title() const {
    canvas_.text(title_, kLeft, 44, 21, kInk, 0, true);
    canvas_.text(fmt::format("peak live {}   ·   recommended: {}",
                             to_string(replay_.demand.peak_live), recommended()),
                 kLeft, 68, 13.5, kFaint);
  }
  std::string recommended() const {
    if (!replay_.recommended) return "none";
    const ReplayRun& best = replay_.runs[*replay_.recommended];
    return fmt::format("{}, {:.0f} ns of CPU an operation, reserves {} at its peak", best.name,
                       best.ns_per_operation, to_string(best.peak_reserved));
  }

  // Swatches in rows, from the left.
  void draw_legend() const {
    double x = kLeft, y = 98;
    const auto add = [&](const std::string& name,
                         const std::function<void(double, double)>& swatch) {
      const double width = 34 + canvas_.width_of(name, 13) + 24;
      if (x + width > kRight + 24) {
        x = kLeft;
        y += 20;
      }
      swatch(x, y);
      canvas_.text(name, x + 34, y + 4.5, 13, kInk);
      x += width;
    };
    add("live", [&](double left, double middle) {
      canvas_.colour(kLive);
      cairo_rectangle(canvas_.cairo(), left, middle - 6, 26, 12);
      cairo_fill(canvas_.cairo());
      canvas_.line(left, middle - 6, left + 26, middle - 6, kLiveEdge);
    });
    for (std::size_t i = 0; i < replay_.runs.size(); ++i) {
      add(replay_.runs[i].name, [&](double left, double middle) {
        canvas_.line(left, middle, left + 26, middle, colour_of(i),
                     width_at(i, replay_.runs.size()));
      });
    }
  }

  void draw_memory() const {
    double most = 1;
    for (const ReplayRun& run : replay_.runs) {
      most = std::max(most, static_cast<double>(run.peak_reserved.count()));
    }
    most = std::max(most, static_cast<double>(replay_.demand.peak_live.count()));
    const Unit unit = unit_of(most);
    const double step = step_of(most / unit.bytes, 6);
    const double top = std::ceil(most / unit.bytes / step - 0.05) * step;
    const Panel panel{kTopPanel, kTopPanelEnd, operations(), top * unit.bytes};
    heading(panel, fmt::format("reserved and live, {}", unit.name));
    const Value live = [](const Sample& s) { return static_cast<double>(s.live.count()); };
    const Value reserved = [](const Sample& s) { return static_cast<double>(s.reserved.count()); };
    const auto served = std::ranges::max_element(replay_.runs, {}, &ReplayRun::peak_served);
    draw_grid(canvas_, panel, step * unit.bytes, 1 / unit.bytes);
    draw_area(canvas_, panel, *served, live);
    for (std::size_t i = 0; i < replay_.runs.size(); ++i) {
      draw_line(canvas_, panel, replay_.runs[i], colour_of(i), width_at(i, replay_.runs.size()),
                reserved);
    }
    draw_operations_axis(canvas_, panel, false);
  }

  void draw_fragmentation() const {
    double most = 0.1;
    for (const ReplayRun& run : replay_.runs) most = std::max(most, run.fragmentation.most);
    const double step = step_of(100 * most, 4);
    const double top = std::min(100.0, std::ceil(100 * most / step - 0.05) * step);
    const Panel panel{kLowPanel, kLowPanelEnd, operations(), top};
    heading(panel, "fragmentation of idle memory, %");
    draw_grid(canvas_, panel, step, 1);
    const Value percent = [](const Sample& s) { return 100 * s.fragmentation; };
    for (std::size_t i = 0; i < replay_.runs.size(); ++i) {
      if (replay_.runs[i].direct) continue;  // no pool, nothing idle
      draw_line(canvas_, panel, replay_.runs[i], colour_of(i), kThinnest, percent);
    }
    draw_operations_axis(canvas_, panel, true);
  }

  void heading(const Panel& panel, const std::string& text) const {
    canvas_.text(text, kLeft, panel.top - 16, 13, kInk, 0, true);
  }

  Canvas canvas_;
  const Replay& replay_;
  const std::string& title_;
};

}  // namespace

Status draw_chart(const Replay& replay, const std::string& title, const std::string& file) {
  return save_picture(file, {kWidth, kHeight}, [&](const Canvas& canvas) {
    Picture{canvas, replay, title}.draw();
  });
}

}  // namespace forebay::app
