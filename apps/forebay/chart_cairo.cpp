// Charts with cairo: one picture of two panels that share the axis of operations.
#include <cairo-svg.h>
#include <cairo.h>
#include <fmt/format.h>
#include <fontconfig/fontconfig.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>

#include "chart.hpp"
#include "forebay/config.hpp"

namespace forebay::app {
namespace {

using trace::Replay;
using trace::ReplayRun;
using trace::Sample;

constexpr double kWidth = 1120, kHeight = 700;
constexpr double kPngScale = 2;  // sharp on dense screens
constexpr double kLeft = 96, kRight = 1088;
constexpr double kTopPanel = 158, kTopPanelEnd = 452;
constexpr double kLowPanel = 510, kLowPanelEnd = 630;
constexpr const char* kFont = "DejaVu Sans";

struct Colour {
  double red, green, blue;
};
constexpr Colour of_hex(unsigned rgb) {
  return {((rgb >> 16) & 0xFF) / 255.0, ((rgb >> 8) & 0xFF) / 255.0, (rgb & 0xFF) / 255.0};
}
constexpr Colour kInk = of_hex(0x1F2933), kFaint = of_hex(0x67727E), kGrid = of_hex(0xE4E8EC),
                 kAxis = of_hex(0xA9B2BC), kLive = of_hex(0xDCE6EE), kLiveEdge = of_hex(0x8FA8BC);
// Okabe and Ito's palette, which colour-blind readers can tell apart, without its yellow.
constexpr std::array kColours{of_hex(0x0072B2), of_hex(0xD55E00), of_hex(0x009E73),
                              of_hex(0xCC79A7), of_hex(0x56B4E9), of_hex(0xE69F00)};
// Lines lie on each other where configurations agree: later ones are thinner.
constexpr double kThickest = 3.4, kThinnest = 1.5;

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

// The least of 1, 2, 2.5, 5 times a power of ten that cuts `most` into at most `parts`.
double step_of(double most, int parts) {
  const double raw = std::max(most, 1e-9) / parts;
  const double power = std::pow(10, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 2.5, 5.0}) {
    if (factor * power >= raw * 0.999) return factor * power;
  }
  return 10 * power;
}

// "12 500"; decimals only where the step has some.
std::string tick_text(double value, double step) {
  if (step < 1) return fmt::format("{:.{}f}", value, step * 10 == std::floor(step * 10) ? 1 : 2);
  if (step != std::floor(step)) return fmt::format("{:.1f}", value);
  std::string digits = fmt::format("{:.0f}", value);
  for (std::size_t at = digits.size(); at > 3 && digits.size() > 4;) {
    at -= 3;
    digits.insert(at, " ");
  }
  return digits;
}

// A canvas with what the panels draw on it.
class Canvas {
 public:
  explicit Canvas(cairo_t* cairo) : cairo_(cairo) {}

  void colour(Colour c, double alpha = 1) const {
    cairo_set_source_rgba(cairo_, c.red, c.green, c.blue, alpha);
  }
  void fill(Colour c) const {
    colour(c);
    cairo_paint(cairo_);
  }
  void line(double x0, double y0, double x1, double y1, Colour c, double width = 1) const {
    colour(c);
    cairo_set_line_width(cairo_, width);
    cairo_move_to(cairo_, x0, y0);
    cairo_line_to(cairo_, x1, y1);
    cairo_stroke(cairo_);
  }
  double width_of(const std::string& text, double size, bool bold = false) const {
    font(size, bold);
    cairo_text_extents_t extents{};
    cairo_text_extents(cairo_, text.c_str(), &extents);
    return extents.x_advance;
  }
  // `anchor`: the share of the text that stands left of x.
  void text(const std::string& text, double x, double y, double size, Colour c, double anchor = 0,
            bool bold = false) const {
    const double shift = anchor == 0 ? 0 : anchor * width_of(text, size, bold);
    font(size, bold);
    colour(c);
    cairo_move_to(cairo_, x - shift, y);
    cairo_show_text(cairo_, text.c_str());
  }
  cairo_t* cairo() const { return cairo_; }

