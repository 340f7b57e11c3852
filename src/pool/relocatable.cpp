// Blocks that may move, and how they do: memory that is sparse is closed, its blocks are copied to
// where there is room, and what is then empty goes upstream.
#include "pool/relocatable.hpp"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "device/request.hpp"
#include "forebay/check.hpp"
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

void Relocatables::bury() noexcept {
  Relocatable* ended = nullptr;
  {
    const std::lock_guard lock{mutex_};
    surveyed_ = false;
    ended = std::exchange(ended_, nullptr);
  }
  while (ended != nullptr) delete std::exchange(ended, ended->next);
}

// Those of one home side by side, the home with the least in it first. From here until bury() the
// records stay, though their owners may end.
std::vector<Relocatables::Resident> Relocatables::survey(PoolCore& core) {
  std::vector<Resident> residents;
  {
    const std::lock_guard lock{mutex_};
    residents.reserve(count_);
    surveyed_ = true;
    for (Relocatable* block = first_; block != nullptr; block = block->next) {
      const std::uintptr_t home = core.home_of(block->data);
      if (home != 0) residents.push_back({home, block->size.count(), block});
    }
  }
  std::sort(residents.begin(), residents.end(),
            [](const Resident& a, const Resident& b) { return a.home < b.home; });
  for (auto first = residents.begin(); first != residents.end();) {
    std::uint64_t bytes = 0;
    auto last = first;
    for (; last != residents.end() && last->home == first->home; ++last) bytes += last->home_bytes;
    for (; first != last; ++first) first->home_bytes = bytes;
  }
  std::sort(residents.begin(), residents.end(), [](const Resident& a, const Resident& b) {
    return std::pair{a.home_bytes, a.home} < std::pair{b.home_bytes, b.home};
  });
  return residents;
}

// Memory that took blocks in one round may itself be sparse in the next; each but the last empties
// some.
Bytes Relocatables::consolidate(PoolCore& core, CheckedBlocks* checked) {
  const std::lock_guard one{consolidating_};
  if (checked != nullptr) checked->release_all();
  core.empty_all_caches();
  const std::uint64_t idle_before = core.pages_to_go();
  std::uint64_t given = 0;
  while (true) {
    const PoolCore::Emptied round = empty_homes(core, checked);
    if (!round.any) break;
    given += round.given;
  }
  return Bytes{given << kPageShift} + core.give_all_but(idle_before);
}

PoolCore::Emptied Relocatables::empty_homes(PoolCore& core, CheckedBlocks* checked) {
  const std::vector<Resident> residents = survey(core);
  PoolCore::Emptied total;
  for (auto first = residents.begin(); first != residents.end();) {
    const auto last = std::find_if(first, residents.end(), [first](const Resident& resident) {
      return resident.home != first->home;
    });
    const PoolCore::Emptied emptied = empty_home(core, checked, {first, last});
    total.any = total.any || emptied.any;
    total.given += emptied.given;
    first = last;
  }
  bury();
  return total;
}

// A block is claimed from the look at its home until it has moved itself.
PoolCore::Emptied Relocatables::empty_home(PoolCore& core, CheckedBlocks* checked, Family family) {
  std::size_t claimed = 0;
  while (claimed != family.size() && family[claimed].block->claim(Relocatable::kMoving)) ++claimed;
  const bool closed = claimed == family.size() && core.close_home(family[0].home, family.size());
  bool moving = closed;
  for (const Resident& resident : family.first(claimed)) {
    moving = moving && move(core, checked, *resident.block);
    resident.block->release();
  }
  if (!closed) return {};
  if (checked != nullptr) checked->release_all();
  return core.open_home(family[0].home);
}

// False, and nothing changed, if there is no memory to move to.
bool Relocatables::move(PoolCore& core, CheckedBlocks* checked, Relocatable& block) {
  const AcquireOptions& options = block.options;
  // It stays whose it is.
  const void* const old_block = checked != nullptr ? checked->outer_of(block.data) : block.data;
  const Need need{.bytes = block.size.count(),
                  .alignment = core.aligned(options.alignment.count()),
                  .stream = options.stream,
                  .soil = static_cast<Soil>(options.tenant.id + 1),
                  .may_grow = false,
                  .context = core.context_of(old_block)};
  const auto taken = refuse_bad_alloc([&] {
    return checked != nullptr ? checked->acquire_for_move(need) : core.acquire_uncached(need);
  });
  if (!taken) return false;
  core.carry_over(old_block, checked != nullptr ? checked->outer_of(taken->block) : taken->block);
  core.upstream().copy(taken->block, block.data, block.size, options.stream);
  void* const old = std::exchange(block.data, taken->block);
  if (checked != nullptr) {
    checked->release(old, {.stream = options.stream});
  } else {
    core.release_uncached(old, options.stream);
  }
  return true;
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
