#include "forebay/buffer.hpp"

#include <atomic>
#include <memory>
#include <utility>

#include "device/request.hpp"
#include "forebay/pool.hpp"

namespace forebay {

// The keeper is made first: once there is a block, nothing can fail.
Result<Buffer> Buffer::allocate(std::shared_ptr<MemoryResource> resource, Bytes size,
                                Bytes alignment, Stream stream) {
  return detail::refuse_bad_alloc([&]() -> Result<Buffer> {
    MemoryResource* const from = resource.get();
    auto keeper = std::make_unique<std::shared_ptr<MemoryResource>>(std::move(resource));
    auto block = from->allocate(size, alignment, stream);
    if (!block) return block.status();
    Buffer buffer{from, *block, size, alignment, stream};
    if (!buffer.empty()) {
      buffer.handle_ = reinterpret_cast<std::uintptr_t>(keeper.release()) << 8 | kKeeper;
    }
    return buffer;
  });
}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this == &other) return *this;
  reset();
  resource_ = other.resource_;
  data_ = std::exchange(other.data_, nullptr);
  size_ = std::exchange(other.size_, Bytes{});
  alignment_ = other.alignment_;
  stream_ = other.stream_;
  handle_ = std::exchange(other.handle_, 0);
  return *this;
}

// The keeper goes last: it may be what keeps the resource alive.
void Buffer::give_back() noexcept {
  const Handle handle = std::exchange(handle_, 0);
  void* const block = std::exchange(data_, nullptr);
  const Bytes size = std::exchange(size_, Bytes{});
  if ((handle & 0xff) < kByAddress) {
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-static-cast-downcast): only pools number blocks
    return static_cast<Pool*>(resource_)->give_back(block, handle, stream_);
  }
  std::unique_ptr<std::shared_ptr<MemoryResource>> keeper;
  if ((handle & 0xff) == kKeeper) {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): packed by allocate()
    keeper.reset(reinterpret_cast<std::shared_ptr<MemoryResource>*>(handle >> 8));
  }
  resource_->deallocate(block, size, alignment_, stream_);
}

void Buffer::reset() noexcept {
  if (handle_ != 0) give_back();
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
