// Tensors out and in by DLPack.
#include <dlpack/dlpack.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <limits>
#include <thread>

#include "forebay/tensor.hpp"
#include "support/failing_new.hpp"
#include "support/watched_resource.hpp"

namespace forebay {
namespace {

using namespace literals;
using testing::WatchedResource;

class ToDlpackTest : public ::testing::Test {
 protected:
  Tensor take(const Shape& shape, DataType dtype) {
    return tensors_->acquire(shape, dtype).value();
  }

  std::shared_ptr<TensorPool> tensors_ = TensorPool::create(Pool::create(Device::host()));
};

// A tensor of somebody else, with room for what a test changes about it.
struct Foreign {
  Foreign() {
    managed.dl_tensor.data = memory.data();
    managed.dl_tensor.device = {kDLCPU, 0};
    managed.dl_tensor.ndim = 2;
    managed.dl_tensor.dtype = {kDLFloat, 32, 1};
    managed.dl_tensor.shape = shape.data();
    managed.dl_tensor.strides = strides.data();
    managed.manager_ctx = this;
    managed.deleter = [](DLManagedTensor* self) {
      ++static_cast<Foreign*>(self->manager_ctx)->deletions;
    };
  }

  alignas(64) std::array<std::byte, 256> memory{};
  std::array<std::int64_t, 9> shape{4, 8, 1, 1, 1, 1, 1, 1, 1};
  std::array<std::int64_t, 9> strides{8, 1};
  int deletions = 0;
  DLManagedTensor managed{};
};

class FromDlpackTest : public ::testing::Test {
 protected:
  // The refusal's words; nothing was taken over.
  std::string refusal(Code code) {
    const auto refused = from_dlpack(&theirs_.managed);
    EXPECT_EQ(refused.status().code(), code) << refused.status().message();
    EXPECT_EQ(theirs_.deletions, 0) << "a refused tensor stays the caller's";
    return refused.status().message();
  }
  bool is_taken() { return from_dlpack(&theirs_.managed).ok(); }

