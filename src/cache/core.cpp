// Making a cache, finding in it, and the end of pins.

#include "cache/core.hpp"

#include <time.h>

#include <algorithm>
#include <bit>
#include <string>

#include "cache/hash.hpp"
#include "forebay/check.hpp"

namespace forebay {

// Measured, and kept true by a test (CachePolicyReplay, BookkeepingIsCharged): 54 B without the
// policy, and what that takes when its arrays have just grown.
Bytes cache_entry_overhead(std::string_view policy) noexcept {
  using detail::PolicyKind;
  switch (detail::policy_kind(policy).value_or(PolicyKind::lirs)) {
    case PolicyKind::lru:
    case PolicyKind::fifo:
    case PolicyKind::random:
    case PolicyKind::clock:
    case PolicyKind::sieve:
      return Bytes{64};
    case PolicyKind::utility:
    case PolicyKind::hybrid:
    case PolicyKind::wtinylfu:
    case PolicyKind::twoq:
      return Bytes{72};
    case PolicyKind::learned:
    case PolicyKind::s3fifo:
      return Bytes{76};
    case PolicyKind::lfu:
    case PolicyKind::arc:
      return Bytes{80};
    case PolicyKind::gdsf:
      return Bytes{82};
    case PolicyKind::automatic:  // which begins with lru
      return Bytes{66};
    default:  // lirs
      return Bytes{96};
  }
}

}  // namespace forebay

namespace forebay::detail {
namespace {

// Reservations of a budget without memory behind them: a budget's own reservations are objects,
// and one for each entry would take more room than its header.
class NoMemory final : public MemoryResource {
 public:
  std::string_view name() const noexcept override { return "cache entries"; }
  bool host_accessible() const noexcept override { return false; }

 private:
  Result<void*> do_allocate(Bytes, Bytes, Stream) override { return static_cast<void*>(this); }
  void do_deallocate(void*, Bytes, Bytes, Stream) noexcept override {}
};

// What `auto` takes for its policy of the moment is charged beside.
std::uint64_t fixed_overhead(const CacheOptions& options) {
  const bool changes = policy_kind(options.policy) == PolicyKind::automatic;
  return cache_entry_overhead(changes ? "lru" : options.policy).count();
}

[[noreturn]] void refuse(const std::string& name, const std::string& why) {
  throw Failure{Status{Code::invalid_argument, "cache " + name + ": " + why}};
}

void check(const CacheOptions& options) {
  if (options.max_bytes.is_zero()) refuse(options.name, "max_bytes must be above 0");
  if (options.max_entries == 0) refuse(options.name, "max_entries must be above 0");
  if (options.max_age < Duration::zero()) refuse(options.name, "max_age must not be negative");
  if (options.shards > 1024 || (options.shards & (options.shards - 1)) != 0) {
    refuse(options.name, "shards is " + std::to_string(options.shards) +
                             ", and must be a power of two of at most 1024");
  }
  if (options.memory != nullptr && !options.memory->host_accessible()) {
    refuse(options.name, "keys and values need memory that the CPU reaches; '" +
                             std::string{options.memory->name()} + "' is not such memory");
  }
}

// About four a core, so that two threads seldom want the same lock; of a size that a policy can
// work with.
std::uint32_t shards_for(const CacheOptions& options) {
  if (options.shards != 0) return options.shards;
  constexpr std::uint64_t kSmallest = 1ULL << 20;
  const std::uint64_t by_cores =
      std::bit_ceil(4ULL * std::max(std::thread::hardware_concurrency(), 1U));
  const std::uint64_t by_bytes = std::bit_floor(std::max<std::uint64_t>(
      std::min(options.max_bytes.count() / kSmallest, options.max_entries / 1024), 1));
  return static_cast<std::uint32_t>(std::min({by_cores, by_bytes, std::uint64_t{256}}));
}

// Numbers cost addresses only: enough for a line eight times as high, and for keys that all fall
// into a few shards.
std::uint32_t numbers_for(const CacheOptions& options, std::uint32_t shards,
                          std::uint64_t smallest_charge) {
  constexpr std::uint64_t kMost = 1ULL << 26;
  const std::uint64_t fit =
      std::min(options.max_bytes.count() / smallest_charge, options.max_entries) / shards;
  return static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(fit > kMost ? kMost : fit * 8 + 4096, 4096, kMost));
}

}  // namespace

