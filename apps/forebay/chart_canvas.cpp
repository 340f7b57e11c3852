#include "chart_canvas.hpp"

#include <cairo-svg.h>
#include <fmt/format.h>
#include <fontconfig/fontconfig.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>

#include "chart.hpp"
#include "forebay/config.hpp"

namespace forebay::app {
namespace {

constexpr double kPngScale = 2;  // sharp on dense screens
constexpr double kThickest = 3.4;
// Okabe and Ito's palette, which colour-blind readers can tell apart, without its yellow.
constexpr std::array<Colour, kPaletteColours> kColours{of_hex(0x0072B2), of_hex(0xD55E00),
                                                       of_hex(0x009E73), of_hex(0xCC79A7),
                                                       of_hex(0x56B4E9), of_hex(0xE69F00)};
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
std::string render(PictureSize size, bool svg, const std::function<void(const Canvas&)>& draw) {
  std::string bytes;
  const std::unique_ptr<cairo_surface_t, SurfaceEnd> surface{
      svg ? cairo_svg_surface_create_for_stream(append, &bytes, size.width, size.height)
          : cairo_image_surface_create(CAIRO_FORMAT_RGB24, static_cast<int>(size.width * kPngScale),
                                       static_cast<int>(size.height * kPngScale))};
  const std::unique_ptr<cairo_t, CairoEnd> cairo{cairo_create(surface.get())};
  if (!svg) cairo_scale(cairo.get(), kPngScale, kPngScale);
  draw(Canvas{cairo.get()});
  cairo_surface_flush(surface.get());
  if (!svg && cairo_surface_write_to_png_stream(surface.get(), append, &bytes) != 0) return {};
  cairo_surface_finish(surface.get());
  const bool drawn = cairo_status(cairo.get()) == CAIRO_STATUS_SUCCESS &&
                     cairo_surface_status(surface.get()) == CAIRO_STATUS_SUCCESS;
  return drawn ? bytes : std::string{};
}

}  // namespace

Colour colour_of(std::size_t index) noexcept { return kColours[index % kColours.size()]; }

double width_at(std::size_t index, std::size_t count) noexcept {
  if (count < 2) return 2.2;
  return kThickest -
         (kThickest - kThinnest) * static_cast<double>(index) / static_cast<double>(count - 1);
}

double step_of(double most, int parts) {
  const double raw = std::max(most, 1e-9) / parts;
  const double power = std::pow(10, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 2.5, 5.0}) {
    if (factor * power >= raw * 0.999) return factor * power;
  }
  return 10 * power;
}

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

Status save_picture(const std::string& file, PictureSize size,
                    const std::function<void(const Canvas&)>& draw) {
  if (Status status = check_chart(file); !status.ok()) return status;
  const std::string bytes = render(size, is_svg(file), draw);
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
