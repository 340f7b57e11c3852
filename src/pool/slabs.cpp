#include "pool/slabs.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>

#include "forebay/check.hpp"
#include "pool/region.hpp"

namespace forebay::detail {
namespace {

// Addresses for the bookkeeping of slabs; it takes memory as it is used. At worst (blocks of
// 16 B) that is a fourteenth of what the slabs hold.
constexpr Bytes kSideSpace{4ULL << 30};

// The first word of bookkeeping that is free points to the next.
constexpr std::size_t kPointerBytes = sizeof(void*);

std::uint64_t side_bytes(SizeClass size_class) noexcept {
  const std::uint64_t bytes =
      sizeof(SlabSide) + SlabSide::words_of(size_class) * 8ULL + kClasses[size_class].slab_blocks;
  return (bytes + 7) & ~7ULL;
}

}  // namespace

Slabs::Slabs(ExtentTable& extents)
    : extents_(extents),
      sides_(Mapping::map(kSideSpace, Access::read_write, system_page())),
      tag_memory_(Mapping::map(Bytes{kSideSpace.count() * sizeof(BlockTag)}, Access::read_write,
                               system_page())),
      records_(kSideSpace.count()) {
  if (!sides_ || !tag_memory_) throw std::bad_alloc{};
  tags_ = reinterpret_cast<std::atomic<BlockTag>*>(tag_memory_->data());
  add_stream();
}

void Slabs::link(ExtentId id) noexcept {
  Extent& slab = extents_[id];
  if (slab.closed) return;
  ExtentId& head = (*partial_[slab.stream])[slab.size_class];
  slab.next = head;
  slab.previous = 0;
  if (head != 0) extents_[head].previous = id;
  head = id;
}

void Slabs::unlink(ExtentId id) noexcept {
  const Extent& slab = extents_[id];
  if (slab.closed) return;
  if (slab.next != 0) extents_[slab.next].previous = slab.previous;
  if (slab.previous != 0) {
    extents_[slab.previous].next = slab.next;
  } else {
    (*partial_[slab.stream])[slab.size_class] = slab.next;
  }
}

std::uint32_t Slabs::take(StreamId stream, SizeClass size_class, SmallBlock* out,
                          std::uint32_t count) noexcept {
  std::uint32_t taken = 0;
  const std::uint64_t bytes = kClasses[size_class].bytes;
  for (ExtentId id = 0; taken != count && (id = (*partial_[stream])[size_class]) != 0;) {
    const Extent& slab = extents_[id];
    SlabSide& side = SlabSide::of(slab);
    if (is_empty(slab)) --empty_;
    const std::uint32_t words = SlabSide::words_of(size_class);
    for (std::uint32_t w = 0; w != words && taken != count; ++w) {
      std::uint64_t& word = side.free()[w];
      for (; word != 0 && taken != count; word &= word - 1, --side.free_blocks) {
        const std::uint32_t index = w * 64 + static_cast<std::uint32_t>(std::countr_zero(word));
        // NOLINTNEXTLINE(performance-no-int-to-ptr): an address of upstream's
        auto* const start = reinterpret_cast<std::byte*>(slab.start);
        out[taken++] = {start + index * bytes, slab.states + index};
      }
    }
    if (side.free_blocks == 0) unlink(id);
  }
  return taken;
}

BlockState* Slabs::make_states(SizeClass size_class, Soil soil) noexcept {
  const std::uint32_t blocks = kClasses[size_class].slab_blocks;
  const std::uint32_t words = SlabSide::words_of(size_class);
  SlabSide* side = free_sides_[size_class];
  if (side != nullptr) {
    std::memcpy(&free_sides_[size_class], side->free(), kPointerBytes);
  } else {
    const std::uint64_t bytes = side_bytes(size_class);
    if (side_used_ + bytes > kSideSpace.count()) return nullptr;
    side = new (sides_->data() + side_used_) SlabSide{};
    side_used_ += bytes;
  }
  side->free_blocks = blocks;
  std::memset(side->free(), 0xff, words * 8ULL);
  if (blocks % 64 != 0) side->free()[words - 1] = (1ULL << (blocks % 64)) - 1;
  BlockState* const states = side->states(size_class);
  for (std::uint32_t i = 0; i != blocks; ++i) new (states + i) BlockState{soil};
  return states;
}

bool Slabs::add(ExtentId id, SizeClass size_class) noexcept {
  Extent& slab = extents_[id];
  FOREBAY_DCHECK(slab.pages == kClasses[size_class].slab_pages, "a slab of another size");
  BlockState* const states = make_states(size_class, slab.soil);
  if (states == nullptr) return false;
  slab.states = states;
  slab.size_class = size_class;
  slab.become(ExtentState::slab);
  ExtentId* const map = &slab.region->extent_at(slab.start);
  std::fill(map, map + slab.pages, id);
  link(id);
  ++empty_;
  return true;
}

ExtentId Slabs::give(ExtentId id, std::byte* address) noexcept {
  const Extent& slab = extents_[id];
  SlabSide& side = SlabSide::of(slab);
  const std::uint64_t offset = reinterpret_cast<std::uintptr_t>(address) - slab.start;
  const std::uint32_t index = block_at(kClasses[slab.size_class], offset);
  FOREBAY_DCHECK((side.free()[index / 64] >> (index % 64) & 1) == 0, "a block came back twice");
  side.free()[index / 64] |= 1ULL << (index % 64);
  if (++side.free_blocks == 1) link(id);
  if (!is_empty(slab)) return 0;
  ++empty_;
  const bool alone = !slab.closed && slab.next == 0 && slab.previous == 0;
  if (alone) return 0;
  dissolve(id);
  return id;
}

void Slabs::dissolve(ExtentId id) noexcept {
  unlink(id);
  --empty_;
  Extent& slab = extents_[id];
  SlabSide* const side = &SlabSide::of(slab);
  Soil soil = slab.soil;  // of the bytes behind the last block, still
  const std::uint32_t blocks = kClasses[slab.size_class].slab_blocks;
  for (std::uint32_t i = 0; i != blocks; ++i) {
    soil = mix(soil, slab.states[i].load(std::memory_order_relaxed));
  }
  std::memcpy(side->free(), &free_sides_[slab.size_class], kPointerBytes);
  free_sides_[slab.size_class] = side;
  slab.release = 0;
  slab.soil = soil;
  slab.closed = false;
  slab.become(ExtentState::moving);
}

void Slabs::set_closed(ExtentId id, bool closed) noexcept {
  const bool has_free = SlabSide::of(extents_[id]).free_blocks != 0;
  if (closed && has_free) unlink(id);
  extents_[id].closed = closed;
  if (!closed && has_free) link(id);
}

std::uint64_t Slabs::free_blocks(StreamId stream, SizeClass size_class,
                                 std::uint64_t enough) const noexcept {
  std::uint64_t blocks = 0;
  for (ExtentId id = (*partial_[stream])[size_class]; id != 0 && blocks < enough;) {
    blocks += SlabSide::of(extents_[id]).free_blocks;
    id = extents_[id].next;
  }
  return blocks;
}

std::uint64_t Slabs::live_in(const Extent& slab) noexcept {
  const std::uint32_t blocks = kClasses[slab.size_class].slab_blocks;
  return static_cast<std::uint64_t>(
      std::count_if(slab.states, slab.states + blocks, [](const BlockState& state) {
        return (state.load(std::memory_order_relaxed) & kLive) != 0;
      }));
}

ExtentId Slabs::take_empty() noexcept {
  if (empty_ == 0) return 0;
  for (const auto& lists : partial_) {
    for (ExtentId id : *lists) {
      while (id != 0 && !is_empty(extents_[id])) id = extents_[id].next;
      if (id == 0) continue;
      dissolve(id);
      return id;
    }
  }
  return 0;
}

void Slabs::validate(const Extent& slab, std::uint64_t& live, std::uint64_t& in_hand) noexcept {
  const ClassLayout& layout = kClasses[slab.size_class];
  SlabSide& side = SlabSide::of(slab);
  std::uint32_t free_blocks = 0;
  for (std::uint32_t w = 0; w != SlabSide::words_of(slab.size_class); ++w) {
    free_blocks += static_cast<std::uint32_t>(std::popcount(side.free()[w]));
  }
  FOREBAY_CHECK(free_blocks == side.free_blocks, "a slab's free blocks do not add up");
  for (std::uint32_t i = 0; i != layout.slab_blocks; ++i) {
    const bool is_free = (side.free()[i / 64] >> (i % 64) & 1) != 0;
    const bool is_live = (slab.states[i].load(std::memory_order_relaxed) & kLive) != 0;
    FOREBAY_CHECK(!is_free || !is_live, "a block is free and live");
    live += is_live ? 1U : 0U;
    in_hand += !is_free && !is_live ? 1U : 0U;
  }
}

}  // namespace forebay::detail
