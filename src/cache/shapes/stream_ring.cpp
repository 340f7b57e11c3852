// The latest records of a stream.
//
// Writers, droppers and whoever frees take one lock, for pointers only. Readers take none:
//
//   a reader   announces the number that it looks at, reads the pointer in that number's slot, and
//              then looks whether the oldest living number is still no higher;
//   a dropper  raises the oldest living number, and then looks at what is announced.
//
// All four are in one order (sequentially consistent): either the reader sees that the record is
// gone, or the dropper sees that it is being looked at, and sets it aside. A slot is written for
// another number only after its old one was dropped; an index that was outgrown is kept, and never
// written again.

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <new>
#include <thread>

#include "cache/shapes/byte_line.hpp"
#include "forebay/cache_streams.hpp"
#include "forebay/check.hpp"
#include "forebay/pool.hpp"

namespace forebay::detail {
namespace {

constexpr std::uint32_t kPlaces = 64;
constexpr std::uint64_t kFree = 0;
constexpr std::uint64_t kTaken = 1;    // by a reader that looks at nothing yet
constexpr std::uint64_t kLooking = 2;  // and the number from here on
constexpr int kTurns = 1000;
constexpr std::uint32_t kMostAtOnce = 64;  // bounds what is done under one hold of the lock

struct Record {
  std::uint64_t sequence;
  std::int64_t time;  // when it was appended, nanoseconds
  std::uint64_t charge;
  Record* next;  // of those that leave together
};

// A slot for each living number, by its low bits.
struct Index {
  explicit Index(std::uint64_t size)
      : mask(size - 1), slots(std::make_unique<std::atomic<Record*>[]>(size)) {}
  static std::uint64_t bytes_of(std::uint64_t size) noexcept {
    return sizeof(Index) + size * sizeof(std::atomic<Record*>);
  }
  std::atomic<Record*>& slot(std::uint64_t sequence) const noexcept {
    return slots[sequence & mask];
  }
  std::uint64_t size() const noexcept { return mask + 1; }

  const std::uint64_t mask;
  const std::unique_ptr<std::atomic<Record*>[]> slots;
  std::unique_ptr<Index> outgrown;
};

struct alignas(64) Place {
  std::atomic<std::uint64_t> announced{kFree};
};

// Why a record leaves.
enum class Leaving { dropped, expired, cleared };

}  // namespace

struct StreamCore::Impl {
  Impl(StreamRingOptions given, const StreamType& of);
  ~Impl();

  // Records that were dropped together, and their charge.
  struct Chain {
    Record* first = nullptr;
    std::uint64_t bytes = 0;
    std::uint64_t count = 0;
    void push(Record* record) noexcept {
      record->next = first;
      first = record;
      bytes += record->charge;
      ++count;
    }
  };

  std::uint64_t overhead() const noexcept {
    const std::size_t alignment = std::max(type.alignment, alignof(Record));
    return (sizeof(Record) + alignment - 1) / alignment * alignment;
  }
  Bytes block_size() const noexcept { return Bytes{overhead() + type.size}; }
  Bytes block_alignment() const noexcept {
    return Bytes{std::max(type.alignment, alignof(Record))};
  }
  void* value_of(Record* record) const noexcept {
    return reinterpret_cast<std::byte*>(record) + overhead();
  }
  std::int64_t now() const noexcept { return options.clock->now().time_since_epoch().count(); }
  bool ages() const noexcept { return options.max_age != Duration::zero(); }
  bool too_old(const Record& record, std::int64_t at) const noexcept {
    return at - record.time >= options.max_age.count();
  }

  Status refusal(std::uint64_t asked, const char* why) const;
  Status make_room(std::uint64_t bytes);
  Result<Record*> build(std::uint64_t charge, void* record, void (*construct)(void*, void*));
  std::uint64_t publish(Record* record) noexcept;
  Status grow();

