// Types and shapes of tensors, and what they take.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "device/request.hpp"
#include "forebay/tensor.hpp"

namespace forebay {
namespace {

struct DataTypeInfo {
  std::string_view name;
  unsigned bits;
};

// In the order of DataType.
constexpr std::array<DataTypeInfo, 16> kDataTypes{{{"f64", 64},
                                                   {"f32", 32},
                                                   {"f16", 16},
                                                   {"bf16", 16},
                                                   {"f8_e4m3", 8},
                                                   {"f8_e5m2", 8},
                                                   {"i64", 64},
                                                   {"i32", 32},
                                                   {"i16", 16},
                                                   {"i8", 8},
                                                   {"u64", 64},
                                                   {"u32", 32},
                                                   {"u16", 16},
                                                   {"u8", 8},
                                                   {"bool", 8},
                                                   {"int4", 4}}};
static_assert(kDataTypes.size() == static_cast<std::size_t>(DataType::int4) + 1);

constexpr const DataTypeInfo& info_of(DataType dtype) noexcept {
  return kDataTypes[static_cast<std::size_t>(dtype)];
}

// An extent of zero counts as one: the strides of the others must be right all the same.
bool product_fits(std::span<const std::uint64_t> extents) noexcept {
  const std::uint64_t most = detail::kLargestRequest.count();
  std::uint64_t product = 1;
  for (const std::uint64_t extent : extents) {
    if (extent > most / product) return false;
    product *= std::max<std::uint64_t>(extent, 1);
  }
  return true;
}

}  // namespace

std::string_view to_string(DataType dtype) noexcept { return info_of(dtype).name; }
unsigned bits_of(DataType dtype) noexcept { return info_of(dtype).bits; }

Shape::Shape(std::initializer_list<std::uint64_t> extents)
    : Shape(make({extents.begin(), extents.size()}).value()) {}

Result<Shape> Shape::make(std::span<const std::uint64_t> extents) {
  return detail::refuse_bad_alloc([&]() -> Result<Shape> {
    if (extents.size() > kMaxRank) {
      return Status{Code::invalid_argument, fmt::format("shape of {} dimensions; at most {} are "
                                                        "allowed",
                                                        extents.size(), kMaxRank)};
    }
    if (!product_fits(extents)) {
      return Status{Code::invalid_argument,
                    fmt::format("shape [{}]: its extents multiplied exceed 2^63 - 1",
                                fmt::join(extents, ", "))};
    }
    Shape shape;
    std::copy(extents.begin(), extents.end(), shape.extents_.begin());
    shape.rank_ = extents.size();
    return shape;
  });
}

std::uint64_t Shape::elements() const noexcept {
  std::uint64_t product = 1;
  for (const std::uint64_t extent : *this) product *= extent;
  return product;
}

Shape::Extents Shape::strides() const noexcept {
  Extents strides{};
  std::uint64_t stride = 1;
  for (std::size_t i = rank_; i-- > 0;) {
    strides[i] = stride;
    stride *= std::max<std::uint64_t>(extents_[i], 1);
  }
  return strides;
}

std::string to_string(const Shape& shape) {
  return fmt::format("[{}]", fmt::join(shape.begin(), shape.end(), ", "));
}

// Elements of 8 bits and more are counted in bytes, so that nothing overflows on the way.
Result<Bytes> tensor_bytes(const Shape& shape, DataType dtype) {
  const std::uint64_t elements = shape.elements();
  const unsigned bits = bits_of(dtype);
  if (bits < 8) return Bytes{elements / (8 / bits) + (elements % (8 / bits) == 0 ? 0 : 1)};
  const auto bytes = checked_mul(Bytes{elements}, bits / 8);
  if (bytes && *bytes <= detail::kLargestRequest) return *bytes;
  return detail::refuse_bad_alloc([&]() -> Result<Bytes> {
    return Status{Code::memory_refused, fmt::format("tensor {} {}: takes more than 2^63 - 1 bytes",
                                                    to_string(shape), to_string(dtype))};
  });
}

std::string to_string(TensorDevice device) {
  if (device.kind == DeviceKind::host) return std::string{to_string(device.kind)};
  return fmt::format("{}:{}", to_string(device.kind), device.index);
}

}  // namespace forebay
