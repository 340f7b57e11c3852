// Records in the order in which they come, bounded by bytes:
//
//   StreamRing<T>       the latest of a stream, by number; nobody stops anybody
//   TelemetryBuffer<T>  on their way to a slow reader; never stops who writes
//
//   forebay::StreamRing<Frame> frames{{.max_bytes = 64_MiB, .max_age = 30s}};
//   frames.append(frame).status().throw_if_error();
//   for (const Frame& f : frames.latest(10).values) look_at(f);
//
// Budgets and clocks that are given must outlive them. User code (moves, copies, destructors,
// weighers, visitors) runs with no lock held, and may use them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "forebay/budget.hpp"
#include "forebay/bytes.hpp"
#include "forebay/clock.hpp"
#include "forebay/device.hpp"
#include "forebay/status.hpp"

#pragma GCC visibility push(default)
namespace forebay {

// ---- StreamRing

struct StreamRingOptions {
  std::string name = "stream";
  Bytes max_bytes{16ULL << 20};
  Duration max_age{0};                       // older records are gone. Zero: without end
  std::shared_ptr<MemoryResource> memory{};  // of records; none: a pool of the ring's own
  Budget* budget = nullptr;                  // also charged; the ring is then a reclaimer of it
  int priority = 0;                          // as a reclaimer: lower gives back first
  Clock* clock = &Clock::steady();
};

// appended = records + dropped + expired + cleared.
struct StreamRingStats {
  Bytes used;  // charged now, the index and what readers hold included
  Bytes peak;
  Bytes max_bytes;
  std::uint64_t records = 0;  // there now
  std::uint64_t held = 0;     // dropped, and still charged: being read
  std::uint64_t appended = 0;
  std::uint64_t dropped = 0;  // for want of room, or reclaimed
  std::uint64_t expired = 0;
  std::uint64_t cleared = 0;
  std::uint64_t refused = 0;  // appends
};

namespace detail {

struct StreamType {
  std::size_t size = 0;
  std::size_t alignment = 0;
  void (*destroy)(void* value) noexcept = nullptr;
};

// StreamRing without its type. All functions are thread-safe.
class StreamCore final : public Reclaimer {
 public:
  StreamCore(StreamRingOptions options, const StreamType& type);
  ~StreamCore() override;

  // `construct` moves the record into its block; may throw.
  Result<std::uint64_t> append(std::uint64_t weight, void* record,
                               void (*construct)(void* block, void* record));
  // Numbers from first to before end are there.
  struct Living {
    std::uint64_t first;
    std::uint64_t end;
  };
  Living living() const noexcept;
  void set_max_bytes(Bytes bytes);
  std::uint64_t cleanup_expired() noexcept;
  void clear() noexcept;
  StreamRingStats stats() const noexcept;
  void validate() const;
  Bytes reclaim(Bytes goal) noexcept override;
  Bytes reclaimable() const noexcept override;

 private:
  friend class StreamReader;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// One of the reads that go on at once. Takes its turn where there are too many.
class StreamReader {
 public:
  explicit StreamReader(const StreamCore& core) noexcept;
  StreamReader(const StreamReader&) = delete;
  StreamReader& operator=(const StreamReader&) = delete;
  ~StreamReader();
  // The record, which stays until the next look; null: it is gone.
  // REQUIRES: it has been appended.
  const void* look(std::uint64_t sequence) noexcept;

 private:
  StreamCore::Impl& impl_;
  std::uint32_t place_;
};

}  // namespace detail

enum class StreamPresence { there, gone, not_yet };

template <typename T>
struct StreamRecord {
  StreamPresence presence = StreamPresence::not_yet;
  std::optional<T> value{};  // if it is there
};

// Records without a gap, oldest first.
template <typename T>
struct StreamSlice {
  std::uint64_t first = 0;  // sequence of values[0]
  std::vector<T> values{};
  std::uint64_t gone = 0;     // of those asked for: dropped before they were read
  std::uint64_t not_yet = 0;  // of those asked for: not appended when the call began
};

// The latest records of a stream. Each gets the next number, from 0 on; at the line the oldest go.
//
// Bytes: a record is charged the block that it takes from `memory`, and what the weigher says it
// holds elsewhere; the index of all records is charged as well. Charged before memory is taken,
// released after it is back: never above max_bytes, not for an instant.
//
// Readers take no lock, and neither wait for writers nor stop them: a reader announces the one
// record that it looks at (a hazard pointer; Michael, "Hazard pointers", TPDS 2004), and only
// that one stays, charged, if it is dropped meanwhile. A range is read from its newest record to
// its oldest: what a writer overtakes is missing at the old end, and counted as gone. At most 64
// reads at once; more take turns.
//
// Thread safety: thread-safe. Writers take turns by a short lock.
template <typename T>
class StreamRing {
 public:
  // Bytes that a record holds beyond sizeof. Must not change while it is in.
  using Weigher = std::function<Bytes(const T&)>;

