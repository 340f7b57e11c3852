// CudaResource: the shape of cuda::mr in both spellings.
#include <gtest/gtest.h>

#include <concepts>
#include <cstdint>
#include <type_traits>

#include "forebay/budget.hpp"
#include "forebay/pool.hpp"
#include "forebay/standard.hpp"
#include "support/watched_resource.hpp"

// The real thing, where a toolkit's headers are.
#if __has_include(<cuda/memory_resource>) && __has_include(<cuda_runtime_api.h>)
#define LIBCUDACXX_ENABLE_EXPERIMENTAL_MEMORY_RESOURCE
#include <cuda/memory_resource>
#include <cuda/stream_ref>
#define FOREBAY_TEST_HAS_CCCL
#endif

namespace forebay {
namespace {

using namespace literals;
using testing::WatchedResource;

struct NativeTag;  // as CUstream_st: nobody knows what is in it

struct DeviceAccessible {};
struct HostAccessible {};

// As cuda::stream_ref and rmm::cuda_stream_view give their handle.
struct StreamRef {
  NativeTag* handle = nullptr;
  NativeTag* get() const noexcept { return handle; }
};
struct StreamView {
  NativeTag* handle = nullptr;
  operator NativeTag*() const noexcept { return handle; }  // NOLINT: implicit as the original
};

struct Native {};
static_assert(StreamLike<Stream>);
static_assert(StreamLike<Native*>);
static_assert(!StreamLike<std::size_t> && !StreamLike<int> && !StreamLike<void*>);

// What the concepts of CCCL ask for, in words of our own, for builds without its headers.
template <typename R, typename S>
concept NewShape = std::equality_comparable<R> && std::copyable<R> &&
    requires(R& resource, S stream, void* block, std::size_t n) {
  { resource.allocate(stream, n, n) } -> std::same_as<void*>;
  { resource.deallocate(stream, block, n, n) }
  noexcept->std::same_as<void>;
  { resource.allocate_sync(n, n) } -> std::same_as<void*>;
  { resource.deallocate_sync(block, n, n) }
  noexcept->std::same_as<void>;
};
template <typename R, typename S>
concept OldShape = std::equality_comparable<R> && std::copyable<R> &&
    requires(R& resource, S stream, void* block, std::size_t n) {
  { resource.allocate(n, n) } -> std::same_as<void*>;
  { resource.deallocate(block, n, n) } -> std::same_as<void>;
  { resource.allocate_async(n, n, stream) } -> std::same_as<void*>;
  { resource.deallocate_async(block, n, n, stream) } -> std::same_as<void>;
};
template <typename R, typename P>
concept HasProperty = requires(const R& resource, P property) {
  get_property(resource, property);
};

using DeviceResource = CudaResource<DeviceAccessible>;
using HostResource = CudaResource<HostAccessible>;
static_assert(NewShape<DeviceResource, StreamRef> && OldShape<DeviceResource, StreamRef>);
static_assert(NewShape<DeviceResource, StreamView> && OldShape<DeviceResource, StreamView>);
static_assert(NewShape<DeviceResource, Native*> && OldShape<DeviceResource, Stream>);
static_assert(HasProperty<DeviceResource, DeviceAccessible>);
static_assert(!HasProperty<DeviceResource, HostAccessible>);
static_assert(HasProperty<CudaResource<DeviceAccessible, HostAccessible>, HostAccessible>);
static_assert(!HasProperty<CudaResource<>, HostAccessible>);
static_assert(std::is_nothrow_copy_constructible_v<DeviceResource>);
static_assert(std::is_nothrow_move_constructible_v<DeviceResource>);

#ifdef FOREBAY_TEST_HAS_CCCL
namespace mr = ::cuda::mr;
static_assert(StreamLike<::cuda::stream_ref> && StreamLike<::cudaStream_t>);
using OnDevice = CudaResource<mr::device_accessible>;
using OnBoth = CudaResource<mr::device_accessible, mr::host_accessible>;
static_assert(NewShape<OnDevice, ::cuda::stream_ref> && OldShape<OnDevice, ::cuda::stream_ref>);
#if defined(CCCL_MAJOR_VERSION) && \
    (CCCL_MAJOR_VERSION > 3 || (CCCL_MAJOR_VERSION == 3 && CCCL_MINOR_VERSION >= 1))
static_assert(mr::synchronous_resource_with<OnDevice, mr::device_accessible>);
#else
static_assert(mr::async_resource<OnDevice>);
static_assert(mr::async_resource_with<OnDevice, mr::device_accessible>);
static_assert(!mr::async_resource_with<OnDevice, mr::host_accessible>);
static_assert(mr::async_resource_with<OnBoth, mr::device_accessible, mr::host_accessible>);
#endif
static_assert(mr::resource<OnDevice>);
static_assert(mr::resource_with<OnDevice, mr::device_accessible>);
static_assert(!mr::resource_with<OnDevice, mr::host_accessible>);

TEST(CudaResource, CanBeHeldByCudasOwnReference) {
  const auto upstream = std::make_shared<WatchedResource>();
  CudaResource<mr::host_accessible> resource{upstream};
  mr::resource_ref<mr::host_accessible> reference{resource};
#if defined(CCCL_MAJOR_VERSION) && \
    (CCCL_MAJOR_VERSION > 3 || (CCCL_MAJOR_VERSION == 3 && CCCL_MINOR_VERSION >= 1))
  void* const block = reference.allocate_sync(1000, 64);
  EXPECT_EQ(upstream->live(), 1000_B);
  reference.deallocate_sync(block, 1000, 64);
#else
  void* const block = reference.allocate(1000, 64);
  EXPECT_EQ(upstream->live(), 1000_B);
  reference.deallocate(block, 1000, 64);
#endif
  EXPECT_EQ(upstream->live_blocks(), 0U);
}
#endif

class CudaResourceTest : public ::testing::Test {
 protected:
  static Native* native(std::uintptr_t handle) { return reinterpret_cast<Native*>(handle); }
  static NativeTag* tag(std::uintptr_t handle) { return reinterpret_cast<NativeTag*>(handle); }

