// StreamCore::Impl: the latest records of a stream.
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

#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

#include "cache/shapes/byte_line.hpp"
#include "forebay/cache_streams.hpp"
#include "forebay/pool.hpp"

namespace forebay::detail {

inline constexpr std::uint32_t kStreamPlaces = 64;
inline constexpr std::uint64_t kStreamFree = 0;
inline constexpr std::uint64_t kStreamTaken = 1;    // by a reader that looks at nothing yet
inline constexpr std::uint64_t kStreamLooking = 2;  // and the number from here on

struct StreamNode {
  std::uint64_t sequence;
  std::int64_t time;  // when it was appended, nanoseconds
  std::uint64_t charge;
  StreamNode* next;  // of those that leave together
};

// A slot for each living number, by its low bits.
struct StreamIndex {
  explicit StreamIndex(std::uint64_t size)
      : mask(size - 1), slots(std::make_unique<std::atomic<StreamNode*>[]>(size)) {}
  static std::uint64_t bytes_of(std::uint64_t size) noexcept {
    return sizeof(StreamIndex) + size * sizeof(std::atomic<StreamNode*>);
  }
  std::atomic<StreamNode*>& slot(std::uint64_t sequence) const noexcept {
    return slots[sequence & mask];
  }
  std::uint64_t size() const noexcept { return mask + 1; }

  const std::uint64_t mask;
  const std::unique_ptr<std::atomic<StreamNode*>[]> slots;
  std::unique_ptr<StreamIndex> outgrown;
};

struct alignas(64) StreamPlace {
  std::atomic<std::uint64_t> announced{kStreamFree};
};

// Why a record leaves.
enum class StreamLeaving { dropped, expired, cleared };

struct StreamCore::Impl {
  Impl(StreamRingOptions given, const StreamType& of);
  ~Impl();

  // Records that were dropped together, and their charge.
  struct Chain {
    StreamNode* first = nullptr;
    std::uint64_t bytes = 0;
    std::uint64_t count = 0;
    void push(StreamNode* record) noexcept {
      record->next = first;
      first = record;
      bytes += record->charge;
      ++count;
    }
  };

  std::uint64_t overhead() const noexcept {
    const std::size_t alignment = std::max(type.alignment, alignof(StreamNode));
    return (sizeof(StreamNode) + alignment - 1) / alignment * alignment;
  }
  Bytes block_size() const noexcept { return Bytes{overhead() + type.size}; }
  Bytes block_alignment() const noexcept {
    return Bytes{std::max(type.alignment, alignof(StreamNode))};
  }
  void* value_of(StreamNode* record) const noexcept {
    return reinterpret_cast<std::byte*>(record) + overhead();
  }
  std::int64_t now() const noexcept { return options.clock->now().time_since_epoch().count(); }
  bool ages() const noexcept { return options.max_age != Duration::zero(); }
  bool too_old(const StreamNode& record, std::int64_t at) const noexcept {
    return at - record.time >= options.max_age.count();
  }

  Status refusal(std::uint64_t asked, const char* why) const;
  Status make_room(std::uint64_t bytes);
  Result<StreamNode*> build(std::uint64_t charge, void* record, void (*construct)(void*, void*));
  std::uint64_t publish(StreamNode* record) noexcept;
  Status grow();

  // REQUIRES: the lock.
  std::uint64_t records() const noexcept { return end.load() - first.load(); }
  void drop_oldest(Chain& out, StreamLeaving why) noexcept;
  void drop_expired(Chain& out) noexcept;
  // Without the lock: destroys what nobody looks at, and keeps the rest for later. The bytes
  // released.
  std::uint64_t settle(Chain& out) noexcept;
  std::uint64_t settle_held() noexcept;
  bool looked_at(std::uint64_t sequence) const noexcept;
  void destroy(StreamNode* record) noexcept;
  std::uint64_t drop(std::uint64_t goal, StreamLeaving why) noexcept;

  const StreamRingOptions options;
  const StreamType type;
  std::shared_ptr<Pool> own_pool;
  std::shared_ptr<MemoryResource> memory;
  ByteLine line;

  std::atomic<std::uint64_t> first{0};  // the oldest living number
  std::atomic<std::uint64_t> end{0};    // one past the newest
  std::atomic<StreamIndex*> index{nullptr};
  std::unique_ptr<StreamIndex> owned;
  std::atomic<std::uint32_t> used_places{0};  // those at and beyond it have never been taken
  std::array<StreamPlace, kStreamPlaces> places;

  mutable std::mutex mutex;
  StreamNode* held = nullptr;  // dropped while it was looked at
  std::atomic<std::uint64_t> held_count{0};
  std::atomic<std::uint64_t> leaving{0};  // records that writers have dropped, and not settled yet
  std::array<std::atomic<std::uint64_t>, 3> left{};  // by reason
  std::atomic<std::uint64_t> refused{0};
  ReclaimerRegistration registration;
};

}  // namespace forebay::detail
