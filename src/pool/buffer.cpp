#include "forebay/buffer.hpp"

#include <atomic>
#include <memory>
#include <utility>

#include "device/request.hpp"
#include "pool/shared_list.hpp"
#include "track/hooks.hpp"

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
  data_ = other.data_;
  handle_ = other.handle_;
  size_ = other.size_;
  resource_ = other.resource_;
  alignment_ = other.alignment_;
  stream_ = other.stream_;
  other.forget();
  return *this;
}

// Empties itself before the block goes: this may be the handle that keeps the resource alive.
void Buffer::reset() noexcept {
  const Buffer going{std::move(*this)};
  forget();
}

struct SharedBuffer::Rep {
  explicit Rep(Buffer&& taken, bool listed = false) noexcept
      : is_listed(listed), buffer(std::move(taken)) {}

  std::atomic<std::uint32_t> owners{1};
  const bool is_listed;
  Buffer buffer;
};

// One of those that the tracker looks at for cycles.
struct SharedBuffer::ListedRep : Rep {
  explicit ListedRep(Buffer&& taken) noexcept : Rep(std::move(taken), true) {
    link.count = static_cast<Rep*>(this);
    link.owners = &owners;
    if (buffer.resource_ != nullptr && buffer.resource_->host_accessible()) {
      link.content = buffer.bytes();
    }
    link.block = buffer.data();
    link.bytes = static_cast<std::size_t>(buffer.size().count());
    detail::enlist(link);
  }
  ~ListedRep() { detail::delist(link); }
  ListedRep(const ListedRep&) = delete;
  ListedRep& operator=(const ListedRep&) = delete;

  detail::SharedLink link;
};

Result<SharedBuffer> SharedBuffer::share(Buffer&& buffer) {
  return detail::refuse_bad_alloc([&]() -> Result<SharedBuffer> {
    if (detail::tracking_is_full()) return SharedBuffer{new ListedRep{std::move(buffer)}};
    return SharedBuffer{new Rep{std::move(buffer)}};
  });
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
  if (rep == nullptr || rep->owners.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  if (rep->is_listed) {
    delete static_cast<ListedRep*>(rep);
  } else {
    delete rep;
  }
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
