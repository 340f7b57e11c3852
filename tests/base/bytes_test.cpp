#include "forebay/bytes.hpp"

#include <gtest/gtest.h>

#include "forebay/status.hpp"

namespace forebay {
namespace {

using namespace literals;

TEST(Bytes, LiteralsAreBinary) {
  EXPECT_EQ((1_KiB).count(), 1024U);
  EXPECT_EQ(1_GiB, 1024_MiB);
  EXPECT_EQ(36_GiB, 36 * 1_GiB);
}

TEST(Bytes, UnlimitedIsAboveEverySize) {
  EXPECT_GT(Bytes::unlimited(), 1024_TiB);
  EXPECT_TRUE(Bytes::unlimited().is_unlimited());
}

TEST(BytesDeathTest, SubtractingMoreThanThereIsAborts) {
  EXPECT_DEATH(static_cast<void>(1_KiB - 2_KiB), "Bytes below zero");
}

TEST(BytesDeathTest, AddingPastTheEndAborts) {
  EXPECT_DEATH(static_cast<void>(Bytes::unlimited() + 1_B), "Bytes overflow in \\+");
  EXPECT_DEATH(static_cast<void>(Bytes::unlimited() * 2), "Bytes overflow in \\*");
}

TEST(Bytes, CheckedArithmeticSaysOverflow) {
  EXPECT_EQ(checked_add(1_KiB, 1_KiB), 2_KiB);
  EXPECT_FALSE(checked_add(Bytes::unlimited(), 1_B));
  EXPECT_EQ(checked_mul(1_KiB, 3), 3_KiB);
  EXPECT_FALSE(checked_mul(Bytes{1ULL << 40}, 1ULL << 40));
  EXPECT_EQ(align_up(5000_B, 4_KiB), 8_KiB);
  EXPECT_FALSE(align_up(Bytes::unlimited(), 4_KiB));
  EXPECT_EQ(saturating_sub(1_B, 2_B), 0_B);
}

TEST(Bytes, PrintsForPeople) {
  EXPECT_EQ(to_string(0_B), "0 B");
  EXPECT_EQ(to_string(512_B), "512 B");
  EXPECT_EQ(to_string(1536_B), "1.5 KiB");
  EXPECT_EQ(to_string(36_GiB), "36 GiB");
  EXPECT_EQ(to_string(Bytes{98'362'432}), "93.8 MiB");
  EXPECT_EQ(to_string(Bytes::unlimited()), "unlimited");
}

TEST(ParseBytes, ReadsBinaryAndDecimalUnits) {
  EXPECT_EQ(parse_bytes("4096").value(), 4_KiB);
  EXPECT_EQ(parse_bytes("64KiB").value(), 64_KiB);
  EXPECT_EQ(parse_bytes(" 1.5 GiB ").value(), 1536_MiB);
  EXPECT_EQ(parse_bytes("2GB").value(), Bytes{2'000'000'000});
  EXPECT_EQ(parse_bytes("7g").value(), 7_GiB);
  EXPECT_EQ(parse_bytes("10 b").value(), 10_B);
}

class ParseBytesRefuses : public testing::TestWithParam<const char*> {};

TEST_P(ParseBytesRefuses, NamingTheTextAndWhatIsAllowed) {
  const auto bytes = parse_bytes(GetParam());
  ASSERT_FALSE(bytes.ok()) << to_string(*bytes);
  EXPECT_EQ(bytes.status().code(), Code::invalid_argument);
  EXPECT_NE(bytes.status().message().find(GetParam()), std::string::npos);
  EXPECT_NE(bytes.status().message().find("allowed"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(, ParseBytesRefuses,
                         testing::Values("", "  ", "GiB", "-1GiB", "1 2", "1.2.3MiB", "12XB", "1e9",
                                         "99999999999999999999", "20000000PiB", "nan",
                                         "99999999999.5PiB"));

TEST(Bytes, AFractionIsNeverMoreThanTheWhole) {
  const Bytes most{Bytes::unlimited().count() - 1};
  EXPECT_EQ(fraction_of(most, 1.0), most);
  EXPECT_LT(fraction_of(most, 0.5), most);
}

TEST(Bytes, FractionRoundsDown) {
  EXPECT_EQ(fraction_of(100_B, 0.85), 85_B);
  EXPECT_EQ(fraction_of(3_B, 0.5), 1_B);
  EXPECT_TRUE(fraction_of(Bytes::unlimited(), 0.5).is_unlimited());
}

}  // namespace
}  // namespace forebay
