// The latest records of a stream: see stream_ring.hpp.

#include "cache/shapes/stream_ring.hpp"

#include <new>
#include <thread>
#include <utility>

#include "forebay/check.hpp"

namespace forebay::detail {
namespace {

constexpr int kTurns = 1000;
constexpr std::uint32_t kMostAtOnce = 64;  // bounds what is done under one hold of the lock

}  // namespace

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
  if (!line.try_charge(StreamIndex::bytes_of(kSmallest))) {
    refuse("max_bytes is " + to_string(options.max_bytes) + ", and its index alone takes " +
           to_string(Bytes{StreamIndex::bytes_of(kSmallest)}));
  }
  line.charge_budget(StreamIndex::bytes_of(kSmallest)).throw_if_error();
  try {
    owned = std::make_unique<StreamIndex>(kSmallest);
  } catch (...) {
    line.release(StreamIndex::bytes_of(kSmallest));
    throw;
  }
  index = owned.get();
}

StreamCore::Impl::~Impl() {
  for (const StreamPlace& place : places) {
    FOREBAY_CHECK(place.announced.load() == kStreamFree, "a stream ends while it is being read");
  }
  drop(~std::uint64_t{0}, StreamLeaving::cleared);
  settle_held();
  while (owned != nullptr) {
    line.release(StreamIndex::bytes_of(owned->size()));
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

void StreamCore::Impl::destroy(StreamNode* record) noexcept {
  const std::uint64_t charge = record->charge;
  type.destroy(value_of(record));
  memory->deallocate(record, block_size(), block_alignment());
  line.release(charge);
}

void StreamCore::Impl::drop_oldest(Chain& out, StreamLeaving why) noexcept {
  const std::uint64_t oldest = first.load();
  StreamNode* const record = index.load()->slot(oldest).load(std::memory_order_relaxed);
  first.store(oldest + 1);
  out.push(record);
  left[static_cast<std::size_t>(why)].fetch_add(1, std::memory_order_relaxed);
}

void StreamCore::Impl::drop_expired(Chain& out) noexcept {
  if (!ages()) return;
  for (const std::int64_t at = now(); records() != 0 && out.count < kMostAtOnce;) {
    if (!too_old(*index.load()->slot(first.load()).load(std::memory_order_relaxed), at)) return;
    drop_oldest(out, StreamLeaving::expired);
  }
}

bool StreamCore::Impl::looked_at(std::uint64_t sequence) const noexcept {
  const std::uint32_t count = used_places.load();
  for (std::uint32_t i = 0; i != count; ++i) {
    if (places[i].announced.load() == sequence + kStreamLooking) return true;
  }
  return false;
}

std::uint64_t StreamCore::Impl::settle(Chain& out) noexcept {
  std::uint64_t released = 0;
  Chain kept;
  StreamNode* last = nullptr;
  for (StreamNode* record = out.first; record != nullptr;) {
    StreamNode* const next = record->next;
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
    for (StreamNode** at = &held; *at != nullptr;) {
      StreamNode* const record = *at;
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
  for (StreamNode* record = out.first; record != nullptr;)
    destroy(std::exchange(record, record->next));
  return released;
}

// Drops the oldest until that many bytes are released or none is left.
std::uint64_t StreamCore::Impl::drop(std::uint64_t goal, StreamLeaving why) noexcept {
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
        drop_oldest(out, StreamLeaving::dropped);
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

Result<StreamNode*> StreamCore::Impl::build(std::uint64_t charge, void* record,
                                            void (*construct)(void*, void*)) {
  auto block = memory->allocate(block_size(), block_alignment());
  if (!block) return block.status().with_context("stream " + options.name);
  auto* const made = new (*block) StreamNode{0, 0, charge, nullptr};
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
  const std::uint64_t bytes = StreamIndex::bytes_of(size);
  if (Status room = make_room(bytes); !room.ok()) return room;
  std::unique_ptr<StreamIndex> larger;
  try {
    larger = std::make_unique<StreamIndex>(size);
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
std::uint64_t StreamCore::Impl::publish(StreamNode* record) noexcept {
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
      if (records() == index.load()->size() && !may_grow) drop_oldest(out, StreamLeaving::dropped);
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
  impl_->drop(~std::uint64_t{0}, StreamLeaving::cleared);
  if (impl_->own_pool != nullptr) impl_->own_pool->release_unused();
}

StreamRingStats StreamCore::stats() const noexcept {
  const auto left = [this](StreamLeaving why) {
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
  stats.dropped = left(StreamLeaving::dropped);
  stats.expired = left(StreamLeaving::expired);
  stats.cleared = left(StreamLeaving::cleared);
  stats.refused = impl_->refused.load(std::memory_order_relaxed);
  return stats;
}

void StreamCore::validate() const {
  const std::lock_guard lock{impl_->mutex};
  std::uint64_t charged = 0;
  for (const StreamIndex* index = impl_->owned.get(); index != nullptr;
       index = index->outgrown.get()) {
    charged += StreamIndex::bytes_of(index->size());
  }
  const StreamIndex& index = *impl_->index.load();
  FOREBAY_CHECK(impl_->records() <= index.size(), "a stream's index has a slot for each record");
  for (std::uint64_t i = impl_->first.load(); i != impl_->end.load(); ++i) {
    FOREBAY_CHECK(index.slot(i).load()->sequence == i, "a stream's index has its records");
    charged += index.slot(i).load()->charge;
  }
  for (const StreamNode* record = impl_->held; record != nullptr; record = record->next) {
    charged += record->charge;
  }
  FOREBAY_CHECK(charged == impl_->line.used(), "a stream is charged what its records are");
  std::uint64_t left = 0;
  for (const auto& count : impl_->left) left += count.load();
  FOREBAY_CHECK(left == impl_->first.load(), "what a stream has dropped is counted");
}

Bytes StreamCore::reclaim(Bytes goal) noexcept {
  const Bytes released{impl_->drop(goal.count(), StreamLeaving::dropped)};
  if (impl_->own_pool != nullptr) impl_->own_pool->trim(released);
  return released;
}

Bytes StreamCore::reclaimable() const noexcept {
  return impl_->end.load() == impl_->first.load() ? Bytes{} : Bytes{impl_->line.used()};
}

StreamReader::StreamReader(const StreamCore& core) noexcept : impl_(*core.impl_), place_(0) {
  for (;; std::this_thread::yield()) {
    for (place_ = 0; place_ != kStreamPlaces; ++place_) {
      std::uint64_t expected = kStreamFree;
      if (impl_.places[place_].announced.compare_exchange_strong(expected, kStreamTaken)) break;
    }
    if (place_ != kStreamPlaces) break;
  }
  // Before anything is announced there.
  std::uint32_t used = impl_.used_places.load();
  while (used <= place_ && !impl_.used_places.compare_exchange_weak(used, place_ + 1)) {
  }
}

StreamReader::~StreamReader() {
  impl_.places[place_].announced.store(kStreamFree);
  impl_.settle_held();
}

const void* StreamReader::look(std::uint64_t sequence) noexcept {
  impl_.places[place_].announced.store(sequence + kStreamLooking);
  StreamNode* const record = impl_.index.load()->slot(sequence).load(std::memory_order_acquire);
  if (impl_.first.load() > sequence) return nullptr;
  if (impl_.ages() && impl_.too_old(*record, impl_.now())) return nullptr;
  return impl_.value_of(record);
}

}  // namespace forebay::detail