 private:
  void font(double size, bool bold) const {
    cairo_select_font_face(cairo_, kFont, CAIRO_FONT_SLANT_NORMAL,
                           bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(cairo_, size);
  }

  cairo_t* cairo_;
};

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

double width_at(std::size_t index, std::size_t count) {
  if (count < 2) return 2.2;
  return kThickest -
         (kThickest - kThinnest) * static_cast<double>(index) / static_cast<double>(count - 1);
}

class Picture {
 public:
  Picture(cairo_t* cairo, const Replay& replay, const std::string& title)
      : canvas_(cairo), replay_(replay), title_(title) {}

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
  Colour colour_of(std::size_t index) const { return kColours[index % kColours.size()]; }
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

bool is_svg(const std::string& file) { return file.ends_with(".svg"); }
bool is_png(const std::string& file) { return file.ends_with(".png"); }

cairo_status_t append(void* closure, const unsigned char* data, unsigned length) {
  try {
    static_cast<std::string*>(closure)->append(reinterpret_cast<const char*>(data), length);
  } catch (const std::bad_alloc&) {
    return CAIRO_STATUS_NO_MEMORY;
  }
  return CAIRO_STATUS_SUCCESS;
}

struct SurfaceEnd {
  void operator()(cairo_surface_t* surface) const { cairo_surface_destroy(surface); }
};
struct CairoEnd {
  void operator()(cairo_t* cairo) const { cairo_destroy(cairo); }
};

// The picture's bytes, or empty if cairo could not.
std::string render(const Replay& replay, const std::string& title, bool svg) {
  std::string bytes;
  const std::unique_ptr<cairo_surface_t, SurfaceEnd> surface{
      svg ? cairo_svg_surface_create_for_stream(append, &bytes, kWidth, kHeight)
          : cairo_image_surface_create(CAIRO_FORMAT_RGB24, static_cast<int>(kWidth * kPngScale),
                                       static_cast<int>(kHeight * kPngScale))};
  const std::unique_ptr<cairo_t, CairoEnd> cairo{cairo_create(surface.get())};
  if (!svg) cairo_scale(cairo.get(), kPngScale, kPngScale);
  Picture{cairo.get(), replay, title}.draw();
  cairo_surface_flush(surface.get());
  if (!svg && cairo_surface_write_to_png_stream(surface.get(), append, &bytes) != 0) return {};
  cairo_surface_finish(surface.get());
  const bool drawn = cairo_status(cairo.get()) == CAIRO_STATUS_SUCCESS &&
                     cairo_surface_status(surface.get()) == CAIRO_STATUS_SUCCESS;
  return drawn ? bytes : std::string{};
}

}  // namespace

Status check_chart(const std::string& file) {
  if (!is_svg(file) && !is_png(file)) {
    return {Code::invalid_argument,
            fmt::format("--chart: {} is not allowed; allowed: a file that ends in .svg or .png",
                        printable(file))};
  }
  const std::filesystem::path folder = std::filesystem::path{file}.parent_path();
  std::error_code error;
  if (!folder.empty() && !std::filesystem::is_directory(folder, error)) {
    return {Code::invalid_argument,
            fmt::format("--chart: {}: no such folder", printable(folder.string()))};
  }
  if (std::filesystem::is_directory(file, error)) {
    return {Code::invalid_argument,
            fmt::format("--chart: cannot write {}: it is a folder", printable(file))};
  }
  return {};
}

Status draw_chart(const Replay& replay, const std::string& title, const std::string& file) {
  if (Status status = check_chart(file); !status.ok()) return status;
  const std::string bytes = render(replay, title, is_svg(file));
  // Fonts are kept for a next picture. There is none, and a leak checker should find no leak.
  cairo_debug_reset_static_data();
  FcFini();
  if (bytes.empty()) return {Code::io_error, "--chart: cairo could not draw the chart"};
  errno = 0;
  std::ofstream out{file, std::ios::binary | std::ios::trunc};
  out << bytes;
  out.close();
  if (out.good()) return {};
  return {Code::io_error,
          fmt::format("--chart: cannot write {}: {}", printable(file), std::strerror(errno))};
}

}  // namespace forebay::app
