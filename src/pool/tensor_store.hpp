// TensorStore: a TensorPool's record of its tensors, by key.
#pragma once

#include <cstdint>
#include <functional>
#include <unordered_map>
#include <vector>

#include "forebay/buffer.hpp"
#include "forebay/tensor.hpp"
#include "pool/intrusive_list.hpp"
#include "pool/tensor_block.hpp"

namespace forebay::detail {

// Without the device: a TensorPool is of one.
struct TensorKey {
  Shape shape;
  DataType dtype;
  friend bool operator==(const TensorKey&, const TensorKey&) = default;
};

struct TensorKeyHash {
  // Throws nothing, but does not say so: libstdc++ then keeps each key's hash beside it.
  std::size_t operator()(const TensorKey& key) const;
};

class TensorHome;
struct TensorEntry;

// A tensor of a pool, from the Pool below and until it goes back there.
struct TensorRecord final : TensorBlock {
  TensorRecord(TensorHome& its_home, const TensorKey& key, TensorDevice its_device, Bytes its_size)
      : TensorBlock(key.shape, key.dtype, its_device, its_size), home(its_home) {}

  void give_back() noexcept override;
  std::shared_ptr<const void> keeper() const noexcept override;

  TensorHome& home;
  Buffer buffer;
  TensorEntry* entry = nullptr;
  // Of the first see_idle() that saw it so: a return need not look at the clock, which costs
  // as much as the rest of it.
  Clock::TimePoint idle_since{};
  // While idle: in the list of its key, and in that of all. `in_all` also strings together
  // those that are on their way below.
  ListHook<TensorRecord> in_key;
  ListHook<TensorRecord> in_all;
};

// Where a record returns to.
class TensorHome {
 public:
  virtual void take_back(TensorRecord& record) noexcept = 0;
  virtual std::shared_ptr<const void> keeper() noexcept = 0;

 protected:
  ~TensorHome() = default;
};

// Records that leave; their blocks go to the Pool below at its end. It must end with no lock
// held.
class LeavingTensors {
 public:
  LeavingTensors() = default;
  LeavingTensors(const LeavingTensors&) = delete;
  LeavingTensors& operator=(const LeavingTensors&) = delete;
  ~LeavingTensors() {
    while (!list_.empty()) delete list_.pop_back();
  }

  void add(TensorRecord& record) noexcept {
    list_.push_front(record);
    bytes_ += record.size;
    ++count_;
  }
  Bytes bytes() const noexcept { return bytes_; }
  std::size_t count() const noexcept { return count_; }

 private:
  IntrusiveList<TensorRecord, &TensorRecord::in_all> list_;
  Bytes bytes_;
  std::size_t count_ = 0;
};

// What is known of a key. One that has no tensors is forgotten when there are too many.
struct TensorEntry {
  const TensorKey* key = nullptr;  // in the map
  std::uint64_t uses = 0;
  std::uint64_t hits = 0;
  std::uint64_t recent_uses = 0;  // since the last cleanup
  std::uint64_t live = 0;
  std::uint64_t idle = 0;
  std::uint64_t pending = 0;  // being fetched from the Pool below
  Bytes size;                 // of each tensor
  IntrusiveList<TensorRecord, &TensorRecord::in_key> idle_tensors;  // latest first
  ListHook<TensorEntry> in_empty;

  bool has_tensors() const noexcept { return live + idle + pending != 0; }
};

// Invariants (validate() checks them):
//   1. an entry's idle list holds `idle` records, none is longer than max_idle_per_key, and
//      the list of all holds them all, latest first;
//   2. an entry is in the list of the empty ones if and only if it has no tensors;
//   3. stats.live and .idle, in bytes and tensors, are the sums over the entries;
//   4. hits + misses = acquires = the uses of all entries and of forgotten ones;
//   5. misses + preallocated - given_below = live + idle.
//
// Thread safety: not thread-safe; the pool locks.
class TensorStore {
 public:
  explicit TensorStore(const TensorPoolOptions& options) noexcept : options_(options) {}
  TensorStore(const TensorStore&) = delete;
  TensorStore& operator=(const TensorStore&) = delete;

  // An idle tensor, now live; one that was last used on `stream` if there is any among the
  // latest few. Null if none is idle.
  TensorRecord* reuse(const TensorKey& key, Stream stream) noexcept;
  // The key's entry, for a tensor to come: it stays until add() or close(). May throw
  // std::bad_alloc, and nothing changes.
  TensorEntry& open(const TensorKey& key, Bytes size);
  void close(TensorEntry& entry) noexcept;
  // The tensor that open() was for has come; it is live.
  void add(TensorEntry& entry, TensorRecord& record) noexcept;
  // A live tensor was acquired.
  void count_use(TensorEntry& entry, bool hit) noexcept;
  // A live tensor becomes idle. What is then too much leaves.
  void put_idle(TensorRecord& record, LeavingTensors& leaving) noexcept;
  // A live tensor that nobody has leaves.
  void remove_live(TensorRecord& record, LeavingTensors& leaving) noexcept;

  // The longest idle ones leave until `goal` bytes did.
  void remove_idle(Bytes goal, LeavingTensors& leaving) noexcept;
  void see_idle(Clock::TimePoint now) noexcept;
  void remove_idle_since(Clock::TimePoint latest, LeavingTensors& leaving) noexcept;
  void remove_idle_of_rare(std::uint64_t min_uses, LeavingTensors& leaving) noexcept;

  // Replaces the entries of `best`, which has default ones, by the first in `order`.
  void find_top(std::vector<TensorUse>& best, TensorOrder order) const noexcept;
  // visit(key, how many are live) for each key that has any.
  template <typename Visit>
  void for_each_live(Visit visit) const {
    for (const auto& [key, entry] : entries_) {
      if (entry.live != 0) visit(key, entry.live);
    }
  }
  void validate() const;

  TensorPoolStats stats;

 private:
  using Map = std::unordered_map<TensorKey, TensorEntry, TensorKeyHash>;

  void remove_one(TensorRecord& record, LeavingTensors& leaving) noexcept;
  void keep_few_keys(LeavingTensors& leaving) noexcept;
  void emptied(TensorEntry& entry) noexcept;
  void forget(TensorEntry& entry) noexcept;
  void validate_entry(const TensorEntry& entry) const;

  const TensorPoolOptions& options_;
  Map entries_;
  IntrusiveList<TensorRecord, &TensorRecord::in_all> idle_;   // latest first
  IntrusiveList<TensorEntry, &TensorEntry::in_empty> empty_;  // latest first
  std::uint64_t forgotten_uses_ = 0;
};

}  // namespace forebay::detail
