// What charts are drawn with: cairo, and the look that they share.
#pragma once

#include <cairo.h>

#include <functional>
#include <string>

#include "forebay/status.hpp"

namespace forebay::app {

struct Colour {
  double red, green, blue;
};
constexpr Colour of_hex(unsigned rgb) {
  return {((rgb >> 16) & 0xFF) / 255.0, ((rgb >> 8) & 0xFF) / 255.0, (rgb & 0xFF) / 255.0};
}
inline constexpr Colour kInk = of_hex(0x1F2933), kFaint = of_hex(0x67727E),
                        kGrid = of_hex(0xE4E8EC), kAxis = of_hex(0xA9B2BC);
// Of lines, in their order: colours that colour-blind readers can tell apart.
inline constexpr std::size_t kPaletteColours = 6;
Colour colour_of(std::size_t index) noexcept;  // again from the first after so many
// Lines lie on each other where they agree: later ones are thinner.
double width_at(std::size_t index, std::size_t count) noexcept;
inline constexpr double kThinnest = 1.5;

// The least of 1, 2, 2.5, 5 times a power of ten that cuts `most` into at most `parts`.
double step_of(double most, int parts);
// "12 500"; decimals only where the step has some.
std::string tick_text(double value, double step);

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
    cairo_select_font_face(cairo_, "DejaVu Sans", CAIRO_FONT_SLANT_NORMAL,
                           bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(cairo_, size);
  }

  cairo_t* cairo_;
};

struct PictureSize {
  double width, height;
};
// Draws on a new picture and writes it: SVG, or PNG if the name ends so. Errors: those of
// check_chart; io_error.
Status save_picture(const std::string& file, PictureSize size,
                    const std::function<void(const Canvas&)>& draw);

}  // namespace forebay::app
