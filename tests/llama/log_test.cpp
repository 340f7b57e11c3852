#include "llama/log.hpp"

#include <gtest/gtest.h>

#include <stdexcept>
#include <vector>

namespace forebay::llama {
namespace {

struct LogTest : ::testing::Test {
  void TearDown() override { set_sink(nullptr); }
};

TEST_F(LogTest, GivesWholeLinesToTheSink) {
  std::vector<std::string> lines;
  set_sink([&](std::string_view line) { lines.emplace_back(line); });
  log_text("a par", false);
  log_text("t\n\nanother\nopen", true);
  EXPECT_EQ(lines, (std::vector<std::string>{"a part", "another"}));
  log_text("\n", false);
  EXPECT_EQ(lines.back(), "open");
}

TEST_F(LogTest, ASinkThatThrowsLosesItsLineOnly) {
  int calls = 0;
  set_sink([&](std::string_view) {
    if (++calls == 1) throw std::runtime_error("full");
  });
  log_text("one\n", false);
  log_text("two\n", false);
  log_text(nullptr, false);
  EXPECT_EQ(calls, 2);
}

TEST_F(LogTest, ACaptureKeepsTheFirstErrorAndSeesInnerOnes) {
  const LogCapture outer;
  {
    const LogCapture inner;
    log_text("note\n", false);
    log_text("  the cause.\n", true);
    log_text("what followed\n", true);
    EXPECT_EQ(inner.first_error_or("x"), "the cause");
  }
  EXPECT_EQ(outer.text(), "note\n  the cause.\nwhat followed\n");
  EXPECT_EQ(outer.first_error_or("x"), "the cause");
  EXPECT_EQ(LogCapture().first_error_or("thrown"), "thrown");
  EXPECT_EQ(LogCapture().first_error_or(""), "no reason given");
}

TEST(ComputeBytesInLog, SumsTheBuffersRoundedUp) {
  EXPECT_EQ(compute_bytes_in_log("nothing of the kind"), std::nullopt);
  const auto bytes = compute_bytes_in_log(
      "x: CPU compute buffer size =    21.52 MiB\nx: KV buffer size = 9 MiB\n"
      "x: GPU compute buffer size =     1.00 MiB\n");
  ASSERT_TRUE(bytes.has_value());
  EXPECT_EQ(bytes->count(), static_cast<std::uint64_t>(21.53 * 1048576) +
                                static_cast<std::uint64_t>(1.01 * 1048576));
}

}  // namespace
}  // namespace forebay::llama