CacheImpl::CacheImpl(CacheOptions given, const EntryType& entry_type)
    : options(std::move(given)), type(entry_type) {
  check(options);
  const std::uint32_t count = shards_for(options);
  shard_bits = static_cast<std::uint32_t>(std::countr_zero(count));
  memory = options.memory;
  if (memory == nullptr) {
    own_pool = Pool::create(Device::host(), {.name = "cache " + options.name});
    memory = own_pool;
  }
  pool = dynamic_cast<Pool*>(memory.get());
  reads_leaving =
      listened() || type.destroy != nullptr || (type.tail != nullptr && pool == nullptr);
  smallest_block = memory->good_size(Bytes{type.size}, Bytes{type.alignment}).count();
  entry_overhead = fixed_overhead(options);
  entry_charge = smallest_block + entry_overhead;
  counted = options.max_entries != ~std::uint64_t{0};
  steady = options.clock == &Clock::steady();
  first_tick = 0;
  first_tick = ticks() - 1;
  if (options.budget != nullptr) budget = options.budget->meter(std::make_shared<NoMemory>());
  policies = std::make_unique<CachePolicies>(options, count, budget);
  max_bytes = options.max_bytes.count() - policies->reserved();
  most_per_shard = numbers_for(options, count, entry_charge);
  headers = std::make_unique<ReservedArray<EntryHeader>>(std::uint64_t{most_per_shard} * count);
  const TickSource clock{
      this, [](const void* impl) noexcept { return static_cast<const CacheImpl*>(impl)->ticks(); }};
  for (std::uint32_t i = 0; i != count; ++i) {
    shards.push_back(
        std::make_unique<CacheShard>(EntryHeaders{headers->data() + i, shard_bits, most_per_shard},
                                     most_per_shard, policies->next_shard(), clock));
  }
  readers = std::make_unique<CacheReaders>(count);
}

CacheImpl::~CacheImpl() {
  for (auto& shard : shards) {
    clear_shard(*shard);
    FOREBAY_CHECK(shard->leaving.load() == 0, "a cache outlives the handles of its entries");
  }
  FOREBAY_CHECK(used.load() == 0, "a cache that is empty is charged nothing");
}

// The clock of the steady kind is the coarse one: a tick is two of its steps, and it costs a
// quarter.
inline std::uint64_t CacheImpl::steady_ticks() const noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  const auto nanoseconds = static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
                           static_cast<std::uint64_t>(now.tv_nsec);
  return (nanoseconds >> kTickShift) - first_tick;
}

std::uint64_t CacheImpl::ticks() const noexcept {
  if (steady) return steady_ticks();
  const auto nanoseconds =
      static_cast<std::uint64_t>(options.clock->now().time_since_epoch().count());
  return (nanoseconds >> kTickShift) - first_tick;
}

// Nearly always the first entry whose tag fits is the one: no loop, and so all of it in registers.
PinnedEntry CacheImpl::find(std::uint64_t hash, const void* key, SameKey same_key) noexcept {
  const std::uint32_t index = shard_of(hash);
  const CacheShard& shard = *shards[index];
  const EntryId id = shard.table.first_fit(shard.table.shape(), hash);
  if (id != kNoEntry) [[likely]] {
    EntryHeader& header = shard.headers[id];
    if (pin_if(header, hash, key, same_key) == Look::found) [[likely]] {
      note_hit(index, id);
      return {&header.state, header.block};
    }
  }
  return find_all(index, hash, key, same_key);
}

// A pin counts if the entry was live: else, or if it is another's, it is taken back.
inline CacheImpl::Look CacheImpl::pin_if(EntryHeader& header, std::uint64_t hash, const void* key,
                                         SameKey same_key) noexcept {
  const std::uint64_t old = header.state.fetch_add(1, std::memory_order_acq_rel);
  const bool same = (old & kLive) != 0 && header.hash == hash &&
                    (same_key == nullptr || same_key(header.block, key));
  if (same && !is_stale(old, [this] { return steady ? steady_ticks() : ticks(); })) [[likely]]
    return Look::found;
  unpin(&header.state);
  if (same) return Look::stale;
  return (old & kBusy) != 0 ? Look::busy : Look::other;
}

PinnedEntry CacheImpl::find_all(std::uint32_t index, std::uint64_t hash, const void* key,
                                SameKey same_key) noexcept {
  CacheShard& shard = *shards[index];
  for (;;) {
    const std::uint64_t shape = shard.table.shape();
    Look seen = Look::other;
    EntryId id = kNoEntry;
    shard.table.visit(shape, hash, [&](const std::atomic<std::uint32_t>& slot, EntryId there) {
      for (;;) {
        id = there;
        seen = pin_if(shard.headers[id], hash, key, same_key);
        if (seen != Look::other) return true;
        // The number may have been another's by the time it was pinned: what matters is who has
        // the slot now.
        const std::uint32_t entry = slot.load(std::memory_order_acquire);
        if (entry == 0 || entry - 1 == id) return false;
        there = entry - 1;
      }
    });
    if (seen == Look::busy) return find_slowly(index, hash, key, same_key);
    if (seen == Look::found) {
      EntryHeader& header = shard.headers[id];
      note_hit(index, id);
      return {&header.state, header.block};
    }
    if (seen == Look::stale || shard.table.shape() == shape) {
      note_miss(seen == Look::stale);
      return {};
    }
  }
}

