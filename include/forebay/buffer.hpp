// Owners of blocks. Buffer: of one block. SharedBuffer: one of several owners.
// RelocatableBuffer: of a block that its pool may move. ReleaseScope: lets go of many at once.
//
//   forebay::ReleaseScope scope;
//   auto& logits = scope.hold(pool->acquire(64_MiB).value());
//   run_step(logits.data());
//                                   // scope's end: the block is back in the pool
//
// Thread safety: one object, one thread at a time (SharedBuffer: copies may be used and end on
// different threads at once). An owner's end may be on any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <utility>

#include "forebay/device.hpp"

#pragma GCC visibility push(default)
namespace forebay {

// Move-only owner of a block of a memory resource; gives it back when it ends.
class Buffer {
 public:
  Buffer() noexcept = default;
  // Takes over a block that `resource` allocated with just these arguments. The resource must
  // outlive the buffer; so must a Pool its own.
  Buffer(MemoryResource* resource, void* data, Bytes size, Bytes alignment, Stream stream) noexcept
      : Buffer(resource, data, size, alignment, stream, kByAddress) {}
  // Allocates from `resource`, and keeps it alive. Errors: those of MemoryResource::allocate.
  static Result<Buffer> allocate(std::shared_ptr<MemoryResource> resource, Bytes size,
                                 Bytes alignment = kDefaultAlignment, Stream stream = {});
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        handle_(std::exchange(other.handle_, 0)),
        size_(std::exchange(other.size_, Bytes{})),
        resource_(other.resource_),
        alignment_(other.alignment_),
        stream_(other.stream_) {}
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer() {
    if (handle_ != 0) give_back();
  }

  void* data() const noexcept { return data_; }
  Bytes size() const noexcept { return size_; }  // as asked for
  Bytes alignment() const noexcept { return alignment_; }
  bool empty() const noexcept { return data_ == nullptr; }
  Stream stream() const noexcept { return stream_; }
  // The bytes as a span. REQUIRES: the resource is host-accessible.
  std::span<std::byte> bytes() const noexcept {
    return {static_cast<std::byte*>(data_), static_cast<std::size_t>(size_.count())};
  }
  // The last use of the block is on `stream`: it is given back there.
  void set_stream(Stream stream) noexcept { stream_ = stream; }
  // Gives the block back now.
  void reset() noexcept;

 private:
  friend class Pool;
  friend class SharedBuffer;
  // How the block goes back: 0 there is none; kByAddress; a pool's own number of the block; or a
  // pointer to what keeps the resource alive.
  using Handle = std::uint64_t;
  static constexpr Handle kByAddress = 0xfd;
  static constexpr Handle kKeeper = 0xfe;

  Buffer(MemoryResource* resource, void* data, Bytes size, Bytes alignment, Stream stream,
         Handle handle) noexcept
      : data_(data),
        handle_(data == nullptr ? 0 : handle),
        size_(size),
        resource_(resource),
        alignment_(alignment),
        stream_(stream) {}
  void give_back() const noexcept;  // leaves the members as they are
  void forget() noexcept {
    data_ = nullptr;
    handle_ = 0;
    size_ = {};
  }

  void* data_ = nullptr;
  Handle handle_ = 0;
  Bytes size_;
  MemoryResource* resource_ = nullptr;
  Bytes alignment_;
  Stream stream_;
};

// One of several owners of a block; the last one's end gives it back. One host allocation
// for the count, made when the first owner is.
class SharedBuffer {
 public:
  SharedBuffer() noexcept = default;
  // Takes the buffer's block over. Error: memory_refused (no host memory for the count); the
  // buffer is then unchanged.
  static Result<SharedBuffer> share(Buffer&& buffer);
  SharedBuffer(const SharedBuffer& other) noexcept;
  SharedBuffer(SharedBuffer&& other) noexcept : rep_(std::exchange(other.rep_, nullptr)) {}
  SharedBuffer& operator=(SharedBuffer other) noexcept {
    std::swap(rep_, other.rep_);
    return *this;
  }
  ~SharedBuffer() { reset(); }

  void* data() const noexcept;
  Bytes size() const noexcept;
  bool empty() const noexcept { return data() == nullptr; }
  std::span<std::byte> bytes() const noexcept {
    return {static_cast<std::byte*>(data()), static_cast<std::size_t>(size().count())};
  }
  // Owners of the block now, this one included; 0 if this one owns nothing. With other threads
  // about, a count above 1 may be old when it arrives.
  std::uint32_t ref_count() const noexcept;
  // No longer an owner.
  void reset() noexcept;

 private:
  struct Rep;
  struct ListedRep;
  explicit SharedBuffer(Rep* rep) noexcept : rep_(rep) {}
  Rep* rep_ = nullptr;
};

namespace detail {
struct Relocatable;
}

// Owner of a block that its pool may move while nobody has it pinned (Pool::consolidate).
// The content moves along; only pin() tells where it is.
//
//   auto weights = pool->acquire_relocatable(64_MiB).value();
//   {
//     const auto pin = weights.pin();
//     use(pin.data());
//   }                         // may be elsewhere the next time
class RelocatableBuffer {
 public:
  // While it lives, the block stays where it is.
  class Pin {
   public:
    Pin(Pin&& other) noexcept : block_(std::exchange(other.block_, nullptr)), data_(other.data_) {}
    Pin& operator=(Pin&&) = delete;
    ~Pin();
    void* data() const noexcept { return data_; }

   private:
    friend class RelocatableBuffer;
    Pin(detail::Relocatable* block, void* data) noexcept : block_(block), data_(data) {}
    detail::Relocatable* block_;
    void* data_;
  };

  RelocatableBuffer() noexcept = default;
  RelocatableBuffer(RelocatableBuffer&& other) noexcept
      : block_(std::exchange(other.block_, nullptr)) {}
  RelocatableBuffer& operator=(RelocatableBuffer&& other) noexcept;
  ~RelocatableBuffer() { reset(); }

  // Pins from several threads may overlap. Waits while the block is being moved.
  Pin pin() const noexcept;
  Bytes size() const noexcept;
  bool empty() const noexcept { return block_ == nullptr; }
  // Gives the block back now. REQUIRES: nobody has it pinned.
  void reset() noexcept;

 private:
  friend class Pool;
  explicit RelocatableBuffer(detail::Relocatable* block) noexcept : block_(block) {}
  detail::Relocatable* block_ = nullptr;
};

// Holds buffers and lets go of all of them, latest first, when it ends. Scopes nest as
// C++ scopes do.
class ReleaseScope {
 public:
  ReleaseScope() = default;
  ReleaseScope(const ReleaseScope&) = delete;
  ReleaseScope& operator=(const ReleaseScope&) = delete;
  ~ReleaseScope() { release(); }

  // Holds the buffer; the reference is valid until release() or the scope's end.
  Buffer& hold(Buffer buffer);
  std::size_t size() const noexcept { return buffers_.size(); }
  Bytes bytes() const noexcept;
  // Lets go of everything now.
  void release() noexcept;

 private:
  std::deque<Buffer> buffers_;
};

}  // namespace forebay
#pragma GCC visibility pop
