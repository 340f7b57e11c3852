#include "forebay/buffer.hpp"

#include <atomic>
#include <utility>

#include "device/request.hpp"

namespace forebay {

Buffer::Buffer(std::shared_ptr<MemoryResource> resource, void* data, Bytes size, Bytes alignment,
               Stream stream) noexcept
    : resource_(resource.get()),
      data_(data),
      size_(size),
      alignment_(alignment),
      stream_(stream),
      keeps_(std::move(resource)) {}

Result<Buffer> Buffer::allocate(std::shared_ptr<MemoryResource> resource, Bytes size,
                                Bytes alignment, Stream stream) {
  auto block = resource->allocate(size, alignment, stream);
  if (!block) return block.status();
  return Buffer{std::move(resource), *block, size, alignment, stream};
}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this == &other) return *this;
  reset();
  resource_ = other.resource_;
  data_ = std::exchange(other.data_, nullptr);
  size_ = std::exchange(other.size_, Bytes{});
  alignment_ = other.alignment_;
  stream_ = other.stream_;
  keeps_ = std::move(other.keeps_);
  return *this;
}

void Buffer::give_back() noexcept {
  resource_->deallocate(std::exchange(data_, nullptr), std::exchange(size_, Bytes{}), alignment_,
                        stream_);
}

// Holds the resource until the block is back: this may be the handle that keeps it alive.
void Buffer::reset() noexcept {
  const auto keeps = std::move(keeps_);
  if (data_ != nullptr) give_back();
  size_ = {};
}

struct SharedBuffer::Rep {
  explicit Rep(Buffer&& taken) noexcept : buffer(std::move(taken)) {}

  std::atomic<std::uint32_t> owners{1};
  Buffer buffer;
};

Result<SharedBuffer> SharedBuffer::share(Buffer&& buffer) {
  return detail::refuse_bad_alloc(
      [&]() -> Result<SharedBuffer> { return SharedBuffer{new Rep{std::move(buffer)}}; });
}

SharedBuffer::SharedBuffer(const SharedBuffer& other) noexcept : rep_(other.rep_) {
  if (rep_ != nullptr) rep_->owners.fetch_add(1, std::memory_order_relaxed);
}

void* SharedBuffer::data() const noexcept {
  return rep_ == nullptr ? nullptr : rep_->buffer.data();
}

Bytes SharedBuffer::size() const noexcept {
  return rep_ == nullptr ? Bytes{} : rep_->buffer.size();
}

std::uint32_t SharedBuffer::ref_count() const noexcept {
  return rep_ == nullptr ? 0 : rep_->owners.load(std::memory_order_acquire);
}

// Release and acquire: what every owner wrote is seen by the thread that gives the block back.
void SharedBuffer::reset() noexcept {
  Rep* const rep = std::exchange(rep_, nullptr);
  if (rep != nullptr && rep->owners.fetch_sub(1, std::memory_order_acq_rel) == 1) delete rep;
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