PinnedEntry CacheImpl::find_slowly(std::uint32_t index, std::uint64_t hash, const void* key,
                                   SameKey same_key) noexcept {
  CacheShard& shard = *shards[index];
  const Found found = shard.find_slowly(hash, key, same_key, [this] { return ticks(); });
  if (found.id == kNoEntry) {
    note_miss(found.stale);
    return {};
  }
  note_hit(index, found.id);
  return {&shard.headers[found.id].state, shard.headers[found.id].block};
}

void CacheImpl::note_hit(std::uint32_t shard, EntryId id) noexcept {
  CacheReader* const reader = readers->of_this_thread();
  if (reader == nullptr) [[unlikely]] {
    other_hits.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  reader->hits.add_one();
  HitRing& ring = reader->rings[shard];
  if (ring.push(id)) [[likely]]
    return;
  CacheShard& full = *shards[shard];
  if (!full.mutex.try_lock()) {
    reader->unrecorded.add_one();
    return;
  }
  full.drain(shard, *readers);
  full.mutex.unlock();
  ring.push(id);
}

void CacheImpl::note_miss(bool stale) noexcept {
  CacheReader* const reader = readers->of_this_thread();
  if (reader == nullptr) [[unlikely]] {
    other_misses.fetch_add(1, std::memory_order_relaxed);
    if (stale) other_stale.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  reader->misses.add_one();
  if (stale) reader->stale.add_one();
}

CacheImpl::EntryPlace CacheImpl::place_of(const std::atomic<std::uint64_t>* state) const noexcept {
  const auto number =
      static_cast<std::uint64_t>(reinterpret_cast<const EntryHeader*>(state) - headers->data());
  return {static_cast<std::uint32_t>(number & (shards.size() - 1)),
          static_cast<EntryId>(number >> shard_bits)};
}

void CacheImpl::last_unpinned(std::atomic<std::uint64_t>* state) noexcept {
  std::uint64_t old = state->load(std::memory_order_acquire);
  while ((old & kDoomed) != 0 && (old & kPinMask) == 0) {
    if (!state->compare_exchange_weak(old, old - kDoomed + kClaimed, std::memory_order_acq_rel)) {
      continue;
    }
    if ((old & kDetached) != 0) {
      auto* const header = reinterpret_cast<EntryHeader*>(state);
      destroy(header->block);
      ::operator delete (header, std::align_val_t{std::max<std::size_t>(type.alignment, 32)});
      return;
    }
    const auto [index, id] = place_of(state);
    CacheShard& shard = *shards[index];
    EntryHeader& header = shard.headers[id];
    const std::uint64_t charge = header.charge();
    destroy_block(header.block);
    release_charge(charge, 1);
    std::uint64_t spare = 0;
    {
      const std::lock_guard lock{shard.mutex};
      shard.leaving.subtract(1);
      shard.free(id);
      spare = shard.take_spare();
    }
    if (spare != 0) release_charge(spare, 0);
    return;
  }
  if ((old & kAside) == 0) return;
  const auto [index, id] = place_of(state);
  CacheShard& shard = *shards[index];
  Departures out;
  {
    const std::lock_guard lock{shard.mutex};
    shard.drain(index, *readers);
    shard.put_back(id, listened(), out);
    out.add_spare(shard.take_spare());
  }
  if (!out.empty()) settle_and_free(shard, out);
}

// The doors.

CacheCore::CacheCore(CacheOptions options, EntryType type)
    : impl_(std::make_unique<CacheImpl>(std::move(options), type)) {
  if (impl_->options.budget != nullptr) {
    impl_->registration = impl_->options.budget->add_reclaimer(
        *this, {.name = impl_->options.name, .priority = impl_->options.priority});
  }
  if (impl_->steady && impl_->options.background_expiry) {
    impl_->start_expiring();
  }
}

CacheCore::~CacheCore() {
  impl_->registration.reset();
  impl_->stop_expiring();
}

PinnedEntry CacheCore::find(std::uint64_t hash, const void* key, SameKey same_key) noexcept {
  return impl_->find(mix_key(hash), key, same_key);
}

void CacheCore::last_unpinned(std::atomic<std::uint64_t>* state) noexcept {
  impl_->last_unpinned(state);
}

Clock& CacheCore::clock() const noexcept { return *impl_->options.clock; }

}  // namespace forebay::detail
