// Types and shapes, and what tensors of them take.
#include <gtest/gtest.h>

#include <array>
#include <set>
#include <type_traits>
#include <vector>

#include "forebay/tensor.hpp"
#include "support/failing_new.hpp"

namespace forebay {
namespace {

using namespace literals;

constexpr std::uint64_t kMost = (1ULL << 63) - 1;

static_assert(std::is_nothrow_move_constructible_v<Tensor>);
static_assert(std::is_nothrow_move_assignable_v<Tensor>);
static_assert(!std::is_copy_constructible_v<Tensor> && !std::is_copy_assignable_v<Tensor>);
static_assert(sizeof(Tensor) == sizeof(void*));

std::vector<DataType> all_types() {
  std::vector<DataType> types;
  for (int i = 0; i <= static_cast<int>(DataType::int4); ++i) {
    types.push_back(static_cast<DataType>(i));
  }
  return types;
}

Status make_status(const std::vector<std::uint64_t>& extents) {
  return Shape::make(extents).status();
}

TEST(DataType, HasADistinctName) {
  std::set<std::string_view> names;
  for (const DataType dtype : all_types()) names.insert(to_string(dtype));
  EXPECT_EQ(names.size(), 16U);
  EXPECT_EQ(to_string(DataType::f64), "f64");
  EXPECT_EQ(to_string(DataType::bf16), "bf16");
  EXPECT_EQ(to_string(DataType::f8_e4m3), "f8_e4m3");
  EXPECT_EQ(to_string(DataType::boolean), "bool");
  EXPECT_EQ(to_string(DataType::int4), "int4");
}

TEST(DataType, KnowsItsBits) {
  EXPECT_EQ(bits_of(DataType::f64), 64U);
  EXPECT_EQ(bits_of(DataType::f32), 32U);
  EXPECT_EQ(bits_of(DataType::f16), 16U);
  EXPECT_EQ(bits_of(DataType::bf16), 16U);
  EXPECT_EQ(bits_of(DataType::f8_e4m3), 8U);
  EXPECT_EQ(bits_of(DataType::f8_e5m2), 8U);
  EXPECT_EQ(bits_of(DataType::i64), 64U);
  EXPECT_EQ(bits_of(DataType::i32), 32U);
  EXPECT_EQ(bits_of(DataType::i16), 16U);
  EXPECT_EQ(bits_of(DataType::i8), 8U);
  EXPECT_EQ(bits_of(DataType::u64), 64U);
  EXPECT_EQ(bits_of(DataType::u32), 32U);
  EXPECT_EQ(bits_of(DataType::u16), 16U);
  EXPECT_EQ(bits_of(DataType::u8), 8U);
  EXPECT_EQ(bits_of(DataType::boolean), 8U);
  EXPECT_EQ(bits_of(DataType::int4), 4U);
}

TEST(Shape, OfNoExtentsIsAScalar) {
  const Shape scalar;
  EXPECT_EQ(scalar.rank(), 0U);
  EXPECT_EQ(scalar.elements(), 1U);
  EXPECT_EQ(to_string(scalar), "[]");
  EXPECT_EQ(tensor_bytes(scalar, DataType::f64).value(), 8_B);
}

TEST(Shape, HoldsItsExtentsInOrder) {
  const Shape shape{8, 1024, 4096};
  EXPECT_EQ(shape.rank(), 3U);
  EXPECT_EQ(shape[1], 1024U);
  EXPECT_EQ(std::vector<std::uint64_t>(shape.begin(), shape.end()),
            (std::vector<std::uint64_t>{8, 1024, 4096}));
  EXPECT_EQ(shape.elements(), 8U * 1024 * 4096);
  EXPECT_EQ(to_string(shape), "[8, 1024, 4096]");
}

TEST(Shape, EqualsAnotherOfTheSameExtentsOnly) {
  EXPECT_EQ((Shape{2, 3}), (Shape{2, 3}));
  EXPECT_NE((Shape{2, 3}), (Shape{3, 2}));
  EXPECT_NE((Shape{6}), (Shape{2, 3}));
  EXPECT_NE((Shape{2, 3}), (Shape{2, 3, 1}));
  EXPECT_NE(Shape{}, (Shape{0}));
}

TEST(Shape, HasRowMajorStrides) {
  const auto strides = Shape{2, 3, 4, 5}.strides();
  EXPECT_EQ(strides, (Shape::Extents{60, 20, 5, 1}));
  EXPECT_EQ((Shape{2, 0, 4}).strides(), (Shape::Extents{4, 4, 1})) << "as if the 0 were a 1";
  EXPECT_EQ(Shape{}.strides(), Shape::Extents{});
}

TEST(Shape, MayHaveEightDimensionsAndNoMore) {
  EXPECT_EQ((Shape{1, 2, 1, 2, 1, 2, 1, 2}).elements(), 16U);
  const Status refused = make_status({1, 1, 1, 1, 1, 1, 1, 1, 1});
  EXPECT_EQ(refused.code(), Code::invalid_argument);
  EXPECT_EQ(refused.message(), "shape of 9 dimensions; at most 8 are allowed");
}

TEST(Shape, RefusesAProductThatOverflows) {
  EXPECT_TRUE(make_status({kMost}).ok());
  EXPECT_TRUE(make_status({1, kMost, 1}).ok());
  EXPECT_TRUE(make_status({1ULL << 31, 1ULL << 31}).ok());
  const Status refused = make_status({1ULL << 32, 1ULL << 31});
  EXPECT_EQ(refused.code(), Code::invalid_argument);
  EXPECT_EQ(refused.message(),
            "shape [4294967296, 2147483648]: its extents multiplied exceed 2^63 - 1");
  EXPECT_EQ(make_status({kMost + 1}).code(), Code::invalid_argument);
  EXPECT_EQ(make_status({~0ULL, ~0ULL, ~0ULL}).code(), Code::invalid_argument);
}

TEST(Shape, WithAZeroIsCheckedAsIfItWereAOne) {
  const Shape none{4, 0, 8};
  EXPECT_EQ(none.elements(), 0U);
  EXPECT_EQ(tensor_bytes(none, DataType::f64).value(), 0_B);
  EXPECT_EQ(make_status({0, 1ULL << 40, 1ULL << 40}).code(), Code::invalid_argument)
      << "its strides would overflow";
}

TEST(Shape, ThrowsFromItsListWhatMakeRefuses) {
  EXPECT_THROW((Shape{1ULL << 32, 1ULL << 32}), Failure);
  EXPECT_THROW((Shape{1, 1, 1, 1, 1, 1, 1, 1, 1}), Failure);
}

TEST(Shape, SaysSoWhenThereIsNoMemoryForItsWords) {
  const auto failures = testing::walk_allocation_failures(
      [] {
        const std::array<std::uint64_t, 2> extents{1ULL << 32, 1ULL << 32};
        EXPECT_FALSE(Shape::make(extents).ok());
      },
      [] {});
  EXPECT_GT(failures, 0U);
}

TEST(TensorBytes, AreElementsTimesTheirSize) {
  EXPECT_EQ(tensor_bytes({3, 5}, DataType::f64).value(), 120_B);
  EXPECT_EQ(tensor_bytes({3, 5}, DataType::f32).value(), 60_B);
  EXPECT_EQ(tensor_bytes({3, 5}, DataType::bf16).value(), 30_B);
  EXPECT_EQ(tensor_bytes({3, 5}, DataType::f8_e5m2).value(), 15_B);
  EXPECT_EQ(tensor_bytes({3, 5}, DataType::boolean).value(), 15_B);
}

TEST(TensorBytes, OfInt4AreTwoElementsAByte) {
  EXPECT_EQ(tensor_bytes({8}, DataType::int4).value(), 4_B);
  EXPECT_EQ(tensor_bytes({3, 5}, DataType::int4).value(), 8_B) << "rows are not padded";
  EXPECT_EQ(tensor_bytes({1}, DataType::int4).value(), 1_B);
  EXPECT_EQ(tensor_bytes({0}, DataType::int4).value(), 0_B);
  EXPECT_EQ(tensor_bytes({kMost}, DataType::int4).value(), Bytes{1ULL << 62});
}

TEST(TensorBytes, AreRefusedWhereNoBlockCanHaveThem) {
  EXPECT_EQ(tensor_bytes({kMost}, DataType::u8).value(), Bytes{kMost});
  const auto refused = tensor_bytes({1ULL << 62}, DataType::f64);
  EXPECT_EQ(refused.status().code(), Code::memory_refused);
  EXPECT_EQ(refused.status().message(),
            "tensor [4611686018427387904] f64: takes more than 2^63 - 1 bytes");
  EXPECT_FALSE(tensor_bytes({1ULL << 62}, DataType::f16).ok());
}

TEST(TensorDevice, IsNamedByKindAndIndex) {
  EXPECT_EQ(to_string(TensorDevice{}), "host");
  EXPECT_EQ(to_string(TensorDevice{DeviceKind::cuda, 1}), "cuda:1");
  EXPECT_EQ(to_string(TensorDevice{DeviceKind::simulated, 0}), "simulated:0");
}

TEST(Tensor, IsEmptyByDefault) {
  Tensor tensor;
  EXPECT_TRUE(tensor.empty());
  EXPECT_EQ(tensor.data(), nullptr);
  EXPECT_EQ(tensor.size(), 0_B);
  EXPECT_TRUE(tensor.bytes().empty());
  EXPECT_TRUE(tensor.as<float>().empty());
  EXPECT_EQ(tensor.shape(), Shape{});
  EXPECT_EQ(tensor.device(), TensorDevice{});
  tensor.reset();
  tensor = Tensor{};
  EXPECT_TRUE(tensor.empty());
}

}  // namespace
}  // namespace forebay
