#include "track/event_chunks.hpp"

#include <new>

#include "device/mapping.hpp"

namespace forebay::detail {

constinit std::atomic<std::uint64_t> g_events_lost{0};

namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kChunkBytes = kChunkEvents * sizeof(EventSlot);
static_assert(kChunkBytes == kPage && sizeof(TimelineChunk) == 64);

ChunkMode mode_of(std::uint64_t state) noexcept { return static_cast<ChunkMode>(state & 3); }
std::uint64_t sequence_of(std::uint64_t state) noexcept { return state >> 2; }
std::uint64_t state_of(std::uint64_t sequence, ChunkMode mode) noexcept {
  return sequence << 2 | static_cast<std::uint64_t>(mode);
}

std::uint64_t front_bytes(std::uint32_t chunks) noexcept {
  return (sizeof(EventRegion) + chunks * sizeof(TimelineChunk) + kPage - 1) / kPage * kPage;
}

void lose(std::uint64_t events) noexcept {
  g_events_lost.fetch_add(events, std::memory_order_relaxed);
}

bool is_of(const TimelineChunk& chunk, std::uint32_t session) noexcept {
  return chunk.session.load(std::memory_order_acquire) == session;
}

// Goes on with a chunk that another thread left.
bool continue_open(EventRegion& region, TimelineChunk& chunk, std::uint64_t state) noexcept {
  const std::uint64_t active = state_of(sequence_of(state), ChunkMode::active);
  if (!chunk.state.compare_exchange_strong(state, active, std::memory_order_acq_rel)) return false;
  region.open.fetch_sub(1, std::memory_order_relaxed);
  return true;
}

// Takes a chunk for new events; those that were in it are gone.
bool start_anew(TimelineChunk& chunk, std::uint64_t state, std::uint32_t session) noexcept {
  const std::uint64_t next = sequence_of(state) + 1;
  if (!chunk.state.compare_exchange_strong(state, state_of(next, ChunkMode::resetting),
                                           std::memory_order_acq_rel)) {
    return false;
  }
  if (is_of(chunk, session)) lose(chunk.count.load(std::memory_order_relaxed));
  chunk.count.store(0, std::memory_order_relaxed);
  chunk.session.store(session, std::memory_order_release);
  chunk.state.store(state_of(next, ChunkMode::active), std::memory_order_release);
  return true;
}

TimelineChunk* find_open(EventRegion& region, std::uint32_t session) noexcept {
  if (region.open.load(std::memory_order_relaxed) <= 0) return nullptr;
  for (std::uint32_t i = 0; i < region.used(); ++i) {
    TimelineChunk& chunk = region.first[i];
    const std::uint64_t state = chunk.state.load(std::memory_order_acquire);
    const bool fits = mode_of(state) == ChunkMode::open && is_of(chunk, session);
    if (fits && continue_open(region, chunk, state)) return &chunk;
  }
  return nullptr;
}

// In turn, so that the one taken was taken longest ago. One that was kept for long, or gone on
// with, may have been left only just now: such are passed over once.
bool left_lately(const EventRegion& region, const TimelineChunk& chunk, std::uint32_t session,
                 std::uint64_t ticket) noexcept {
  return is_of(chunk, session) &&
         chunk.left_at.load(std::memory_order_relaxed) + region.chunks / 2 > ticket;
}

// A chunk that an ended thread left; else the next in turn. A free one is there, for `active` says
// so; three times around, because others take and leave meanwhile.
TimelineChunk* find_chunk(EventRegion& region, std::uint32_t session) noexcept {
  if (TimelineChunk* const open = find_open(region, session)) return open;
  for (std::uint64_t tries = 0; tries < 3ULL * region.chunks; ++tries) {
    const std::uint64_t ticket = region.ticket.fetch_add(1, std::memory_order_relaxed);
    TimelineChunk& chunk = region.first[ticket % region.chunks];
    const std::uint64_t state = chunk.state.load(std::memory_order_acquire);
    const ChunkMode mode = mode_of(state);
    const bool of_before = mode == ChunkMode::open && !is_of(chunk, session);
    if (mode != ChunkMode::idle && !of_before) continue;
    if (tries < region.chunks && left_lately(region, chunk, session, ticket)) continue;
    if (start_anew(chunk, state, session)) return &chunk;
  }
  return find_open(region, session);
}

TimelineChunk* take_chunk(EventRegion& region, std::uint32_t session) noexcept {
  TimelineChunk* chunk = nullptr;
  if (region.active.fetch_add(1, std::memory_order_relaxed) < region.chunks) {
    chunk = find_chunk(region, session);
  }
  if (chunk == nullptr) region.active.fetch_sub(1, std::memory_order_relaxed);
  return chunk;
}

void leave(EventRegion& region, TimelineChunk& chunk, bool may_go_on) noexcept {
  const std::uint64_t sequence = sequence_of(chunk.state.load(std::memory_order_relaxed));
  chunk.left_at.store(region.ticket.load(std::memory_order_relaxed), std::memory_order_relaxed);
  if (may_go_on) region.open.fetch_add(1, std::memory_order_relaxed);
  chunk.state.store(state_of(sequence, may_go_on ? ChunkMode::open : ChunkMode::idle),
                    std::memory_order_release);
  region.active.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace

std::uint32_t EventRegion::chunks_in(Bytes capacity) noexcept {
  constexpr std::uint64_t kMost = 1U << 30;  // 4 TiB
  const std::uint64_t chunks =
      (capacity.count() - 2 * kPage) / (kChunkBytes + sizeof(TimelineChunk));
  return chunks <= kMost ? static_cast<std::uint32_t>(chunks) : 0;
}

EventRegion* EventRegion::make(Bytes capacity) noexcept {
  const std::uint32_t chunks = chunks_in(capacity);
  if (chunks == 0) return nullptr;
  const Bytes total{front_bytes(chunks) + chunks * kChunkBytes};
  const auto whole = align_up(total, system_page());
  if (!whole) return nullptr;
  auto mapping = Mapping::map(*whole, Access::read_write, system_page());
  if (!mapping) return nullptr;
  std::byte* const at = mapping->data();
  mapping->release();
  // Zeroed pages are chunks and slots as they are when new: none is touched before it is used.
  auto* const region = new (at) EventRegion;
  region->chunks = chunks;
  region->first = reinterpret_cast<TimelineChunk*>(at + sizeof(EventRegion));
  region->slots = reinterpret_cast<EventSlot*>(at + front_bytes(chunks));
  return region;
}

void EventRegion::give_pages_back() noexcept {
  const std::uint64_t mask = system_page().count() - 1;
  const std::uint64_t total = chunks * kChunkBytes;
  const std::uint64_t skipped = -reinterpret_cast<std::uintptr_t>(slots) & mask;
  if (skipped >= total) return;
  discard(reinterpret_cast<std::byte*>(slots) + skipped, Bytes{(total - skipped) & ~mask});
}

bool ChunkWriter::make_room(EventRegion* region, std::uint32_t session) noexcept {
  if (session_ != session) count_ = kChunkEvents;  // what was before is not gone on with
  release();
  if (region == nullptr) return false;
  TimelineChunk* const chunk = take_chunk(*region, session);
  if (chunk == nullptr) return false;
  region_ = region;
  chunk_ = chunk;
  slots_ = region->slots_of(*chunk);
  count_ = chunk->count.load(std::memory_order_relaxed);
  session_ = session;
  return true;
}

void ChunkWriter::put(const EventWords& event) noexcept {
  EventSlot& slot = slots_[count_];
  for (std::size_t i = 0; i < event.words.size(); ++i) {
    slot.words[i].store(event.words[i], std::memory_order_release);
  }
  chunk_->count.store(++count_, std::memory_order_release);
}

void ChunkWriter::release() noexcept {
  if (chunk_ != nullptr) leave(*region_, *chunk_, count_ < kChunkEvents);
  chunk_ = nullptr;
  count_ = kChunkEvents;
}

void after_fork_in_child(EventRegion& region, std::uint32_t session,
                         const ChunkWriter& mine) noexcept {
  std::uint32_t active = 0;
  std::int32_t open = 0;
  for (std::uint32_t i = 0; i < region.used(); ++i) {
    TimelineChunk& chunk = region.first[i];
    const std::uint64_t state = chunk.state.load(std::memory_order_relaxed);
    ChunkMode mode = mode_of(state);
    if (mode == ChunkMode::resetting) {
      chunk.count.store(0, std::memory_order_relaxed);
      mode = ChunkMode::idle;
    } else if (mode == ChunkMode::active && !mine.writes_to(chunk)) {
      const bool full = chunk.count.load(std::memory_order_relaxed) == kChunkEvents;
      mode = full || !is_of(chunk, session) ? ChunkMode::idle : ChunkMode::open;
    }
    active += mode == ChunkMode::active ? 1 : 0;
    open += mode == ChunkMode::open ? 1 : 0;
    if (mode != mode_of(state)) {
      chunk.state.store(state_of(sequence_of(state), mode), std::memory_order_relaxed);
    }
  }
  region.active.store(active, std::memory_order_relaxed);
  region.open.store(open, std::memory_order_relaxed);
}

bool copy_events(EventRegion& region, TimelineChunk& chunk, std::uint32_t session,
                 std::uint32_t from, std::span<EventWords> into) noexcept {
  const std::uint64_t before = chunk.state.load(std::memory_order_acquire);
  if (mode_of(before) == ChunkMode::resetting || !is_of(chunk, session)) return false;
  if (from + into.size() > chunk.count.load(std::memory_order_acquire)) return false;
  const EventSlot* slot = region.slots_of(chunk) + from;
  for (EventWords& event : into) {
    for (std::size_t i = 0; i < event.words.size(); ++i) {
      event.words[i] = slot->words[i].load(std::memory_order_acquire);
    }
    ++slot;
  }
  const std::uint64_t after = chunk.state.load(std::memory_order_relaxed);
  return sequence_of(after) == sequence_of(before);
}

std::uint64_t events_kept(const EventRegion& region, std::uint32_t session) noexcept {
  std::uint64_t kept = 0;
  for (std::uint32_t i = 0; i < region.used(); ++i) {
    const TimelineChunk& chunk = region.first[i];
    if (is_of(chunk, session)) kept += chunk.count.load(std::memory_order_relaxed);
  }
  return kept;
}

}  // namespace forebay::detail
