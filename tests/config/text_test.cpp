#include <gtest/gtest.h>

#include <array>

#include "forebay/config.hpp"

namespace forebay {
namespace {

constexpr std::array<std::string_view, 4> kWords{"seed", "soft", "max_memory_gb", "max_tokens"};

TEST(ClosestMatch, FindsOneTypingError) {
  EXPECT_EQ(closest_match("max_memroy_gb", kWords), "max_memory_gb");
  EXPECT_EQ(closest_match("sead", kWords), "seed");
  EXPECT_EQ(closest_match("sed", kWords), "seed");
  EXPECT_EQ(closest_match("seeed", kWords), "seed");
  EXPECT_EQ(closest_match("esed", kWords), "seed");  // a swap counts as one error
}

TEST(ClosestMatch, PrefersTheNearest) {
  EXPECT_EQ(closest_match("max_tokns", kWords), "max_tokens");
}

TEST(ClosestMatch, DoesNotGuessFromFarAway) {
  EXPECT_EQ(closest_match("colour", kWords), std::nullopt);
  EXPECT_EQ(closest_match("", kWords), std::nullopt);
  EXPECT_EQ(closest_match(std::string(100'000, 'a'), kWords), std::nullopt);
}

TEST(Printable, KeepsTextAndEscapesWhatWouldMoveTheCursor) {
  EXPECT_EQ(printable("Grüße"), "Grüße");
  EXPECT_EQ(printable("a\nb\x1b[2J"), "a\\nb\\x1b[2J");
  EXPECT_EQ(printable("\xff\xc2\x9b"), "\\xff\\xc2\\x9b");
  EXPECT_EQ(printable("a\u202eb\u2066"), "a\\xe2\\x80\\xaeb\\xe2\\x81\\xa6");  // order
  EXPECT_EQ(printable("\u2029\u202f\u2065\u206a"), "\u2029\u202f\u2065\u206a");
}

TEST(Printable, CutsAfterSixtyCharactersNotBytes) {
  std::string sixty;
  for (int i = 0; i < 60; ++i) sixty += "ü";
  EXPECT_EQ(printable(sixty), sixty);
  EXPECT_EQ(printable(sixty + "x"), sixty + "...");
}

TEST(Utf8, AcceptsEveryLength) {
  EXPECT_TRUE(is_valid_utf8_text("a\xc3\xbc\xe2\x82\xac\xf0\x9f\x8c\x8a"));
}

TEST(Utf8, RefusesWhatIsNone) {
  EXPECT_FALSE(is_valid_utf8_text(std::string_view{"a\0b", 3}));  // NUL
  EXPECT_FALSE(is_valid_utf8_text("\x80"));                       // a tail alone
  EXPECT_FALSE(is_valid_utf8_text("\xc3"));                       // cut short
  EXPECT_FALSE(is_valid_utf8_text("\xc0\xaf"));                   // overlong
  EXPECT_FALSE(is_valid_utf8_text("\xe0\x80\xaf"));
  EXPECT_FALSE(is_valid_utf8_text("\xf0\x80\x80\xaf"));
  EXPECT_FALSE(is_valid_utf8_text("\xed\xa0\x80"));      // a surrogate
  EXPECT_FALSE(is_valid_utf8_text("\xf4\x90\x80\x80"));  // beyond U+10FFFF
  EXPECT_FALSE(is_valid_utf8_text("\xf5\x80\x80\x80"));
}

}  // namespace
}  // namespace forebay
