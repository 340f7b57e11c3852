// The chart of a replay of caches: miss ratios over the capacity, which is a logarithmic axis.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "chart.hpp"
#include "chart_canvas.hpp"

namespace forebay::app {
namespace {

using trace::CacheCurve;
using trace::CacheReplay;
using trace::CurvePoint;

constexpr double kWidth = 1120, kHeight = 640;
constexpr double kLeft = 96, kRight = 1088;
constexpr double kTop = 158, kBottom = 560;
constexpr std::array kDashes{7.0, 5.0};

// "0.18", "5.6", "100": two digits that count.
std::string share_text(double share) {
  const double percent = 100 * share;
  return percent >= 99.5 ? "100" : fmt::format("{:.2g}", percent);
}

class CurvePicture {
 public:
  CurvePicture(const Canvas& canvas, const CacheReplay& replay, const std::string& title)
      : canvas_(canvas), replay_(replay), title_(title) {
    double most = 0;
    for (const CacheCurve& curve : replay.curves) {
      for (const CurvePoint& point : curve.points) most = std::max(most, value(point));
    }
    step_ = step_of(100 * std::max(most, 0.001), 6);
    top_ = std::min(100.0, std::ceil(100 * most / step_ - 0.05) * step_);
    top_ = std::max(top_, step_);
    least_share_ = replay.curves[0].points.front().share;
  }

  void draw() {
    canvas_.fill(of_hex(0xFFFFFF));
    draw_title();
    draw_legend();
    draw_axes();
    for (std::size_t i = 0; i < replay_.curves.size(); ++i) draw_curve(i);
  }

 private:
  double value(const CurvePoint& point) const { return point.misses.of(replay_.objective); }
  double x(double share) const {
    return kRight + std::log(share) / -std::log(least_share_) * (kRight - kLeft);
  }
  double y(double percent) const { return kBottom - percent / top_ * (kBottom - kTop); }

  std::string_view objective() const {
    switch (replay_.objective) {
      case detail::Objective::objects:
        return "requests that miss, %";
      case detail::Objective::bytes:
        return "bytes that miss, %";
      case detail::Objective::cost:
        break;
    }
    return "cost of what misses, %";
  }

  void draw_title() const {
    canvas_.text(title_, kLeft, 44, 21, kInk, 0, true);
    const std::string best = replay_.best ? replay_.runs[*replay_.best].policy : "none";
    canvas_.text(
        fmt::format("{} objects   ·   best: {}, {}", replay_.demand.objects, best, replay_.reason),
        kLeft, 68, 13.5, kFaint);
    canvas_.text(std::string{objective()}, kLeft, kTop - 16, 13, kInk, 0, true);
    canvas_.text("capacity, % of the bytes of all objects", (kLeft + kRight) / 2, kBottom + 48, 13,
                 kInk, 0.5);
  }

  void draw_legend() const {
    double at = kLeft, line = 98;
    for (std::size_t i = 0; i < replay_.curves.size(); ++i) {
      const std::string& name = replay_.curves[i].policy;
      const double width = 34 + canvas_.width_of(name, 13) + 24;
      if (at + width > kRight + 24) {
        at = kLeft;
        line += 20;
      }
      dash(i);
      canvas_.line(at, line, at + 26, line, colour(i), width_at(i, replay_.curves.size()));
      cairo_set_dash(canvas_.cairo(), nullptr, 0, 0);
      canvas_.text(name, at + 34, line + 4.5, 13, kInk);
      at += width;
    }
  }

  void draw_axes() const {
    for (int i = 0; i * step_ <= top_ * 1.0001; ++i) {
      const double at = std::round(y(i * step_)) + 0.5;
      canvas_.line(kLeft, at, kRight, at, kGrid);
      canvas_.text(tick_text(i * step_, step_), kLeft - 12, at + 4, 12.5, kFaint, 1);
    }
    canvas_.line(kLeft, kBottom + 0.5, kRight, kBottom + 0.5, kAxis);
    for (const CurvePoint& point : replay_.curves[0].points) {
      const double at = std::round(x(point.share)) + 0.5;
      canvas_.line(at, kBottom, at, kBottom + 5, kAxis);
      canvas_.text(share_text(point.share), at, kBottom + 22, 12.5, kFaint, 0.5);
    }
  }

  // The offline optimum is none to choose.
  Colour colour(std::size_t index) const {
    return replay_.curves[index].offline ? kInk : colour_of(index);
  }
  // And lines whose colour was given before.
  void dash(std::size_t index) const {
    if (replay_.curves[index].offline || index >= kPaletteColours) {
      cairo_set_dash(canvas_.cairo(), kDashes.data(), kDashes.size(), 0);
    }
  }

  void draw_curve(std::size_t index) const {
    cairo_t* const cairo = canvas_.cairo();
    const auto rounded = [](double at) { return std::round(at * 4) / 4; };
    cairo_new_path(cairo);
    for (const CurvePoint& point : replay_.curves[index].points) {
      cairo_line_to(cairo, rounded(x(point.share)), rounded(y(100 * value(point))));
    }
    canvas_.colour(colour(index));
    cairo_set_line_width(cairo, width_at(index, replay_.curves.size()));
    cairo_set_line_join(cairo, CAIRO_LINE_JOIN_ROUND);
    dash(index);
    cairo_stroke(cairo);
    cairo_set_dash(cairo, nullptr, 0, 0);
  }

  Canvas canvas_;
  const CacheReplay& replay_;
  const std::string& title_;
  double step_ = 10, top_ = 100, least_share_ = 0.001;
};

}  // namespace

Status draw_curves(const CacheReplay& replay, const std::string& title, const std::string& file) {
  return save_picture(file, {kWidth, kHeight}, [&](const Canvas& canvas) {
    CurvePicture{canvas, replay, title}.draw();
  });
}

}  // namespace forebay::app