  // Throws Failure (invalid_argument) for options that are not allowed, or memory_refused;
  // std::bad_alloc.
  explicit StreamRing(StreamRingOptions options = {}, Weigher weigher = {})
      : weigher_(std::move(weigher)), core_(std::move(options), type()) {}

  // The record's number. Errors: memory_refused, and nothing is appended: it is larger than the
  // line; readers hold what would have to go; `memory` or the budget has none.
  Result<std::uint64_t> append(T record) {
    const std::uint64_t weight = weigher_ ? weigher_(record).count() : 0;
    return core_.append(weight, &record, [](void* block, void* from) {
      new (block) T{std::move(*static_cast<T*>(from))};
    });
  }

  // Copies, of those that are there. Throw what copying a T does.
  StreamRecord<T> at(std::uint64_t sequence) const {
    StreamRecord<T> found;
    const auto copy = [&](std::uint64_t, const T& record) { found.value.emplace(record); };
    if (visit(sequence, sequence, copy).not_yet != 0) return found;
    found.presence = found.value ? StreamPresence::there : StreamPresence::gone;
    return found;
  }
  // The numbers from `first` to `last`, both included.
  StreamSlice<T> range(std::uint64_t first, std::uint64_t last) const {
    StreamSlice<T> slice;
    const auto [oldest, end] = core_.living();
    if (std::max(first, oldest) < end && first <= last) {
      slice.values.reserve(std::min(last, end - 1) + 1 - std::min(std::max(first, oldest), last));
    }
    const auto reach = visit(first, last, [&](std::uint64_t sequence, const T& record) {
      slice.first = sequence;
      slice.values.push_back(record);
    });
    std::reverse(slice.values.begin(), slice.values.end());
    slice.gone = reach.gone;
    slice.not_yet = reach.not_yet;
    return slice;
  }
  // The newest `count`, or as many as were ever appended.
  StreamSlice<T> latest(std::uint64_t count) const {
    const std::uint64_t end = core_.living().end;
    if (count == 0 || end == 0) return {};
    return range(end - std::min(count, end), end - 1);
  }
  struct Reach {
    std::uint64_t gone = 0;
    std::uint64_t not_yet = 0;
  };
  // Calls visit(sequence, const T&) for each record of the range, newest first, without a copy.
  template <typename Visit>
  Reach visit(std::uint64_t first, std::uint64_t last, Visit&& visit) const {
    if (first > last) return {};
    const std::uint64_t end = core_.living().end;  // one past the newest
    Reach reach;
    if (last >= end) reach.not_yet = last - std::max(first, end) + 1;
    if (first >= end) return reach;
    detail::StreamReader reader{core_};
    for (std::uint64_t next = std::min(last, end - 1) + 1; next != first; --next) {
      const void* const record = reader.look(next - 1);
      if (record == nullptr) {
        reach.gone = next - first;
        break;
      }
      visit(next - 1, *static_cast<const T*>(record));
    }
    return reach;
  }

  // The number that the next record gets, and that of the oldest one there (if none: the same).
  std::uint64_t next_sequence() const noexcept { return core_.living().end; }
  std::uint64_t oldest_sequence() const noexcept { return core_.living().first; }

  // A new line at any time: the oldest go until it holds. Throws Failure for zero.
  void set_max_bytes(Bytes bytes) { core_.set_max_bytes(bytes); }
  // Frees what is older than max_age; how many. An append does so too, for 64 at most.
  std::uint64_t cleanup_expired() noexcept { return core_.cleanup_expired(); }
  // Drops all records; numbers go on.
  void clear() noexcept { core_.clear(); }
  Bytes reclaim(Bytes goal) noexcept { return core_.reclaim(goal); }
  Reclaimer& reclaimer() noexcept { return core_; }
  StreamRingStats stats() const noexcept { return core_.stats(); }
  // Aborts unless list, index and counters agree. No one may be reading or writing.
  void validate() const { core_.validate(); }

 private:
  static detail::StreamType type() noexcept {
    return {sizeof(T), alignof(T), [](void* value) noexcept { static_cast<T*>(value)->~T(); }};
  }

