// Buffer: the owner of one block. ReleaseScope: lets go of many at once.
//
//   forebay::ReleaseScope scope;
//   auto& logits = scope.hold(pool->acquire(64_MiB).value());
//   run_step(logits.data());
//                                   // scope's end: the block is back in the pool
//
// Thread safety: not thread-safe; move a Buffer to the thread that uses it. Its end may
// be on any thread.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <span>

#include "forebay/device.hpp"

#pragma GCC visibility push(default)
namespace forebay {

// Move-only owner of a block of a memory resource; gives it back when it ends.
class Buffer {
 public:
  Buffer() noexcept = default;
  // Takes over a block that `resource` allocated with just these arguments.
  Buffer(std::shared_ptr<MemoryResource> resource, void* data, Bytes size, Bytes alignment,
         Stream stream) noexcept;
  // Allocates from `resource`. Errors: those of MemoryResource::allocate.
  static Result<Buffer> allocate(std::shared_ptr<MemoryResource> resource, Bytes size,
                                 Bytes alignment = kDefaultAlignment, Stream stream = {});
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  void* data() const noexcept { return data_; }
  Bytes size() const noexcept { return size_; }  // as asked for
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
  std::shared_ptr<MemoryResource> resource_;
  void* data_ = nullptr;
  Bytes size_;
  Bytes alignment_;
  Stream stream_;
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