  // REQUIRES: the lock.
  std::uint64_t records() const noexcept { return end.load() - first.load(); }
  void drop_oldest(Chain& out, Leaving why) noexcept;
  void drop_expired(Chain& out) noexcept;
  // Without the lock: destroys what nobody looks at, and keeps the rest for later. The bytes
  // released.
  std::uint64_t settle(Chain& out) noexcept;
  std::uint64_t settle_held() noexcept;
  bool looked_at(std::uint64_t sequence) const noexcept;
  void destroy(Record* record) noexcept;
  std::uint64_t drop(std::uint64_t goal, Leaving why) noexcept;

  const StreamRingOptions options;
  const StreamType type;
  std::shared_ptr<Pool> own_pool;
  std::shared_ptr<MemoryResource> memory;
  ByteLine line;

  std::atomic<std::uint64_t> first{0};  // the oldest living number
  std::atomic<std::uint64_t> end{0};    // one past the newest
  std::atomic<Index*> index{nullptr};
  std::unique_ptr<Index> owned;
  std::atomic<std::uint32_t> used_places{0};  // those at and beyond it have never been taken
  std::array<Place, kPlaces> places;

  mutable std::mutex mutex;
  Record* held = nullptr;  // dropped while it was looked at
  std::atomic<std::uint64_t> held_count{0};
  std::atomic<std::uint64_t> leaving{0};  // records that writers have dropped, and not settled yet
  std::array<std::atomic<std::uint64_t>, 3> left{};  // by reason
  std::atomic<std::uint64_t> refused{0};
  ReclaimerRegistration registration;
};

StreamCore::Impl::Impl(StreamRingOptions given, const StreamType& of)
    : options(std::move(given)), type(of), line(options.max_bytes, options.budget) {
  const auto refuse = [&](const std::string& why) {
    throw Failure{Status{Code::invalid_argument, "stream " + options.name + ": " + why}};
  };
  if (options.max_age < Duration::zero()) refuse("max_age must not be negative");
  memory = options.memory;
  if (memory == nullptr) {
    own_pool = Pool::create(Device::host(), {.name = "stream " + options.name});
    memory = own_pool;
  }
  if (!memory->host_accessible()) {
    refuse("records need memory that the CPU reaches; '" + std::string{memory->name()} +
           "' is not such memory");
  }
  constexpr std::uint64_t kSmallest = 64;
  if (!line.try_charge(Index::bytes_of(kSmallest))) {
    refuse("max_bytes is " + to_string(options.max_bytes) + ", and its index alone takes " +
           to_string(Bytes{Index::bytes_of(kSmallest)}));
  }
  line.charge_budget(Index::bytes_of(kSmallest)).throw_if_error();
  try {
    owned = std::make_unique<Index>(kSmallest);
  } catch (...) {
    line.release(Index::bytes_of(kSmallest));
    throw;
  }
  index = owned.get();
}

StreamCore::Impl::~Impl() {
  for (const Place& place : places) {
    FOREBAY_CHECK(place.announced.load() == kFree, "a stream ends while it is being read");
  }
  drop(~std::uint64_t{0}, Leaving::cleared);
  settle_held();
  while (owned != nullptr) {
    line.release(Index::bytes_of(owned->size()));
    owned = std::move(owned->outgrown);
  }
  FOREBAY_CHECK(line.used() == 0, "a stream that is empty is charged nothing");
}

Status StreamCore::Impl::refusal(std::uint64_t asked, const char* why) const {
  return {Code::memory_refused,
          "stream " + options.name + ": asked " + to_string(Bytes{asked}) + ", used " +
              to_string(Bytes{line.used()}) + " of " + to_string(Bytes{line.most()}) + ", " +
              std::to_string(held_count.load()) + " records being read: " + why};
}

void StreamCore::Impl::destroy(Record* record) noexcept {
  const std::uint64_t charge = record->charge;
  type.destroy(value_of(record));
  memory->deallocate(record, block_size(), block_alignment());
  line.release(charge);
}

void StreamCore::Impl::drop_oldest(Chain& out, Leaving why) noexcept {
  const std::uint64_t oldest = first.load();
  Record* const record = index.load()->slot(oldest).load(std::memory_order_relaxed);
  first.store(oldest + 1);
  out.push(record);
  left[static_cast<std::size_t>(why)].fetch_add(1, std::memory_order_relaxed);
}

void StreamCore::Impl::drop_expired(Chain& out) noexcept {
  if (!ages()) return;
  for (const std::int64_t at = now(); records() != 0 && out.count < kMostAtOnce;) {
    if (!too_old(*index.load()->slot(first.load()).load(std::memory_order_relaxed), at)) return;
    drop_oldest(out, Leaving::expired);
  }
}

bool StreamCore::Impl::looked_at(std::uint64_t sequence) const noexcept {
  const std::uint32_t count = used_places.load();
  for (std::uint32_t i = 0; i != count; ++i) {
    if (places[i].announced.load() == sequence + kLooking) return true;
  }
  return false;
}

std::uint64_t StreamCore::Impl::settle(Chain& out) noexcept {
  std::uint64_t released = 0;
  Chain kept;
  Record* last = nullptr;
  for (Record* record = out.first; record != nullptr;) {
    Record* const next = record->next;
    if (looked_at(record->sequence)) {
      if (last == nullptr) last = record;
      kept.push(record);
    } else {
      released += record->charge;
      destroy(record);
    }
    record = next;
  }
  out = {};
  if (kept.first == nullptr) return released;
  {
    const std::lock_guard lock{mutex};
    last->next = held;
    held = kept.first;
    held_count.fetch_add(kept.count);
  }
  // Their readers may just have ended, and seen nothing held.
  return released + settle_held();
}

// What was dropped stays only while it is looked at: nobody can begin to.
std::uint64_t StreamCore::Impl::settle_held() noexcept {
  if (held_count.load() == 0) return 0;
  Chain out;
  {
    const std::lock_guard lock{mutex};
    for (Record** at = &held; *at != nullptr;) {
      Record* const record = *at;
      if (looked_at(record->sequence)) {
        at = &record->next;
      } else {
        *at = record->next;
        out.push(record);
      }
    }
    held_count.fetch_sub(out.count);
  }
  const std::uint64_t released = out.bytes;
  for (Record* record = out.first; record != nullptr;) destroy(std::exchange(record, record->next));
  return released;
}

// Drops the oldest until that many bytes are released or none is left.
std::uint64_t StreamCore::Impl::drop(std::uint64_t goal, Leaving why) noexcept {
  std::uint64_t released = settle_held();
  while (released < goal) {
    Chain out;
    {
      const std::lock_guard lock{mutex};
      while (records() != 0 && out.count != kMostAtOnce && released + out.bytes < goal) {
        drop_oldest(out, why);
      }
    }
    if (out.first == nullptr) break;
    released += settle(out);
  }
  return released;
}

// Charges `bytes`, after dropping what is in the way.
Status StreamCore::Impl::make_room(std::uint64_t bytes) {
  if (bytes > line.most()) return refusal(bytes, "it is larger than the stream");
  settle_held();
  for (int turns = 0;;) {
    Chain out;
    bool exhausted = false;
    {
      const std::lock_guard lock{mutex};
      drop_expired(out);
      while (records() != 0 && out.count != kMostAtOnce && line.lacks(bytes, out.bytes)) {
        drop_oldest(out, Leaving::dropped);
      }
      exhausted = out.count == 0 && records() == 0;
      if (exhausted && leaving.load() == 0) turns = kTurns;
      leaving.fetch_add(out.count);
    }
    const std::uint64_t count = out.count;
    settle(out);
    leaving.fetch_sub(count);
    if (line.try_charge(bytes)) return line.charge_budget(bytes);
    if (!exhausted) continue;
    // What another writer has dropped is back in an instant.
    if (turns++ >= kTurns) return refusal(bytes, "nothing is left that could be dropped");
    std::this_thread::yield();
  }
}

Result<Record*> StreamCore::Impl::build(std::uint64_t charge, void* record,
                                        void (*construct)(void*, void*)) {
  auto block = memory->allocate(block_size(), block_alignment());
  if (!block) return block.status().with_context("stream " + options.name);
  auto* const made = new (*block) Record{0, 0, charge, nullptr};
  try {
    construct(value_of(made), record);
  } catch (...) {
    memory->deallocate(made, block_size(), block_alignment());
    throw;
  }
  return made;
}

// An index of twice the size. What was there before is kept for who reads it.
Status StreamCore::Impl::grow() {
  const std::uint64_t size = index.load()->size() * 2;
  const std::uint64_t bytes = Index::bytes_of(size);
  if (Status room = make_room(bytes); !room.ok()) return room;
  std::unique_ptr<Index> larger;
  try {
    larger = std::make_unique<Index>(size);
  } catch (const std::bad_alloc&) {
    line.release(bytes);
    return {Code::memory_refused, "stream " + options.name + ": no memory for its index"};
  }
  {
    const std::lock_guard lock{mutex};
    if (index.load()->size() < size) {
      for (std::uint64_t i = first.load(); i != end.load(); ++i) {
        larger->slot(i).store(index.load()->slot(i).load(std::memory_order_relaxed),
                              std::memory_order_relaxed);
      }
      larger->outgrown = std::move(owned);
      owned = std::move(larger);
      index.store(owned.get());
    }
  }
  if (larger != nullptr) line.release(bytes);  // another writer was first
  return {};
}

// The number that the record gets. If the index is full and cannot grow, the oldest goes instead.
std::uint64_t StreamCore::Impl::publish(Record* record) noexcept {
  const auto grown = [this] {
    try {
      return grow().ok();
    } catch (const std::bad_alloc&) {
      return false;
    }
  };
  for (bool may_grow = true;; may_grow = grown()) {
    Chain out;
    bool done = false;
    std::uint64_t sequence = 0;
    {
      const std::lock_guard lock{mutex};
      if (records() == index.load()->size() && !may_grow) drop_oldest(out, Leaving::dropped);
      if (records() < index.load()->size()) {
        sequence = end.load();
        record->sequence = sequence;
        if (ages()) record->time = now();
        index.load()->slot(sequence).store(record, std::memory_order_release);
        end.store(sequence + 1);
        done = true;
      }
    }
    settle(out);
    if (done) return sequence;
  }
}

// The doors.

StreamCore::StreamCore(StreamRingOptions options, const StreamType& type)
    : impl_(std::make_unique<Impl>(std::move(options), type)) {
  if (impl_->options.budget == nullptr) return;
  impl_->registration = impl_->options.budget->add_reclaimer(
      *this, {.name = impl_->options.name, .priority = impl_->options.priority});
}

StreamCore::~StreamCore() { impl_->registration.reset(); }

Result<std::uint64_t> StreamCore::append(std::uint64_t weight, void* record,
                                         void (*construct)(void*, void*)) {
  struct Charge {
    ~Charge() { line.release(bytes); }
    ByteLine& line;
    std::uint64_t bytes;
  } charge{impl_->line, 0};
  const auto refuse = [this](Status why) {
    impl_->refused.fetch_add(1, std::memory_order_relaxed);
    return why;
  };
  try {
    const Bytes block = impl_->memory->good_size(impl_->block_size(), impl_->block_alignment());
    const Bytes bytes = checked_add(block, Bytes{weight}).value_or(Bytes::unlimited());
    if (Status room = impl_->make_room(bytes.count()); !room.ok()) return refuse(std::move(room));
    charge.bytes = bytes.count();
    auto made = impl_->build(bytes.count(), record, construct);
    if (!made) return refuse(made.status());
    charge.bytes = 0;
    return impl_->publish(*made);
  } catch (const std::bad_alloc&) {
    return refuse({Code::memory_refused, "the stream finds no memory for a record"});
  }
}

StreamCore::Living StreamCore::living() const noexcept {
  const std::uint64_t first = impl_->first.load();
  return {first, impl_->end.load()};
}

void StreamCore::set_max_bytes(Bytes bytes) {
  if (bytes.is_zero()) {
    throw Failure{Status{Code::invalid_argument,
                         "stream " + impl_->options.name + ": max_bytes must be above 0"}};
  }
  impl_->line.set_most(bytes.count());
  const std::uint64_t used = impl_->line.used();
  if (used > bytes.count()) reclaim(Bytes{used - bytes.count()});
}

std::uint64_t StreamCore::cleanup_expired() noexcept {
  std::uint64_t count = 0;
  for (;;) {
    Impl::Chain out;
    {
      const std::lock_guard lock{impl_->mutex};
      impl_->drop_expired(out);
    }
    if (out.count == 0) return count;
    count += out.count;
    impl_->settle(out);
  }
}

void StreamCore::clear() noexcept {
  impl_->drop(~std::uint64_t{0}, Leaving::cleared);
  if (impl_->own_pool != nullptr) impl_->own_pool->release_unused();
}

StreamRingStats StreamCore::stats() const noexcept {
  const auto left = [this](Leaving why) {
    return impl_->left[static_cast<std::size_t>(why)].load(std::memory_order_relaxed);
  };
  const Living now = living();
  StreamRingStats stats;
  stats.used = Bytes{impl_->line.used()};
  stats.peak = Bytes{impl_->line.peak()};
  stats.max_bytes = Bytes{impl_->line.most()};
  stats.records = now.end - now.first;
  stats.held = impl_->held_count.load(std::memory_order_relaxed);
  stats.appended = now.end;
  stats.dropped = left(Leaving::dropped);
  stats.expired = left(Leaving::expired);
  stats.cleared = left(Leaving::cleared);
  stats.refused = impl_->refused.load(std::memory_order_relaxed);
  return stats;
}

void StreamCore::validate() const {
  const std::lock_guard lock{impl_->mutex};
  std::uint64_t charged = 0;
  for (const Index* index = impl_->owned.get(); index != nullptr; index = index->outgrown.get()) {
    charged += Index::bytes_of(index->size());
  }
  const Index& index = *impl_->index.load();
  FOREBAY_CHECK(impl_->records() <= index.size(), "a stream's index has a slot for each record");
  for (std::uint64_t i = impl_->first.load(); i != impl_->end.load(); ++i) {
    FOREBAY_CHECK(index.slot(i).load()->sequence == i, "a stream's index has its records");
    charged += index.slot(i).load()->charge;
  }
  for (const Record* record = impl_->held; record != nullptr; record = record->next) {
    charged += record->charge;
  }
  FOREBAY_CHECK(charged == impl_->line.used(), "a stream is charged what its records are");
  std::uint64_t left = 0;
  for (const auto& count : impl_->left) left += count.load();
  FOREBAY_CHECK(left == impl_->first.load(), "what a stream has dropped is counted");
}

Bytes StreamCore::reclaim(Bytes goal) noexcept {
  const Bytes released{impl_->drop(goal.count(), Leaving::dropped)};
  if (impl_->own_pool != nullptr) impl_->own_pool->trim(released);
  return released;
}

Bytes StreamCore::reclaimable() const noexcept {
  return impl_->end.load() == impl_->first.load() ? Bytes{} : Bytes{impl_->line.used()};
}

StreamReader::StreamReader(const StreamCore& core) noexcept : impl_(*core.impl_), place_(0) {
  for (;; std::this_thread::yield()) {
    for (place_ = 0; place_ != kPlaces; ++place_) {
      std::uint64_t expected = kFree;
      if (impl_.places[place_].announced.compare_exchange_strong(expected, kTaken)) break;
    }
    if (place_ != kPlaces) break;
  }
  // Before anything is announced there.
  std::uint32_t used = impl_.used_places.load();
  while (used <= place_ && !impl_.used_places.compare_exchange_weak(used, place_ + 1)) {
  }
}

StreamReader::~StreamReader() {
  impl_.places[place_].announced.store(kFree);
  impl_.settle_held();
}

const void* StreamReader::look(std::uint64_t sequence) noexcept {
  impl_.places[place_].announced.store(sequence + kLooking);
  Record* const record = impl_.index.load()->slot(sequence).load(std::memory_order_acquire);
  if (impl_.first.load() > sequence) return nullptr;
  if (impl_.ages() && impl_.too_old(*record, impl_.now())) return nullptr;
  return impl_.value_of(record);
}

}  // namespace forebay::detail
