#include "terminal.hpp"

#include <gtest/gtest.h>

namespace forebay::app {
namespace {

using enum Table::Align;

TEST(Table, AlignsColumnsAndEndsLinesClean) {
  Table table{{left, right, left}};
  table.add({"a", "1", "x"});
  table.add({"long", "200", ""});
  EXPECT_EQ(table.text(), "  a       1  x\n  long  200\n");
}

TEST(Table, CountsCharactersNotBytesOrColours) {
  Table table{{left, left}};
  table.add({Painter{true}(Style::good, "ü"), "x"});
  table.add({"ab", "y"});
  EXPECT_EQ(table.text(0), "\x1b[32mü\x1b[0m   x\nab  y\n");
}

TEST(Table, FillsMissingCells) {
  Table table{{left, left}};
  table.add({"a"});
  EXPECT_EQ(table.text(), "  a\n");
}

TEST(Painter, LeavesTextAloneWithoutColours) {
  EXPECT_EQ(Painter{false}(Style::bold, "x"), "x");
  EXPECT_EQ(Painter{true}(Style::bad, "x"), "\x1b[31mx\x1b[0m");
}

}  // namespace
}  // namespace forebay::app
