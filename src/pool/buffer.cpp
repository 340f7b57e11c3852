#include "forebay/buffer.hpp"

#include <utility>

namespace forebay {

Buffer::Buffer(std::shared_ptr<MemoryResource> resource, void* data, Bytes size, Bytes alignment,
               Stream stream) noexcept
    : resource_(std::move(resource)),
      data_(data),
      size_(size),
      alignment_(alignment),
      stream_(stream) {}

Result<Buffer> Buffer::allocate(std::shared_ptr<MemoryResource> resource, Bytes size,
                                Bytes alignment, Stream stream) {
  auto block = resource->allocate(size, alignment, stream);
  if (!block) return block.status();
  return Buffer{std::move(resource), *block, size, alignment, stream};
}

Buffer::Buffer(Buffer&& other) noexcept
    : resource_(std::move(other.resource_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, Bytes{})),
      alignment_(other.alignment_),
      stream_(other.stream_) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this == &other) return *this;
  reset();
  resource_ = std::move(other.resource_);
  data_ = std::exchange(other.data_, nullptr);
  size_ = std::exchange(other.size_, Bytes{});
  alignment_ = other.alignment_;
  stream_ = other.stream_;
  return *this;
}

Buffer::~Buffer() { reset(); }

// Empties itself before the block goes, and holds the resource until after: this may be
// the handle that keeps it alive.
void Buffer::reset() noexcept {
  const auto resource = std::exchange(resource_, nullptr);
  void* const block = std::exchange(data_, nullptr);
  const Bytes size = std::exchange(size_, Bytes{});
  if (block != nullptr) resource->deallocate(block, size, alignment_, stream_);
}

// If the deque cannot grow, `buffer` still owns its block and gives it back.
Buffer& ReleaseScope::hold(Buffer buffer) { return buffers_.emplace_back(std::move(buffer)); }

Bytes ReleaseScope::bytes() const noexcept {
  Bytes total;
  for (const Buffer& buffer : buffers_) total += buffer.size();
  return total;
}

void ReleaseScope::release() noexcept {
  while (!buffers_.empty()) buffers_.pop_back();
}

}  // namespace forebay
