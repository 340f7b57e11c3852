// Tensors in and out by DLPack's struct, the one of its versions below 1.0.
#include <dlpack/dlpack.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "device/request.hpp"
#include "pool/tensor_block.hpp"

namespace forebay {
namespace {

struct TypeCode {
  DataType dtype;
  unsigned code;
  unsigned bits;
};

// Of DLPack 1.1, for what 0.6 has no name for.
constexpr unsigned kBoolCode = 6;
constexpr unsigned kFloat8E4m3fnCode = 10;
constexpr unsigned kFloat8E5m2Code = 12;

constexpr TypeCode kTypeCodes[] = {
    {DataType::f64, kDLFloat, 64},
    {DataType::f32, kDLFloat, 32},
    {DataType::f16, kDLFloat, 16},
    {DataType::bf16, kDLBfloat, 16},
    {DataType::f8_e4m3, kFloat8E4m3fnCode, 8},
    {DataType::f8_e5m2, kFloat8E5m2Code, 8},
    {DataType::i64, kDLInt, 64},
    {DataType::i32, kDLInt, 32},
    {DataType::i16, kDLInt, 16},
    {DataType::i8, kDLInt, 8},
    {DataType::u64, kDLUInt, 64},
    {DataType::u32, kDLUInt, 32},
    {DataType::u16, kDLUInt, 16},
    {DataType::u8, kDLUInt, 8},
    {DataType::boolean, kBoolCode, 8},
    {DataType::int4, kDLInt, 4},
};
static_assert(std::size(kTypeCodes) == static_cast<std::size_t>(DataType::int4) + 1);

DLDataType type_code(DataType dtype) noexcept {
  const TypeCode& found = kTypeCodes[static_cast<std::size_t>(dtype)];
  return {static_cast<std::uint8_t>(found.code), static_cast<std::uint8_t>(found.bits), 1};
}

DLDevice device_code(TensorDevice device) noexcept {
  const int index = static_cast<int>(device.index);
  switch (device.kind) {
    case DeviceKind::host:
      return {kDLCPU, 0};
    case DeviceKind::cuda:
      return {kDLCUDA, index};
    case DeviceKind::vulkan:
      return {kDLVulkan, index};
    case DeviceKind::simulated:
      break;
  }
  return {kDLExtDev, index};
}

// Members end from the last to the first: the tensor goes back to its pool before the pool
// may end.
struct Exported {
  DLManagedTensor managed{};
  std::array<std::int64_t, Shape::kMaxRank> shape{};
  std::array<std::int64_t, Shape::kMaxRank> strides{};
  std::shared_ptr<const void> keeper;
  Tensor tensor;
};

void end_exported(DLManagedTensor* managed) { delete static_cast<Exported*>(managed->manager_ctx); }

void describe(Exported& exported) noexcept {
  const Shape& shape = exported.tensor.shape();
  const Shape::Extents strides = shape.strides();
  for (std::size_t i = 0; i < shape.rank(); ++i) {
    exported.shape[i] = static_cast<std::int64_t>(shape[i]);
    exported.strides[i] = static_cast<std::int64_t>(strides[i]);
  }
  exported.managed = {.dl_tensor = {.data = exported.tensor.data(),
                                    .device = device_code(exported.tensor.device()),
                                    .ndim = static_cast<int>(shape.rank()),
                                    .dtype = type_code(exported.tensor.dtype()),
                                    .shape = exported.shape.data(),
                                    .strides = exported.strides.data(),
                                    .byte_offset = 0},
                      .manager_ctx = &exported,
                      .deleter = end_exported};
}

struct Imported final : detail::TensorBlock {
  using TensorBlock::TensorBlock;
  void give_back() noexcept override {
    DLManagedTensor* const theirs = managed;
    delete this;
    if (theirs->deleter != nullptr) theirs->deleter(theirs);
  }
  DLManagedTensor* managed = nullptr;
};

Status not_allowed(const std::string& what) { return {Code::invalid_argument, "dlpack: " + what}; }
Status unsupported(const std::string& what) { return {Code::unsupported, "dlpack: " + what}; }

Result<Shape> read_shape(const DLTensor& given) {
  if (given.ndim < 0) {
    return not_allowed(fmt::format("{} dimensions; there must be 0 or more", given.ndim));
  }
  if (static_cast<std::size_t>(given.ndim) > Shape::kMaxRank) {
    return unsupported(
        fmt::format("{} dimensions; at most {} are supported", given.ndim, Shape::kMaxRank));
  }
  if (given.ndim != 0 && given.shape == nullptr) {
    return not_allowed(fmt::format("{} dimensions, but its shape is null", given.ndim));
  }
  Shape::Extents extents{};
  for (int i = 0; i < given.ndim; ++i) {
    if (given.shape[i] < 0) {
      return not_allowed(
          fmt::format("size {} of dimension {}; it must be 0 or more", given.shape[i], i));
    }
    extents[static_cast<std::size_t>(i)] = static_cast<std::uint64_t>(given.shape[i]);
  }
  auto shape = Shape::make({extents.data(), static_cast<std::size_t>(given.ndim)});
  if (!shape) return shape.status().with_context("dlpack");
  return shape;
}

Result<DataType> read_type(DLDataType given) {
  if (given.lanes != 1) {
    return unsupported(fmt::format("{} lanes an element; only 1 is supported", given.lanes));
  }
  const auto* const found = std::find_if(
      std::begin(kTypeCodes), std::end(kTypeCodes),
      [&](const TypeCode& known) { return known.code == given.code && known.bits == given.bits; });
  if (found != std::end(kTypeCodes)) return found->dtype;
  return unsupported(
      fmt::format("elements of type code {} and {} bits are of no type supported here", given.code,
                  given.bits));
}

// Pinned memory is the host's, for who reads it.
Result<TensorDevice> read_device(DLDevice given) {
  if (given.device_id < 0) {
    return not_allowed(fmt::format("device index {}; it must be 0 or more", given.device_id));
  }
  const auto index = static_cast<std::uint32_t>(given.device_id);
  switch (static_cast<int>(given.device_type)) {
    case kDLCPU:
    case kDLCUDAHost:
      return TensorDevice{DeviceKind::host, 0};
    case kDLCUDA:
      return TensorDevice{DeviceKind::cuda, index};
    case kDLVulkan:
      return TensorDevice{DeviceKind::vulkan, index};
    case kDLExtDev:
      return TensorDevice{DeviceKind::simulated, index};
    default:
      return unsupported(
          fmt::format("device type {} is not supported; CPU (1), CUDA (2), pinned (3), Vulkan (7) "
                      "and extension "
                      "(12) are",
                      static_cast<int>(given.device_type)));
  }
}

// Strides of dimensions that are never stepped along say nothing.
Status check_strides(const DLTensor& given, const Shape& shape) {
  if (given.strides == nullptr || shape.elements() == 0) return {};
  const Shape::Extents wanted = shape.strides();
  for (std::size_t i = 0; i < shape.rank(); ++i) {
    if (shape[i] == 1 || given.strides[i] == static_cast<std::int64_t>(wanted[i])) continue;
    return unsupported(fmt::format(
        "strides [{}] of shape {} are not row-major, which would be [{}]; copy the tensor first",
        fmt::join(given.strides, given.strides + shape.rank(), ", "), to_string(shape),
        fmt::join(wanted.data(), wanted.data() + shape.rank(), ", ")));
  }
  return {};
}

Result<void*> read_data(const DLTensor& given, const Imported& block) {
  if (block.size.is_zero()) return static_cast<void*>(nullptr);
  if (given.data == nullptr) {
    return not_allowed(
        fmt::format("data is null, but shape {} is not empty", to_string(block.shape)));
  }
  // What Vulkan has there is a handle of a buffer, nothing to add to.
  if (given.byte_offset != 0 && block.device.kind == DeviceKind::vulkan) {
    return unsupported(
        fmt::format("byte offset {} into a Vulkan buffer; only 0 is supported", given.byte_offset));
  }
  const auto base = Bytes{reinterpret_cast<std::uintptr_t>(given.data)};
  const auto start = checked_add(base, Bytes{given.byte_offset});
  if (!start || !checked_add(*start, block.size)) {
    return not_allowed(
        fmt::format("byte offset {} leads past the last address", given.byte_offset));
  }
  const unsigned element = std::max(bits_of(block.dtype) / 8, 1U);
  if (start->count() % element != 0) {
    return not_allowed(
        fmt::format("data at {:#x} with byte offset {} is not aligned to its {} "
                    "elements of {} bytes",
                    base.count(), given.byte_offset, to_string(block.dtype), element));
  }
  return static_cast<void*>(static_cast<std::byte*>(given.data) + given.byte_offset);
}

Result<std::unique_ptr<Imported>> read(const DLTensor& given) {
  const auto shape = read_shape(given);
  if (!shape) return shape.status();
  const auto dtype = read_type(given.dtype);
  if (!dtype) return dtype.status();
  const auto device = read_device(given.device);
  if (!device) return device.status();
  if (Status bad = check_strides(given, *shape); !bad.ok()) return bad;
  const auto size = tensor_bytes(*shape, *dtype);
  if (!size) return size.status().with_context("dlpack");
  auto block = std::make_unique<Imported>(*shape, *dtype, *device, *size);
  const auto data = read_data(given, *block);
  if (!data) return data.status();
  block->data = *data;
  return block;
}

}  // namespace

Result<DLManagedTensor*> to_dlpack(Tensor&& tensor) {
  return detail::refuse_bad_alloc([&]() -> Result<DLManagedTensor*> {
    if (tensor.empty()) return not_allowed("an empty tensor cannot be exported");
    auto exported = std::make_unique<Exported>();
    exported->keeper = tensor.block_->keeper();
    exported->tensor = std::move(tensor);
    describe(*exported);
    return &exported.release()->managed;
  });
}

Result<Tensor> from_dlpack(DLManagedTensor* managed) {
  return detail::refuse_bad_alloc([&]() -> Result<Tensor> {
    if (managed == nullptr) return not_allowed("no tensor (null)");
    auto block = read(managed->dl_tensor);
    if (!block) return block.status();
    (*block)->managed = managed;
    return Tensor{block->release()};
  });
}

}  // namespace forebay
