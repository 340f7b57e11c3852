#include "track/stack_depot.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <new>

namespace forebay::detail {
namespace {

static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);
static_assert(sizeof(std::uintptr_t) == sizeof(std::uint64_t));

constexpr std::uint64_t kDepthShift = 32;

constexpr std::uint64_t scrambled(std::uint64_t x) noexcept {  // splitmix64's
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

constexpr auto kKeys = [] {
  std::array<std::uint64_t, kMostFrames + 1> keys{};
  for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = scrambled((i + 1) * 0x9e3779b97f4a7c15);
  return keys;
}();

// A product a pair of frames, each with keys of its own: the sum does not wait for the one before,
// as a chain would (20 frames: 5 ns instead of 25). (NH: Black and others, "UMAC", 1999.)
std::uint64_t hash_of(std::span<const std::uintptr_t> frames) noexcept {
  __extension__ using Wide = unsigned __int128;
  std::uint64_t low = frames.size();
  std::uint64_t high = 0;
  std::size_t i = 0;
  for (; i + 1 < frames.size(); i += 2) {
    const Wide product = Wide{frames[i] ^ kKeys[i]} * (frames[i + 1] ^ kKeys[i + 1]);
    low += static_cast<std::uint64_t>(product);
    high += static_cast<std::uint64_t>(product >> 64);
  }
  if (i < frames.size()) low += frames[i] * kKeys[i];
  return scrambled(low ^ high);
}

}  // namespace

StackDepot::StackDepot(void* memory, const Size& size) noexcept
    : size_(size),
      slots_(static_cast<Word*>(memory)),
      records_by_id_(reinterpret_cast<std::atomic<Offset>*>(slots_ + size.slots)),
      records_(slots_ + size.slots + (std::size_t{size.stacks} + 2) / 2) {}

StackId StackDepot::refuse() noexcept {
  refused_.fetch_add(1, std::memory_order_relaxed);
  return 0;
}

bool StackDepot::holds(Offset record, std::span<const std::uintptr_t> frames) const noexcept {
  return head(record) >> kDepthShift == frames.size() &&
         std::memcmp(records_ + record + 1, frames.data(), frames.size_bytes()) == 0;
}

// Not yet found by anyone. Words are never given back: the loser of a race for a slot leaves a
// record that nothing leads to.
StackDepot::Offset StackDepot::new_record(std::span<const std::uintptr_t> frames) noexcept {
  if (used() >= size_.stacks) return 0;
  const auto words = static_cast<std::uint32_t>(frames.size() + 1);
  Offset at = words_used_.load(std::memory_order_relaxed);
  do {
    if (words > size_.words - at) return 0;
  } while (!words_used_.compare_exchange_weak(at, at + words, std::memory_order_relaxed));
  records_[at].store(std::uint64_t{frames.size()} << kDepthShift, std::memory_order_relaxed);
  std::memcpy(static_cast<void*>(records_ + at + 1), frames.data(), frames.size_bytes());
  return at;
}

void StackDepot::set_number(Offset record, StackId id) noexcept {
  std::uint64_t now = head(record);
  const bool has = static_cast<StackId>(now) != 0;
  if (!has) records_[record].compare_exchange_strong(now, now | id, std::memory_order_acq_rel);
}

// Whoever gave the record its number may not have said so yet.
StackId StackDepot::number_of(Offset record) noexcept {
  const auto id = static_cast<StackId>(head(record));
  if (id == 0) return give_number(record);
  if (id > used()) say_used(id);
  return id;
}

// REQUIRES: all numbers below are used.
void StackDepot::say_used(StackId id) noexcept {
  StackId before = id - 1;
  used_.compare_exchange_strong(before, id, std::memory_order_acq_rel);
}

// The next number. Whoever comes to a record without one gives it one, and to whoever was about to
// take that number before: nobody waits for a thread, or for the code that a handler of signals
// interrupted. A record gets one number only: it has none yet when all below `next` are given, so
// it is none of those; and `next` itself is taken by whoever is first.
StackId StackDepot::give_number(Offset record) noexcept {
  for (;;) {
    const StackId before = used();
    if (static_cast<StackId>(head(record)) != 0) return number_of(record);
    if (before >= size_.stacks) return refuse();
    const StackId next = before + 1;
    Offset taker = 0;
    if (records_by_id_[next].compare_exchange_strong(taker, record, std::memory_order_acq_rel)) {
      taker = record;
    }
    set_number(taker, next);
    say_used(next);
  }
}

StackId StackDepot::intern(std::span<const std::uintptr_t> frames) noexcept {
  if (frames.empty()) return 0;
  constexpr std::uint32_t kMostProbes = 128;
  const std::uint64_t hash = hash_of(frames);
  const std::uint64_t tag = hash >> 32;
  const std::uint32_t nearby = nearby_slots();
  Offset made = 0;
  for (std::uint32_t probe = 0; probe < kNearbyProbes + std::min(kMostProbes, size_.slots);
       ++probe) {
    const bool is_nearby = probe < kNearbyProbes;
    Word& slot = slots_[(hash + probe) & ((is_nearby ? nearby : size_.slots) - 1)];
    std::uint64_t there = slot.load(std::memory_order_acquire);
    if (there == 0) {
      if (made == 0) made = new_record(frames);
      if (made == 0) return refuse();
      const std::uint64_t ours = (tag << 32) | made;
      if (slot.compare_exchange_strong(there, ours, std::memory_order_acq_rel)) {
        return number_of(made);
      }
    }
    const auto record = static_cast<Offset>(there);
    if (there >> 32 == tag && holds(record, frames)) return number_of(record);
  }
  return refuse();
}

std::span<const std::uintptr_t> StackDepot::frames_of(StackId id) const noexcept {
  if (id == 0 || id > used()) return {};
  const Offset record = records_by_id_[id].load(std::memory_order_acquire);
  const auto depth = static_cast<std::size_t>(head(record) >> kDepthShift);
  return {reinterpret_cast<const std::uintptr_t*>(records_ + record + 1), depth};
}

// Slots beyond the nearby ones lie scattered: each is counted with its page.
std::size_t StackDepot::bytes_used() const noexcept {
  const std::size_t words = words_used_.load(std::memory_order_relaxed) - 1;
  const std::size_t few = nearby_slots() / 2;
  const std::size_t all = size_.slots * sizeof(Word);
  const std::size_t near_bytes = std::min<std::size_t>(used() * 4096ULL, few * 2 * sizeof(Word));
  const std::size_t far_bytes =
      used() <= few ? 0 : std::min<std::size_t>((used() - few) * 4096ULL, all);
  return words * sizeof(Word) + near_bytes + far_bytes + std::size_t{used()} * sizeof(Offset);
}

// ---- The process's

namespace {

// 64 MiB of frames: 380 000 stacks of 20. Memory is taken as it is used.
constexpr StackDepot::Size kSize{.slots = 1U << 20, .stacks = 1U << 19, .words = 1U << 23};

constinit std::atomic<StackDepot*> the_depot{nullptr};
constinit std::atomic<std::uint64_t> refused_without{0};

// By mmap alone, which a handler of signals may call too. Two threads may both come here.
[[gnu::noinline]] StackDepot* make_depot() noexcept {
  constexpr std::size_t kBytes = sizeof(StackDepot) + StackDepot::bytes(kSize);
  static_assert(sizeof(StackDepot) % 8 == 0);
  void* memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  auto* const mine =
      new (memory) StackDepot{static_cast<std::byte*>(memory) + sizeof(StackDepot), kSize};
  StackDepot* expected = nullptr;
  if (the_depot.compare_exchange_strong(expected, mine, std::memory_order_acq_rel)) return mine;
  munmap(memory, kBytes);
  return expected;
}

StackDepot* depot() noexcept { return the_depot.load(std::memory_order_acquire); }

}  // namespace

void prepare_depot() noexcept {
  if (depot() == nullptr) make_depot();
}

StackId intern(const Stack& stack) noexcept {
  StackDepot* the = depot();
  if (the == nullptr) [[unlikely]] {
    the = make_depot();
  }
  if (the != nullptr) return the->intern({stack.frames.data(), stack.depth});
  if (stack.depth != 0) refused_without.fetch_add(1, std::memory_order_relaxed);
  return 0;
}

std::span<const std::uintptr_t> frames_of(StackId id) noexcept {
  const StackDepot* const the = depot();
  return the != nullptr ? the->frames_of(id) : std::span<const std::uintptr_t>{};
}

StackId stacks_used() noexcept {
  const StackDepot* const the = depot();
  return the != nullptr ? the->used() : 0;
}

std::size_t stack_bytes() noexcept {
  const StackDepot* const the = depot();
  return the != nullptr ? the->bytes_used() : 0;
}

std::uint64_t stacks_refused() noexcept {
  const StackDepot* const the = depot();
  const std::uint64_t of_depot = the != nullptr ? the->refused() : 0;
  return of_depot + refused_without.load(std::memory_order_relaxed);
}

}  // namespace forebay::detail
