// Standard faces of a memory resource: std::pmr, an STL allocator, and CCCL's cuda::mr.
//
//   forebay::PmrResource resource{pool};
//   std::pmr::vector<int> tokens{&resource};
//
//   std::vector<float, forebay::Allocator<float>> scores{forebay::Allocator<float>{pool}};
//
// Each keeps the resource that it stands on alive, so it may be a pool, a metered one, or a
// device as it is. A refusal is thrown as MemoryRefused, a std::bad_alloc with the account;
// the containers then are as they were, as far as the standard promises. PmrResource and
// Allocator are for memory that the CPU reaches.
//
// Thread safety: as thread-safe as the resource below; the faces themselves are immutable.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <memory_resource>
#include <new>
#include <type_traits>

#include "forebay/device.hpp"

#pragma GCC visibility push(default)
namespace forebay {

namespace detail {
// `resource`, if the CPU reaches its memory; else throws Failure (unsupported).
std::shared_ptr<MemoryResource> host_resource(std::shared_ptr<MemoryResource> resource);
}  // namespace detail

// A std::pmr::memory_resource. It must outlive the containers that use it.
//
// Two are equal if they stand on the same resource. Alignments above 2 MiB are thrown as a
// Failure (invalid_argument): no resource offers them.
class PmrResource final : public std::pmr::memory_resource {
 public:
  // Throws Failure (unsupported) if the CPU does not reach the resource's memory.
  explicit PmrResource(std::shared_ptr<MemoryResource> resource)
      : resource_(detail::host_resource(std::move(resource))) {}

  const std::shared_ptr<MemoryResource>& resource() const noexcept { return resource_; }

 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override;
  void do_deallocate(void* block, std::size_t bytes, std::size_t alignment) override;
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override;

  const std::shared_ptr<MemoryResource> resource_;
};

// An STL allocator. There is no default one: where a container's memory comes from is said.
//
// Equal if they stand on the same resource. Who is charged follows the memory: a container
// that is moved from or swapped takes its memory and allocator along, in constant time and
// without throwing. Copies of content do not change who is charged: assigning keeps the
// allocator of the target; a copy that is made draws on that of its source.
template <typename T>
class Allocator {
 public:
  using value_type = T;
  using size_type = std::size_t;
  using difference_type = std::ptrdiff_t;
  using propagate_on_container_copy_assignment = std::false_type;
  using propagate_on_container_move_assignment = std::true_type;
  using propagate_on_container_swap = std::true_type;
  using is_always_equal = std::false_type;

  // Throws Failure (unsupported) if the CPU does not reach the resource's memory.
  explicit Allocator(std::shared_ptr<MemoryResource> resource)
      : resource_(detail::host_resource(std::move(resource))) {}
  // Copies, and so no moves: what an allocator was moved from must stay equal to it.
  Allocator(const Allocator&) noexcept = default;
  Allocator& operator=(const Allocator&) noexcept = default;
  ~Allocator() = default;
  template <typename U>
  Allocator(const Allocator<U>& other) noexcept  // NOLINT: containers convert when they rebind
      : resource_(other.resource()) {}

  // Throws MemoryRefused, std::bad_array_new_length.
  [[nodiscard]] T* allocate(std::size_t count) {
    static_assert(alignof(T) <= kMaxAlignment.count());
    if (count > std::numeric_limits<std::size_t>::max() / sizeof(T)) {
      throw std::bad_array_new_length{};
    }
    return static_cast<T*>(
        resource_->allocate(Bytes{count * sizeof(T)}, Bytes{alignof(T)}).value());
  }
  void deallocate(T* block, std::size_t count) noexcept {
    resource_->deallocate(block, Bytes{count * sizeof(T)}, Bytes{alignof(T)});
  }

  const std::shared_ptr<MemoryResource>& resource() const noexcept { return resource_; }
  template <typename U>
  friend bool operator==(const Allocator& a, const Allocator<U>& b) noexcept {
    return a.resource() == b.resource();
  }

