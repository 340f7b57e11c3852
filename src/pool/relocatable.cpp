// Blocks that their pool may move.
#include "pool/relocatable.hpp"

#include <memory>
#include <utility>
#include <vector>

#include "device/request.hpp"
#include "forebay/check.hpp"
#include "pool/mover.hpp"
#include "pool/pool_impl.hpp"

namespace forebay {
namespace detail {

// ---- One block

void Relocatable::pin() noexcept {
  std::uint32_t now = pins.load(std::memory_order_relaxed);
  while (true) {
    FOREBAY_CHECK(now != kEnded, "a relocatable buffer was pinned after its end");
    if (now == kMoving) {
      pins.wait(kMoving, std::memory_order_relaxed);
      now = pins.load(std::memory_order_relaxed);
    } else if (pins.compare_exchange_weak(now, now + 1, std::memory_order_acquire,
                                          std::memory_order_relaxed)) {
      return;
    }
  }
}

bool Relocatable::claim(std::uint32_t as) noexcept {
  std::uint32_t unpinned = 0;
  return pins.compare_exchange_strong(unpinned, as, std::memory_order_acquire,
                                      std::memory_order_relaxed);
}

void Relocatable::release() noexcept {
  pins.store(0, std::memory_order_release);
  pins.notify_all();
}

// ---- All of a pool

void Relocatables::add(Relocatable* block) noexcept {
  const std::lock_guard lock{mutex_};
  block->all = this;
  block->next = first_;
  if (first_ != nullptr) first_->previous = block;
  first_ = block;
  ++count_;
}

void Relocatables::end(Relocatable* block) noexcept {
  while (!block->claim(Relocatable::kEnded)) {
    FOREBAY_CHECK(block->pins.load(std::memory_order_relaxed) % Relocatable::kMoving == 0,
                  "a relocatable buffer ended while it was pinned");
    block->pins.wait(Relocatable::kMoving, std::memory_order_relaxed);
  }
  Pool* const pool = block->pool;
  void* const data = block->data;
  const Bytes size = block->size;
  const AcquireOptions options = block->options;
  std::unique_ptr<Relocatable> gone;
  {
    const std::lock_guard lock{mutex_};
    (block->previous != nullptr ? block->previous->next : first_) = block->next;
    if (block->next != nullptr) block->next->previous = block->previous;
    --count_;
    if (surveyed_) {
      block->next = std::exchange(ended_, block);
    } else {
      gone.reset(block);
    }
  }
  pool->deallocate(data, size, options.alignment, options.stream);
}

Bytes Relocatables::consolidate(PoolCore& core, CheckedBlocks* checked) {
  const std::lock_guard one{consolidating_};
  return BlockMover{core, checked, *this}.run();
}

namespace {

Relocatable& named(const MovableBlocks::Block& block) noexcept {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the name that list() gave it
  return *reinterpret_cast<Relocatable*>(block.name);
}

}  // namespace

// From here until surveyed() the records stay, though their owners may end.
void Relocatables::list(std::vector<Block>& blocks) {
  const std::lock_guard lock{mutex_};
  blocks.reserve(count_);
  surveyed_ = true;
  for (Relocatable* block = first_; block != nullptr; block = block->next) {
    blocks.push_back({block->data, block->size, reinterpret_cast<std::uintptr_t>(block)});
  }
}

bool Relocatables::claim(const Block& block) noexcept {
  return named(block).claim(Relocatable::kMoving);
}

bool Relocatables::move(const Block& block, void* to) noexcept {
  Relocatable& moved = named(block);
  moved.pool->copy(to, block.data, block.size, moved.options.stream);
  moved.data = to;
  return true;
}

void Relocatables::release(const Block& block) noexcept { named(block).release(); }

AcquireOptions Relocatables::options(const Block& block) const noexcept {
  return named(block).options;
}

void Relocatables::surveyed() noexcept {
  Relocatable* ended = nullptr;
  {
    const std::lock_guard lock{mutex_};
    surveyed_ = false;
    ended = std::exchange(ended_, nullptr);
  }
  while (ended != nullptr) delete std::exchange(ended, ended->next);
}

}  // namespace detail

Result<RelocatableBuffer> Pool::acquire_relocatable(Bytes size, const AcquireOptions& options) {
  return detail::refuse_bad_alloc([&]() -> Result<RelocatableBuffer> {
    auto block = std::make_unique<detail::Relocatable>();
    auto buffer = acquire(size, options);
    if (!buffer) return buffer.status();
    if (buffer->empty()) return RelocatableBuffer{};
    block->data = std::exchange(buffer->data_, nullptr);
    buffer->handle_ = 0;  // from here on it goes back by its address
    block->size = size;
    block->options = options;
    block->pool = this;
    impl_->relocatables.add(block.get());
    return RelocatableBuffer{block.release()};
  });
}

Bytes Pool::consolidate() noexcept {
  const auto given = detail::refuse_bad_alloc([this]() -> Result<Bytes> {
    return impl_->relocatables.consolidate(impl_->core, impl_->checked.get());
  });
  return given ? *given : Bytes{};
}

Bytes Pool::consolidate(MovableBlocks& blocks) noexcept {
  const auto given = detail::refuse_bad_alloc([&]() -> Result<Bytes> {
    return detail::BlockMover{impl_->core, impl_->checked.get(), blocks}.run();
  });
  return given ? *given : Bytes{};
}

RelocatableBuffer& RelocatableBuffer::operator=(RelocatableBuffer&& other) noexcept {
  if (this == &other) return *this;
  reset();
  block_ = std::exchange(other.block_, nullptr);
  return *this;
}

RelocatableBuffer::Pin RelocatableBuffer::pin() const noexcept {
  if (block_ == nullptr) return Pin{nullptr, nullptr};
  block_->pin();
  return Pin{block_, block_->data};
}

RelocatableBuffer::Pin::~Pin() {
  if (block_ != nullptr) block_->unpin();
}

Bytes RelocatableBuffer::size() const noexcept {
  return block_ == nullptr ? Bytes{} : block_->size;
}

void RelocatableBuffer::reset() noexcept {
  if (auto* const block = std::exchange(block_, nullptr)) block->all->end(block);
}

}  // namespace forebay
