// Saving a cache: the order of its entries as it was at the start, an entry at a time.

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <functional>
#include <new>
#include <queue>
#include <utility>
#include <vector>

#include "base/atomic_file.hpp"
#include "cache/core.hpp"
#include "cache/image.hpp"

namespace forebay::detail {
namespace {

// By the number alone it could be another's by the time it is written, and then some key stood in
// the file twice.
struct Place {
  std::uint64_t hash;
  EntryId id;
};

// The first to go first; then those that an eviction met pinned: they are in use.
std::vector<EntryId> ids_in_order(const CacheShard& shard, std::uint64_t expected) {
  std::vector<EntryId> ids;
  ids.reserve(expected);
  shard.policy->order(ids);
  if (shard.aside.load() == 0) return ids;
  for (EntryId id = 0; id != shard.headers.used(); ++id) {
    if ((shard.headers[id].state.load(std::memory_order_relaxed) & kAside) != 0) ids.push_back(id);
  }
  return ids;
}

std::vector<Place> order_of(const CacheImpl& impl, std::uint32_t index) {
  CacheShard& shard = *impl.shards[index];
  std::vector<Place> places;
  for (;;) {
    const std::uint64_t expected = shard.in_policy.load() + shard.aside.load();
    places.reserve(expected + expected / 16 + 64);  // not under the lock: for what comes meanwhile
    const std::lock_guard lock{shard.mutex};
    const std::uint64_t now = shard.in_policy.load() + shard.aside.load();
    if (now > places.capacity()) continue;
    shard.drain(index, *impl.readers);
    for (const EntryId id : ids_in_order(shard, now)) {
      places.push_back({shard.headers[id].hash, id});
    }
    return places;
  }
}

// The orders of all shards as one: each is at the same part of its own at any time.
class MergedOrder {
 public:
  explicit MergedOrder(const CacheImpl& impl) {
    const auto count = static_cast<std::uint32_t>(impl.shards.size());
    orders_.reserve(count);
    for (std::uint32_t i = 0; i != count; ++i) {
      orders_.push_back({order_of(impl, i)});
      if (!orders_.back().places.empty()) next_.push({orders_.back().position(), i});
    }
  }

  bool empty() const noexcept { return next_.empty(); }
  // Shard and place.
  std::pair<std::uint32_t, Place> take() {
    const std::uint32_t index = next_.top().second;
    next_.pop();
    Order& order = orders_[index];
    const Place place = order.places[order.at++];
    if (order.at != order.places.size()) next_.push({order.position(), index});
    return {index, place};
  }

 private:
  struct Order {
    std::vector<Place> places;
    std::size_t at = 0;
    double position() const noexcept {
      return (static_cast<double>(at) + 0.5) / static_cast<double>(places.size());
    }
  };
  using Next = std::pair<double, std::uint32_t>;

  std::vector<Order> orders_;
  std::priority_queue<Next, std::vector<Next>, std::greater<>> next_;
};

std::int64_t wall_clock() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

template <typename T>
std::string_view bytes_of(const T& object) noexcept {
  return {reinterpret_cast<const char*>(&object), sizeof object};
}

class Saving {
 public:
  Saving(CacheImpl& impl, const EntryForm& form, AtomicFile& file) noexcept
      : impl_(impl), form_(form), file_(file), start_(nanoseconds()) {}

  Result<CacheSaved> run() {
    if (Status status = write_header(); !status.ok()) return status;
    for (MergedOrder order{impl_}; !order.empty();) {
      const auto [shard, place] = order.take();
      if (Status status = write_entry(*impl_.shards[shard], place); !status.ok()) return status;
    }
    ImageRecord end;
    end.kind = ImageRecordKind::end;
    end.key_length = saved_.entries;
    end.checksum = image_checksum(end, sum_);
    if (Status status = write(bytes_of(end)); !status.ok()) return status;
    if (Status status = file_.commit(); !status.ok()) return status;
    return saved_;
  }

 private:
  // Unpins, also if the serializer throws.
  struct Pin {
    ~Pin() {
      if (entry.state != nullptr) impl.unpin(entry.state);
    }
    CacheImpl& impl;
    PinnedEntry entry;
  };

  std::int64_t nanoseconds() const noexcept {
    return impl_.options.clock->now().time_since_epoch().count();
  }
  Status write(std::string_view bytes) {
    saved_.file += Bytes{bytes.size()};
    return file_.write(bytes);
  }

  Status write_header() {
    ImageHeader header;
    header.type_length = static_cast<std::uint32_t>(form_.type.size());
    header.saved_at = wall_clock();
    header.overhead = impl_.entry_overhead;
    sum_ = header.checksum = image_checksum(header, form_.type);
    if (Status status = write(bytes_of(header)); !status.ok()) return status;
    return write(form_.type);
  }

  // Pins what was at this place at the start, if it is still there and to be served.
  PinnedEntry pin(CacheShard& shard, const Place& place, ImageRecord& record) const noexcept {
    const std::lock_guard lock{shard.mutex};
    const EntryHeader& header = shard.headers[place.id];
    const std::uint64_t state = header.state.load(std::memory_order_relaxed);
    if ((state & kLive) == 0 || header.hash != place.hash) return {};
    const std::uint64_t now = impl_.ticks();
    if (is_stale(state, [&] { return now; })) return {};
    const EntryFacts facts = header.facts();
    record.cost = facts.cost;
    record.utility = facts.utility;
    record.charge = facts.bytes;
    if (has_deadline(state)) {
      const std::uint64_t deadline = impl_.first_tick + whole_deadline(state, now);
      // Served now, it was served at the start: the coarse clock may be behind that by a tick.
      record.remaining =
          std::max(static_cast<std::int64_t>(deadline << kTickShift) - start_, std::int64_t{1});
    }
    return CacheImpl::pin(shard, place.id);
  }

  Status write_entry(CacheShard& shard, const Place& place) {
    ImageRecord record;
    const Pin pinned{impl_, pin(shard, place, record)};
    if (pinned.entry.state == nullptr) return {};
    key_.clear();
    value_.clear();
    form_.write(form_.context, pinned.entry.block, key_, value_);
    record.key_length = key_.size();
    record.value_length = value_.size();
    sum_ = image_checksum_of(value_, image_checksum_of(key_, image_checksum(record, sum_)));
    record.checksum = sum_;
    if (Status status = write(bytes_of(record)); !status.ok()) return status;
    if (Status status = write(key_); !status.ok()) return status;
    ++saved_.entries;
    return write(value_);
  }

  CacheImpl& impl_;
  const EntryForm& form_;
  AtomicFile& file_;
  const std::int64_t start_;
  std::uint64_t sum_ = 0;
  std::string key_;
  std::string value_;
  CacheSaved saved_;
};

}  // namespace

Result<CacheSaved> CacheCore::save(const std::string& path, const EntryForm& form) {
  if (form.type.size() > kImageMostType) {
    return Status{Code::invalid_argument,
                  fmt::format("cache {}: the name of its types has {} bytes, and at most {} are "
                              "allowed",
                              impl_->options.name, form.type.size(), kImageMostType)};
  }
  try {
    auto file = AtomicFile::create(path);
    if (!file) return file.status();
    return Saving{*impl_, form, *file}.run();
  } catch (const std::bad_alloc&) {
    return Status{Code::memory_refused,
                  "cache " + impl_->options.name + ": no memory is left to save it"};
  }
}

}  // namespace forebay::detail