  Foreign theirs_;
  DLTensor& given_ = theirs_.managed.dl_tensor;
};

TEST_F(ToDlpackTest, DescribesTheTensor) {
  Tensor tensor = take({4, 8, 2}, DataType::f16);
  void* const data = tensor.data();
  DLManagedTensor* const out = to_dlpack(std::move(tensor)).value();
  EXPECT_TRUE(tensor.empty());  // NOLINT(bugprone-use-after-move): it was handed over
  const DLTensor& described = out->dl_tensor;
  EXPECT_EQ(described.data, data);
  EXPECT_EQ(described.device.device_type, kDLCPU);
  EXPECT_EQ(described.device.device_id, 0);
  EXPECT_EQ(described.ndim, 3);
  EXPECT_EQ(described.dtype.code, kDLFloat);
  EXPECT_EQ(described.dtype.bits, 16);
  EXPECT_EQ(described.dtype.lanes, 1);
  EXPECT_EQ(std::vector<std::int64_t>(described.shape, described.shape + 3),
            (std::vector<std::int64_t>{4, 8, 2}));
  EXPECT_EQ(std::vector<std::int64_t>(described.strides, described.strides + 3),
            (std::vector<std::int64_t>{16, 2, 1}));
  EXPECT_EQ(described.byte_offset, 0U);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(data) % 256, 0U) << "as version 0.6 wants";
  out->deleter(out);
}

TEST_F(ToDlpackTest, GivesTheBlockBackWhenItsDeleterIsCalled) {
  DLManagedTensor* const out = to_dlpack(take({64}, DataType::f32)).value();
  EXPECT_EQ(tensors_->stats().live_tensors, 1U);
  out->deleter(out);
  EXPECT_EQ(tensors_->stats().live_tensors, 0U);
  EXPECT_EQ(tensors_->stats().idle_tensors, 1U);
  EXPECT_TRUE(tensors_->try_acquire({64}, DataType::f32).ok());
  tensors_->validate();
}

TEST_F(ToDlpackTest, MayBeDeletedOnAnotherThread) {
  DLManagedTensor* const out = to_dlpack(take({64}, DataType::f32)).value();
  std::thread{[out] { out->deleter(out); }}.join();
  EXPECT_EQ(tensors_->stats().live_tensors, 0U);
}

TEST_F(ToDlpackTest, KeepsItsPoolsAlive) {
  const auto upstream = std::make_shared<WatchedResource>();
  auto tensors = TensorPool::create(Pool::create(upstream));
  const std::weak_ptr<TensorPool> watch = tensors;
  DLManagedTensor* const out = to_dlpack(tensors->acquire({64}, DataType::f32).value()).value();
  tensors.reset();
  EXPECT_FALSE(watch.expired());
  std::memset(out->dl_tensor.data, 1, 256);
  out->deleter(out);
  EXPECT_TRUE(watch.expired());
  EXPECT_EQ(upstream->live(), 0_B);
}

TEST_F(ToDlpackTest, ExportsScalarsAndTensorsOfNoElements) {
  DLManagedTensor* const scalar = to_dlpack(take({}, DataType::f64)).value();
  EXPECT_EQ(scalar->dl_tensor.ndim, 0);
  scalar->deleter(scalar);
  DLManagedTensor* const none = to_dlpack(take({3, 0}, DataType::f64)).value();
  EXPECT_EQ(none->dl_tensor.data, nullptr);
  EXPECT_EQ(none->dl_tensor.shape[1], 0);
  none->deleter(none);
}

TEST_F(ToDlpackTest, RefusesAnEmptyTensor) {
  EXPECT_EQ(to_dlpack(Tensor{}).status().message(), "dlpack: an empty tensor cannot be exported");
}

TEST_F(ToDlpackTest, LeavesTheTensorAsItWasWhereTheHostHasNoMemoryLeft) {
  Tensor tensor = take({64}, DataType::f32);
  DLManagedTensor* out = nullptr;
  const auto failures = testing::walk_allocation_failures(
      [&] {
        auto done = to_dlpack(std::move(tensor));
        if (done) out = *done;
      },
      [&] {
        if (out == nullptr) {
          EXPECT_FALSE(tensor.empty());
        }
      });
  EXPECT_GT(failures, 0U);
  ASSERT_NE(out, nullptr);
  out->deleter(out);
}

TEST_F(ToDlpackTest, NamesSimulatedDevicesAndTheirIndex) {
  const auto pool = Pool::create(SimulatedDevice::create());
  const TensorDevice where{DeviceKind::simulated, 3};
  const auto tensors = TensorPool::create(pool, {.device = where});
  DLManagedTensor* const out = to_dlpack(tensors->acquire({64}, DataType::f32).value()).value();
  EXPECT_EQ(out->dl_tensor.device.device_type, kDLExtDev);
  EXPECT_EQ(out->dl_tensor.device.device_id, 3);
  EXPECT_EQ(from_dlpack(out).value().device(), where);
}

TEST_F(ToDlpackTest, ComesBackAsItWasForEveryType) {
  for (int i = 0; i <= static_cast<int>(DataType::int4); ++i) {
    const auto dtype = static_cast<DataType>(i);
    Tensor tensor = take({3, 5}, dtype);
    void* const data = tensor.data();
    std::memset(data, 5, tensor.size().count());
    const Tensor back = from_dlpack(to_dlpack(std::move(tensor)).value()).value();
    EXPECT_EQ(back.data(), data);
    EXPECT_EQ(back.dtype(), dtype);
    EXPECT_EQ(back.shape(), (Shape{3, 5}));
    EXPECT_EQ(back.size(), tensor_bytes({3, 5}, dtype).value());
    EXPECT_EQ(tensors_->stats().live_tensors, 1U);
  }
  EXPECT_EQ(tensors_->stats().live_tensors, 0U);
}

TEST_F(ToDlpackTest, MayBeExportedAgainByWhoImportedIt) {
  DLManagedTensor* const once = to_dlpack(take({4}, DataType::i8)).value();
  DLManagedTensor* const twice = to_dlpack(from_dlpack(once).value()).value();
  EXPECT_NE(once, twice);
  EXPECT_EQ(tensors_->stats().live_tensors, 1U);
  twice->deleter(twice);
  EXPECT_EQ(tensors_->stats().live_tensors, 0U);
}

TEST_F(ToDlpackTest, UsesTheCodesOfLaterVersionsForTheirTypes) {
  const auto type_of = [this](DataType dtype) {
    DLManagedTensor* const out = to_dlpack(take({4}, dtype)).value();
    const DLDataType type = out->dl_tensor.dtype;
    out->deleter(out);
    return std::pair{static_cast<int>(type.code), static_cast<int>(type.bits)};
  };
  EXPECT_EQ(type_of(DataType::bf16), std::pair(4, 16));
  EXPECT_EQ(type_of(DataType::boolean), std::pair(6, 8));
  EXPECT_EQ(type_of(DataType::f8_e4m3), std::pair(10, 8));
  EXPECT_EQ(type_of(DataType::f8_e5m2), std::pair(12, 8));
  EXPECT_EQ(type_of(DataType::int4), std::pair(0, 4));
  EXPECT_EQ(type_of(DataType::u16), std::pair(1, 16));
}

TEST_F(FromDlpackTest, TakesATensorOverAndCallsItsDeleterOnceAtTheEnd) {
  {
    const Tensor tensor = from_dlpack(&theirs_.managed).value();
    EXPECT_EQ(tensor.data(), theirs_.memory.data());
    EXPECT_EQ(tensor.shape(), (Shape{4, 8}));
    EXPECT_EQ(tensor.dtype(), DataType::f32);
    EXPECT_EQ(tensor.size(), 128_B);
    EXPECT_EQ(tensor.device(), TensorDevice{});
    EXPECT_EQ(theirs_.deletions, 0);
  }
  EXPECT_EQ(theirs_.deletions, 1);
}

TEST_F(FromDlpackTest, DoesWithoutADeleter) {
  theirs_.managed.deleter = nullptr;
  EXPECT_TRUE(is_taken());
}

TEST_F(FromDlpackTest, DoesWithoutStrides) {
  given_.strides = nullptr;
  EXPECT_TRUE(is_taken());
}

TEST_F(FromDlpackTest, DoesNotMindStridesThatAreNeverStepped) {
  given_.ndim = 3;
  theirs_.shape = {4, 1, 8};
  theirs_.strides = {8, -77, 1};
  EXPECT_TRUE(is_taken());
  theirs_.shape = {4, 0, 8};
  theirs_.strides = {1, 2, 3};
  EXPECT_TRUE(is_taken());
}

TEST_F(FromDlpackTest, AddsTheByteOffset) {
  given_.byte_offset = 64;
  const Tensor tensor = from_dlpack(&theirs_.managed).value();
  EXPECT_EQ(tensor.data(), theirs_.memory.data() + 64);
}

TEST_F(FromDlpackTest, TakesWhatHasNoElementsWithoutData) {
  theirs_.shape = {0, 8};
  given_.data = nullptr;
  const Tensor tensor = from_dlpack(&theirs_.managed).value();
  EXPECT_EQ(tensor.size(), 0_B);
  EXPECT_EQ(tensor.data(), nullptr);
}

TEST_F(FromDlpackTest, TakesAScalarWithoutAShape) {
  given_.ndim = 0;
  given_.shape = nullptr;
  EXPECT_EQ(from_dlpack(&theirs_.managed).value().shape(), Shape{});
}

TEST_F(FromDlpackTest, KnowsTheDevicesItsTensorsMayBeOn) {
  const auto device = [this](DLDeviceType type) {
    given_.device = {type, 2};
    return to_string(from_dlpack(&theirs_.managed).value().device());
  };
  EXPECT_EQ(device(kDLCUDA), "cuda:2");
  EXPECT_EQ(device(kDLVulkan), "vulkan:2");
  EXPECT_EQ(device(kDLExtDev), "simulated:2");
  EXPECT_EQ(device(kDLCUDAHost), "host") << "pinned memory is the host's";
}

TEST_F(FromDlpackTest, RefusesNoTensor) {
  EXPECT_EQ(from_dlpack(nullptr).status().message(), "dlpack: no tensor (null)");
}

TEST_F(FromDlpackTest, RefusesShapesThatAreNone) {
  given_.ndim = -1;
  EXPECT_EQ(refusal(Code::invalid_argument), "dlpack: -1 dimensions; there must be 0 or more");
  given_.ndim = 9;
  EXPECT_EQ(refusal(Code::unsupported), "dlpack: 9 dimensions; at most 8 are supported");
  given_.ndim = 2;
  given_.shape = nullptr;
  EXPECT_EQ(refusal(Code::invalid_argument), "dlpack: 2 dimensions, but its shape is null");
}

TEST_F(FromDlpackTest, RefusesSizesThatAreNegativeOrOverflow) {
  theirs_.shape = {4, -8};
  EXPECT_EQ(refusal(Code::invalid_argument),
            "dlpack: size -8 of dimension 1; it must be 0 or more");
  given_.strides = nullptr;
  theirs_.shape = {1LL << 40, 1LL << 40};
  EXPECT_EQ(refusal(Code::invalid_argument),
            "dlpack: shape [1099511627776, 1099511627776]: its extents multiplied exceed 2^63 - 1");
  theirs_.shape = {1LL << 31, 1LL << 31};
  EXPECT_EQ(refusal(Code::memory_refused),
            "dlpack: tensor [2147483648, 2147483648] f32: takes more than 2^63 - 1 bytes");
}

TEST_F(FromDlpackTest, RefusesTensorsThatAreNotRowMajor) {
  theirs_.strides = {1, 4};
  EXPECT_EQ(refusal(Code::unsupported),
            "dlpack: strides [1, 4] of shape [4, 8] are not row-major, which would be [8, 1]; copy "
            "the tensor first");
  theirs_.strides = {16, 1};
  EXPECT_NE(refusal(Code::unsupported), "");
  theirs_.strides = {0, 0};
  EXPECT_NE(refusal(Code::unsupported), "");
  theirs_.strides = {-8, 1};
  EXPECT_NE(refusal(Code::unsupported), "");
}

TEST_F(FromDlpackTest, RefusesTypesItDoesNotKnow) {
  given_.dtype = {kDLFloat, 32, 4};
  EXPECT_EQ(refusal(Code::unsupported), "dlpack: 4 lanes an element; only 1 is supported");
  given_.dtype = {kDLFloat, 32, 0};
  EXPECT_EQ(refusal(Code::unsupported), "dlpack: 0 lanes an element; only 1 is supported");
  given_.dtype = {kDLComplex, 64, 1};
  EXPECT_EQ(refusal(Code::unsupported),
            "dlpack: elements of type code 5 and 64 bits are of no type supported here");
  for (const auto& [code, bits] : {std::pair{0, 24}, {2, 8}, {4, 32}, {3, 64}, {8, 8}, {200, 0}}) {
    given_.dtype = {static_cast<std::uint8_t>(code), static_cast<std::uint8_t>(bits), 1};
    EXPECT_NE(refusal(Code::unsupported), "");
  }
}

TEST_F(FromDlpackTest, RefusesDevicesItDoesNotKnow) {
  given_.device = {kDLMetal, 0};
  EXPECT_EQ(refusal(Code::unsupported),
            "dlpack: device type 8 is not supported; CPU (1), CUDA (2), pinned (3), Vulkan (7) and "
            "extension (12) are");
  given_.device = {kDLCUDA, -1};
  EXPECT_EQ(refusal(Code::invalid_argument), "dlpack: device index -1; it must be 0 or more");
}

TEST_F(FromDlpackTest, RefusesDataThatCannotBeThere) {
  given_.byte_offset = 2;
  EXPECT_NE(refusal(Code::invalid_argument).find("is not aligned to its f32 elements of 4 bytes"),
            std::string::npos);
  given_.byte_offset = std::numeric_limits<std::uint64_t>::max() - 3;
  EXPECT_NE(refusal(Code::invalid_argument).find("leads past the last address"), std::string::npos);
  given_.byte_offset = 0;
  given_.data = nullptr;
  EXPECT_EQ(refusal(Code::invalid_argument), "dlpack: data is null, but shape [4, 8] is not empty");
}

TEST_F(FromDlpackTest, RefusesAnOffsetIntoAVulkanBuffer) {
  given_.device = {kDLVulkan, 0};
  given_.byte_offset = 64;
  EXPECT_EQ(refusal(Code::unsupported),
            "dlpack: byte offset 64 into a Vulkan buffer; only 0 is supported");
}

TEST_F(FromDlpackTest, TakesNothingOverWhereTheHostHasNoMemoryLeft) {
  Tensor tensor;
  const auto failures = testing::walk_allocation_failures(
      [&] {
        auto taken = from_dlpack(&theirs_.managed);
        if (taken) tensor = *std::move(taken);
      },
      [&] { EXPECT_EQ(theirs_.deletions, 0); });
  EXPECT_GT(failures, 0U);
  tensor.reset();
  EXPECT_EQ(theirs_.deletions, 1);
}

}  // namespace
}  // namespace forebay
