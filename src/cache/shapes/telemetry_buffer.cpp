// A bounded queue that never stops who writes.
//
// There are up to twice as many cells as records, so that one that is slow to be taken out does not
// stand in the way of the next push. Each cell has a turn: `position` when it is free for the push
// of that position, one more when that record is in it, and `position + cells` when it has been
// taken out. Whoever moves `tail` or `head` over a position has the cell to itself until it writes
// the next turn.

#include <algorithm>
#include <atomic>
#include <bit>
#include <new>

#include "cache/shapes/byte_line.hpp"
#include "forebay/cache_streams.hpp"
#include "forebay/check.hpp"

namespace forebay::detail {
namespace {

// A cell that is being taken out is free in an instant; one whose owner sleeps is not waited for.
constexpr int kTries = 32;
constexpr std::uint64_t kFewest = 4;  // cells

struct Cell {
  std::atomic<std::uint64_t> turn;
  std::atomic<std::int64_t> time;  // of the push, nanoseconds; only if records age
  std::uint64_t weight;
};

std::size_t aligned(std::size_t bytes, std::size_t alignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

void pause() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

struct TelemetryCore::Impl {
  Impl(const TelemetryBufferOptions& given, const StreamType& of, bool weighed);
  ~Impl();

  Cell& cell(std::uint64_t position) const noexcept {
    return *reinterpret_cast<Cell*>(cells + (position & mask) * stride);
  }
  void* record(std::uint64_t position) const noexcept {
    return reinterpret_cast<std::byte*>(&cell(position)) + offset;
  }
  std::int64_t now() const noexcept { return options.clock->now().time_since_epoch().count(); }
  bool ages() const noexcept { return options.max_age != Duration::zero(); }

  static constexpr std::uint64_t kFull = kNone - 1;
  std::uint64_t try_begin_push() noexcept;
  // Only a record of that time or before.
  std::uint64_t try_begin_pop(std::int64_t until) noexcept;
  void end_pop(std::uint64_t position) noexcept;
  bool drop(std::atomic<std::uint64_t>& count, std::int64_t until) noexcept;
  bool make_room(std::uint64_t weight) noexcept;

  static constexpr std::int64_t kAnyTime = std::int64_t{~std::uint64_t{0} >> 1};

  const TelemetryBufferOptions options;
  const StreamType type;
  std::size_t offset = 0;
  std::size_t stride = 0;
  std::size_t alignment = 0;
  std::uint64_t mask = 0;
  std::uint64_t limit = 0;  // of records
  Reservation charge;
  std::byte* cells = nullptr;
  ByteLine line;  // cells, and what records weigh: within the charge

  alignas(64) std::atomic<std::uint64_t> tail{0};
  alignas(64) std::atomic<std::uint64_t> head{0};
  alignas(64) std::atomic<std::uint64_t> dropped_oldest{0};
  std::atomic<std::uint64_t> dropped_newest{0};
  std::atomic<std::uint64_t> expired{0};
};

TelemetryCore::Impl::Impl(const TelemetryBufferOptions& given, const StreamType& of, bool weighed)
    : options(given), type(of), line(given.max_bytes, nullptr) {
  const auto refuse = [&](const std::string& why) {
    throw Failure{Status{Code::invalid_argument, "telemetry buffer " + options.name + ": " + why}};
  };
  if (options.max_age < Duration::zero()) refuse("max_age must not be negative");
  alignment = std::max(type.alignment, alignof(Cell));
  offset = aligned(sizeof(Cell), type.alignment);
  stride = aligned(offset + type.size, alignment);
  const std::uint64_t fit = options.max_bytes.count() / stride;
  const std::uint64_t room = std::bit_floor(weighed ? fit / 2 : fit);
  if (room < kFewest || options.max_records == 0) {
    refuse("max_bytes is " + to_string(options.max_bytes) + " and max_records " +
           std::to_string(options.max_records) + ": a record takes " + to_string(Bytes{stride}) +
           ", and there must be room for " + std::to_string(weighed ? 2 * kFewest : kFewest));
  }
  const std::uint64_t wanted = std::bit_ceil(std::max<std::uint64_t>(options.max_records, 2)) * 2;
  const std::uint64_t count = std::min(room, wanted);
  mask = count - 1;
  limit = std::min<std::uint64_t>(options.max_records, count - count / 4);
  if (options.budget != nullptr) {
    auto granted = options.budget->reserve(options.max_bytes);
    granted.status().throw_if_error();
    charge = std::move(*granted);
  }
  static_cast<void>(line.try_charge((mask + 1) * stride));
  cells =
      static_cast<std::byte*>(::operator new ((mask + 1) * stride, std::align_val_t{alignment}));
  for (std::uint64_t i = 0; i <= mask; ++i) new (&cell(i)) Cell{i, 0, 0};
}

TelemetryCore::Impl::~Impl() {
  if (cells == nullptr) return;
  std::atomic<std::uint64_t> uncounted{0};
  while (drop(uncounted, kAnyTime)) {
  }
  FOREBAY_CHECK(head.load() == tail.load(), "a telemetry buffer ends while it is in use");
  ::operator delete (cells, std::align_val_t{alignment});
}

std::uint64_t TelemetryCore::Impl::try_begin_push() noexcept {
  std::uint64_t position = tail.load(std::memory_order_relaxed);
  for (;;) {
    // Heads only grow: what is so now is so when the tail moves.
    const auto records = static_cast<std::int64_t>(position - head.load(std::memory_order_acquire));
    if (records >= static_cast<std::int64_t>(limit)) return kFull;
    const std::uint64_t turn = cell(position).turn.load(std::memory_order_acquire);
    const auto ahead = static_cast<std::int64_t>(turn - position);
    if (ahead < 0) return kNone;  // its record of the round before is being taken out
    if (ahead > 0) {
      position = tail.load(std::memory_order_relaxed);
    } else if (tail.compare_exchange_weak(position, position + 1, std::memory_order_relaxed)) {
      return position;
    }
  }
}

std::uint64_t TelemetryCore::Impl::try_begin_pop(std::int64_t until) noexcept {
  std::uint64_t position = head.load(std::memory_order_relaxed);
  for (;;) {
    Cell& oldest = cell(position);
    const std::uint64_t turn = oldest.turn.load(std::memory_order_acquire);
    const auto ahead = static_cast<std::int64_t>(turn - (position + 1));
    if (ahead < 0) return kNone;
    if (ahead > 0) {
      position = head.load(std::memory_order_relaxed);
    } else if (until != kAnyTime && oldest.time.load(std::memory_order_relaxed) > until &&
               head.load(std::memory_order_relaxed) == position) {
      return kNone;
    } else if (head.compare_exchange_weak(position, position + 1, std::memory_order_relaxed)) {
      return position;
    }
  }
}

void TelemetryCore::Impl::end_pop(std::uint64_t position) noexcept {
  line.release(cell(position).weight);
  cell(position).turn.store(position + mask + 1, std::memory_order_release);
}

// Drops the oldest, if it is of that time or before.
bool TelemetryCore::Impl::drop(std::atomic<std::uint64_t>& count, std::int64_t until) noexcept {
  const std::uint64_t position = try_begin_pop(until);
  if (position == kNone) return false;
  type.destroy(record(position));
  end_pop(position);
  count.fetch_add(1, std::memory_order_relaxed);
  return true;
}

bool TelemetryCore::Impl::make_room(std::uint64_t weight) noexcept {
  if (weight == 0) return true;
  if (weight > line.most() - (mask + 1) * stride) return false;
  for (int tries = 0; tries != kTries;) {
    if (line.try_charge(weight)) return true;
    if (drop(dropped_oldest, kAnyTime)) continue;
    ++tries;
    pause();
  }
  return false;
}

// The doors.

TelemetryCore::TelemetryCore(const TelemetryBufferOptions& options, const StreamType& type,
                             bool weighed)
    : impl_(std::make_unique<Impl>(options, type, weighed)) {}

TelemetryCore::~TelemetryCore() = default;

std::uint64_t TelemetryCore::begin_push(std::uint64_t weight) noexcept {
  if (impl_->make_room(weight)) {
    for (int tries = 0; tries != kTries;) {
      const std::uint64_t position = impl_->try_begin_push();
      if (position < Impl::kFull) {
        impl_->cell(position).weight = weight;
        return position;
      }
      if (position == Impl::kFull && impl_->drop(impl_->dropped_oldest, Impl::kAnyTime)) continue;
      ++tries;
      pause();
    }
    impl_->line.release(weight);
  }
  impl_->dropped_newest.fetch_add(1, std::memory_order_relaxed);
  return kNone;
}

void TelemetryCore::end_push(std::uint64_t position) noexcept {
  Cell& cell = impl_->cell(position);
  if (impl_->ages()) cell.time.store(impl_->now(), std::memory_order_relaxed);
  cell.turn.store(position + 1, std::memory_order_release);
}

std::uint64_t TelemetryCore::begin_pop() noexcept {
  cleanup_expired();
  return impl_->try_begin_pop(Impl::kAnyTime);
}

void TelemetryCore::end_pop(std::uint64_t position) noexcept { impl_->end_pop(position); }

void* TelemetryCore::record_at(std::uint64_t position) const noexcept {
  return impl_->record(position);
}

std::uint64_t TelemetryCore::cleanup_expired() noexcept {
  if (!impl_->ages()) return 0;
  const std::int64_t until = impl_->now() - impl_->options.max_age.count();
  std::uint64_t count = 0;
  while (impl_->drop(impl_->expired, until)) ++count;
  return count;
}

TelemetryBufferStats TelemetryCore::stats() const noexcept {
  TelemetryBufferStats stats;
  const std::uint64_t popped = impl_->head.load();
  stats.pushed = impl_->tail.load();
  stats.max_records = impl_->limit;
  stats.used = Bytes{impl_->line.used()};
  stats.max_bytes = Bytes{impl_->line.most()};
  stats.records = stats.pushed - popped;
  stats.dropped_oldest = impl_->dropped_oldest.load();
  stats.dropped_newest = impl_->dropped_newest.load();
  stats.expired = impl_->expired.load();
  stats.drained = popped - std::min(popped, stats.dropped_oldest + stats.expired);
  return stats;
}

}  // namespace forebay::detail