  Weigher weigher_;
  detail::StreamCore core_;
};

// ---- TelemetryBuffer

struct TelemetryBufferOptions {
  std::string name = "telemetry";
  Bytes max_bytes{1ULL << 20};  // all taken from the budget at the start
  // By default what fits; half of that if records are weighed.
  std::uint32_t max_records = ~std::uint32_t{0};
  Duration max_age{0};  // older records are not handed out. Zero: without end
  Budget* budget = nullptr;
  Clock* clock = &Clock::steady();
};

// pushed = records + drained + dropped_oldest + expired, while nobody is at work on it.
struct TelemetryBufferStats {
  Bytes used;  // room for records, and what those there hold elsewhere; at most max_bytes
  Bytes max_bytes;
  std::uint64_t max_records = 0;
  std::uint64_t records = 0;  // there now
  std::uint64_t pushed = 0;
  std::uint64_t drained = 0;
  std::uint64_t dropped_oldest = 0;
  std::uint64_t expired = 0;
  // Not pushed: larger than the line, or the oldest was just being written or read.
  std::uint64_t dropped_newest = 0;
};

namespace detail {

// TelemetryBuffer without its type: cells, each with a turn, after Vyukov's bounded queue.
class TelemetryCore {
 public:
  static constexpr std::uint64_t kNone = ~std::uint64_t{0};

  TelemetryCore(const TelemetryBufferOptions& options, const StreamType& type, bool weighed);
  ~TelemetryCore();
  TelemetryCore(const TelemetryCore&) = delete;
  TelemetryCore& operator=(const TelemetryCore&) = delete;

  // The position of a free cell, after dropping the oldest if need be; kNone: the newest is.
  std::uint64_t begin_push(std::uint64_t weight) noexcept;
  void end_push(std::uint64_t position) noexcept;
  // The oldest record that is not too old; kNone: there is none.
  std::uint64_t begin_pop() noexcept;
  void end_pop(std::uint64_t position) noexcept;
  void* record_at(std::uint64_t position) const noexcept;
  std::uint64_t cleanup_expired() noexcept;
  TelemetryBufferStats stats() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace detail

// Records on their way to a reader that may be slow: drained in order, and if they are too many
// or too large, the oldest are dropped and counted. All memory for it is taken at the start, so
// that it works when memory is refused.
//
// A push takes no lock, waits for nobody and takes no memory: a bounded queue whose cells have
// turns (Vyukov, "Bounded MPMC queue", 2010), where a push that finds it full takes the oldest out.
//
// Thread safety: thread-safe, any number of threads on both ends.
template <typename T>
class TelemetryBuffer {
  static_assert(std::is_nothrow_move_constructible_v<T>, "a push cannot fail half way");

 public:
  // Bytes that a record holds beyond sizeof. Must not change while it is in.
  using Weigher = std::function<Bytes(const T&)>;

  // Throws Failure (invalid_argument) if not even four records fit, or memory_refused;
  // std::bad_alloc.
  explicit TelemetryBuffer(const TelemetryBufferOptions& options = {}, Weigher weigher = {})
      : weigher_(std::move(weigher)), core_(options, type(), static_cast<bool>(weigher_)) {}

  // False: this one was dropped, and counted.
  bool push(T record) {
    const std::uint64_t position = core_.begin_push(weigher_ ? weigher_(record).count() : 0);
    if (position == detail::TelemetryCore::kNone) return false;
    new (core_.record_at(position)) T{std::move(record)};
    core_.end_push(position);
    return true;
  }
  // Calls take(number, T&&) for each record, oldest first, `most` at most; how many. Numbers count
  // the pushes: those that are missing were dropped. Records that are being pushed come with
  // the next call. A record whose take() throws is lost.
  template <typename Take>
  std::uint64_t drain(Take&& take, std::uint64_t most = ~std::uint64_t{0}) {
    std::uint64_t count = 0;
    for (; count != most; ++count) {
      const std::uint64_t position = core_.begin_pop();
      if (position == detail::TelemetryCore::kNone) break;
      T* const there = static_cast<T*>(core_.record_at(position));
      T record{std::move(*there)};
      there->~T();
      core_.end_pop(position);
      take(position, std::move(record));
    }
    return count;
  }
  // Drops what is older than max_age; how many.
  std::uint64_t cleanup_expired() noexcept { return core_.cleanup_expired(); }
  void clear() noexcept {
    drain([](std::uint64_t, T&&) noexcept {});
  }
  TelemetryBufferStats stats() const noexcept { return core_.stats(); }

 private:
  static detail::StreamType type() noexcept {
    return {sizeof(T), alignof(T), [](void* value) noexcept { static_cast<T*>(value)->~T(); }};
  }

  Weigher weigher_;
  detail::TelemetryCore core_;
};

}  // namespace forebay
#pragma GCC visibility pop