  const std::shared_ptr<WatchedResource> upstream_ = std::make_shared<WatchedResource>();
  HostResource resource_{upstream_};
};

TEST_F(CudaResourceTest, AllocatesOnTheStreamThatIsGiven) {
  void* block = resource_.allocate(StreamRef{tag(0x10)}, 100, 64);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % 64, 0U);
  resource_.deallocate(StreamRef{tag(0x20)}, block, 100, 64);
  block = resource_.allocate_async(100, 64, native(0x30));
  resource_.deallocate_async(block, 100, 64, StreamView{tag(0x40)});
  block = resource_.allocate(Stream{5}, 100, 64);
  resource_.deallocate(Stream{6}, block, 100, 64);
  block = resource_.allocate_sync(100, 64);
  resource_.deallocate_sync(block, 100, 64);
  block = resource_.allocate(100, 64);
  resource_.deallocate(block, 100, 64);
  EXPECT_EQ(upstream_->freed_on(), (std::vector<Stream>{{0x20}, {0x40}, {6}, {0}, {0}}));
  EXPECT_EQ(upstream_->live_blocks(), 0U);
}

TEST_F(CudaResourceTest, AlignsAsCudaDoesUnlessToldOtherwise) {
  void* const first = resource_.allocate(1);
  void* const second = resource_.allocate(Stream{}, 1);
  void* const third = resource_.allocate_async(1, native(0x10));
  void* const fourth = resource_.allocate_sync(1);
  for (const void* block : {first, second, third, fourth}) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % 256, 0U);
  }
  resource_.deallocate(first, 1);
  resource_.deallocate(Stream{}, second, 1);
  resource_.deallocate_async(third, 1, native(0x10));
  resource_.deallocate_sync(fourth, 1);
  EXPECT_EQ(upstream_->live_blocks(), 0U);
}

TEST_F(CudaResourceTest, IsAValueThatEqualsItsCopies) {
  HostResource copy = resource_;
  EXPECT_EQ(copy, resource_);
  EXPECT_NE(copy, HostResource{Device::host()});
  void* const block = copy.allocate_sync(100);
  const HostResource moved{std::move(copy)};
  EXPECT_EQ(moved, copy);  // NOLINT(bugprone-use-after-move): stays usable
  resource_.deallocate_sync(block, 100);
  copy = HostResource{Device::host()};
  EXPECT_EQ(copy.resource(), Device::host());
  EXPECT_EQ(upstream_->live_blocks(), 0U);
}

TEST_F(CudaResourceTest, GivesNullForZeroBytes) {
  EXPECT_EQ(resource_.allocate_sync(0), nullptr);
  resource_.deallocate_sync(nullptr, 0);
  resource_.deallocate(nullptr, 0, 256);
  EXPECT_EQ(upstream_->allocations(), 0U);
}

TEST_F(CudaResourceTest, ThrowsRefusals) {
  Budget budget{"gpu", {.limit = 1_KiB}};
  HostResource resource{budget.meter(upstream_)};
  EXPECT_THROW(resource.allocate(Stream{}, 4096), MemoryRefused);
  EXPECT_THROW(resource.allocate_async(4096, native(0x10)), std::bad_alloc);
  EXPECT_THROW(resource.allocate_sync(100, 3), Failure);
  EXPECT_EQ(budget.stats().used, 0_B);
}

TEST_F(CudaResourceTest, ServesDevicesThatTheCpuDoesNotReach) {
  const auto gpu = SimulatedDevice::create();
  DeviceResource resource{gpu};
  void* const block = resource.allocate_async(1 << 20, native(0x10));
  EXPECT_EQ(gpu->stats().live, 1_MiB);
  resource.deallocate_async(block, 1 << 20, native(0x10));
  EXPECT_EQ(gpu->stats().live, 0_B);
}

TEST_F(CudaResourceTest, KeepsItsResourceAlive) {
  auto pool = Pool::create(upstream_);
  const std::weak_ptr<Pool> watch = pool;
  {
    const HostResource resource{std::move(pool)};
    EXPECT_FALSE(watch.expired());
  }
  EXPECT_TRUE(watch.expired());
}

}  // namespace
}  // namespace forebay