 private:
  std::shared_ptr<MemoryResource> resource_;
};

namespace detail {

template <typename Handle>
concept NativeStream = std::is_pointer_v<Handle> && std::is_class_v<std::remove_pointer_t<Handle>>;

template <typename S>
concept HoldsStream = requires(const S& stream) {
  { stream.get() } -> NativeStream;
};

template <typename S>
concept ConvertsToStream =
    std::is_class_v<S> && !HoldsStream<S> && std::convertible_to<const S&, const volatile void*>;

}  // namespace detail

// A Stream; a native handle (cudaStream_t is a pointer to a struct); whatever gives one by
// get() (cuda::stream_ref) or converts to one (rmm::cuda_stream_view).
template <typename S>
concept StreamLike = std::same_as<S, Stream> || detail::NativeStream<S> || detail::HoldsStream<S> ||
    detail::ConvertsToStream<S>;

template <StreamLike S>
Stream to_stream(const S& stream) noexcept {
  if constexpr (std::same_as<S, Stream>) {
    return stream;
  } else if constexpr (detail::HoldsStream<S>) {
    return Stream{reinterpret_cast<std::uintptr_t>(stream.get())};
  } else {
    const volatile void* const handle = stream;
    return Stream{reinterpret_cast<std::uintptr_t>(handle)};
  }
}

// What CUDA's libraries take as a memory resource (CCCL, RMM), as a value that may be copied.
// It has both spellings, so that it is one for every version:
// - CCCL 3.1 and later: allocate(stream, bytes, alignment) and allocate_sync(bytes, alignment);
// - CCCL 3.0 (CUDA 13.0): allocate_async(bytes, alignment, stream), allocate(bytes, alignment).
// What is allocated without a stream is so on the default one; who frees without one has seen
// to it that all work on the block is done.
//
//   using DevicePool = forebay::CudaResource<cuda::mr::device_accessible>;
//
// Properties: the types of cuda::mr, of which this header needs to know nothing. They promise
// who reaches the memory; REQUIRES: the resource keeps that.
// Equal if they stand on the same resource. Throws MemoryRefused; Failure for an alignment
// that is no power of two or above 2 MiB.
template <typename... Properties>
class CudaResource {
 public:
  static constexpr std::size_t kAlignment = 256;  // what cudaMalloc gives

  // REQUIRES: a resource.
  explicit CudaResource(std::shared_ptr<MemoryResource> resource) noexcept
      : resource_(std::move(resource)) {}
  // Copies, and so no moves: one that was moved from could not give back.
  CudaResource(const CudaResource&) noexcept = default;
  CudaResource& operator=(const CudaResource&) noexcept = default;
  ~CudaResource() = default;

  template <StreamLike S>
  void* allocate(S stream, std::size_t bytes, std::size_t alignment = kAlignment) {
    return take(to_stream(stream), bytes, alignment);
  }
  template <StreamLike S>
  void deallocate(S stream, void* block, std::size_t bytes,
                  std::size_t alignment = kAlignment) noexcept {
    give(to_stream(stream), block, bytes, alignment);
  }
  void* allocate_sync(std::size_t bytes, std::size_t alignment = kAlignment) {
    return take({}, bytes, alignment);
  }
  void deallocate_sync(void* block, std::size_t bytes,
                       std::size_t alignment = kAlignment) noexcept {
    give({}, block, bytes, alignment);
  }

  template <StreamLike S>
  void* allocate_async(std::size_t bytes, std::size_t alignment, S stream) {
    return take(to_stream(stream), bytes, alignment);
  }
  template <StreamLike S>
  void* allocate_async(std::size_t bytes, S stream) {
    return take(to_stream(stream), bytes, kAlignment);
  }
  template <StreamLike S>
  void deallocate_async(void* block, std::size_t bytes, std::size_t alignment, S stream) noexcept {
    give(to_stream(stream), block, bytes, alignment);
  }
  template <StreamLike S>
  void deallocate_async(void* block, std::size_t bytes, S stream) noexcept {
    give(to_stream(stream), block, bytes, kAlignment);
  }
  void* allocate(std::size_t bytes, std::size_t alignment = kAlignment) {
    return take({}, bytes, alignment);
  }
  void deallocate(void* block, std::size_t bytes, std::size_t alignment = kAlignment) noexcept {
    give({}, block, bytes, alignment);
  }

  const std::shared_ptr<MemoryResource>& resource() const noexcept { return resource_; }
  friend bool operator==(const CudaResource&, const CudaResource&) noexcept = default;
  template <typename Property>
  requires(std::same_as<Property, Properties> ||
           ...) friend constexpr void get_property(const CudaResource&, Property) noexcept {}

 private:
  void* take(Stream stream, std::size_t bytes, std::size_t alignment) {
    return resource_->allocate(Bytes{bytes}, Bytes{alignment}, stream).value();
  }
  void give(Stream stream, void* block, std::size_t bytes, std::size_t alignment) noexcept {
    resource_->deallocate(block, Bytes{bytes}, Bytes{alignment}, stream);
  }

  std::shared_ptr<MemoryResource> resource_;
};

}  // namespace forebay
#pragma GCC visibility pop
