#include "track/records.hpp"

#include <pthread.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <new>
#include <optional>
#include <vector>

#include "device/mapping.hpp"

namespace forebay::detail {
namespace {

constexpr std::uint32_t kMost = 1U << 22;  // records
constexpr std::uint32_t kBuckets = 1U << 17;
constexpr std::uint32_t kShards =
    16;  // all are held over a fork, and ThreadSanitizer knows 64 locks
constexpr std::uint32_t kAtOnce = 16;  // records that a shard takes from the common stock

struct Node {
  TableRecord record;
  std::uint32_t next = 0;
};

struct alignas(64) Shard {
  std::mutex mutex;
  std::uint32_t free = 0;
};

Bytes whole_pages(std::uint64_t bytes) noexcept {
  return align_up(Bytes{bytes}, system_page()).value_or(Bytes{bytes});
}

// Addresses are reserved once and take memory as records are made. Never given back.
class Table {
 public:
  Table() noexcept
      : nodes_(map(kMost * sizeof(Node))), heads_(map(kBuckets * sizeof(std::uint32_t))) {}

  bool ready() const noexcept { return nodes_.has_value() && heads_.has_value(); }
  Node& node(std::uint32_t id) const noexcept {
    return reinterpret_cast<Node*>(nodes_->data())[id];
  }
  static std::uint32_t bucket_of(std::uint32_t source, std::uintptr_t address) noexcept {
    const std::uint64_t mixed = (address ^ std::uint64_t{source} << 48) * 0x9E3779B97F4A7C15ULL;
    return static_cast<std::uint32_t>(mixed >> 47);
  }
  std::uint32_t& head(std::uint32_t bucket) const noexcept {
    return reinterpret_cast<std::uint32_t*>(heads_->data())[bucket];
  }
  Shard& shard(std::uint32_t bucket) noexcept { return shards_[bucket % kShards]; }

  // With the shard's lock; 0 if there are no more.
  std::uint32_t make(Shard& shard) noexcept {
    if (shard.free == 0) {
      const std::uint32_t first = used_.fetch_add(kAtOnce, std::memory_order_relaxed);
      if (first + kAtOnce > kMost) {
        used_.fetch_sub(kAtOnce, std::memory_order_relaxed);
        return 0;
      }
      for (std::uint32_t id = first; id != first + kAtOnce; ++id) {
        node(id).next = shard.free;
        shard.free = id;
      }
    }
    const std::uint32_t id = shard.free;
    shard.free = node(id).next;
    return id;
  }

  void free(Shard& shard, std::uint32_t id) noexcept {
    node(id).record.tag = 0;
    node(id).record.facts.source = 0;
    node(id).next = shard.free;
    shard.free = id;
  }

  std::array<Shard, kShards> shards_{};
  std::atomic<std::uint32_t> used_{kAtOnce};  // the first are none
  std::atomic<std::uint64_t> refused_{0};

 private:
  static std::optional<Mapping> map(std::uint64_t bytes) noexcept {
    return Mapping::map(whole_pages(bytes), Access::read_write, system_page());
  }

  std::optional<Mapping> nodes_;
  std::optional<Mapping> heads_;
};

// Never destroyed: blocks may end after static objects have.
Table& table() noexcept {
  alignas(Table) static std::byte place[sizeof(Table)];
  static auto* const the = [] {
    auto* const made = new (place) Table;
    ::pthread_atfork(lock_records, unlock_records, unlock_records);
    return made;
  }();
  return *the;
}

}  // namespace

bool add_record(const TableRecord& record) noexcept {
  Table& all = table();
  const std::uint32_t bucket = Table::bucket_of(record.facts.source, record.facts.address);
  std::uint32_t id = 0;
  if (all.ready()) {
    Shard& shard = all.shard(bucket);
    const std::lock_guard lock{shard.mutex};
    id = all.make(shard);
    if (id != 0) {
      all.node(id) = {record, all.head(bucket)};
      all.head(bucket) = id;
    }
  }
  if (id == 0) all.refused_.fetch_add(1, std::memory_order_relaxed);
  return id != 0;
}

TableRecord drop_record(std::uint32_t source, std::uintptr_t address) noexcept {
  Table& all = table();
  if (!all.ready()) return {};
  const std::uint32_t bucket = Table::bucket_of(source, address);
  Shard& shard = all.shard(bucket);
  const std::lock_guard lock{shard.mutex};
  for (std::uint32_t* link = &all.head(bucket); *link != 0; link = &all.node(*link).next) {
    const std::uint32_t id = *link;
    Node& node = all.node(id);
    if (node.record.facts.address != address || node.record.facts.source != source) continue;
    const TableRecord found = node.record;
    *link = node.next;
    all.free(shard, id);
    return found;
  }
  return {};
}

void visit_records(const std::function<void(const TableRecord&)>& visit) {
  Table& all = table();
  if (!all.ready()) return;
  std::vector<TableRecord> found;
  for (std::uint32_t s = 0; s != kShards; ++s) {
    {
      const std::lock_guard lock{all.shards_[s].mutex};
      for (std::uint32_t bucket = s; bucket < kBuckets; bucket += kShards) {
        for (std::uint32_t id = all.head(bucket); id != 0; id = all.node(id).next) {
          found.push_back(all.node(id).record);
        }
      }
    }
    for (const TableRecord& record : found) visit(record);
    found.clear();
  }
}

void visit_records_unlocked(void (*visit)(const TableRecord&, void*), void* context) noexcept {
  const Table& all = table();
  if (!all.ready()) return;
  const std::uint32_t used = std::min(all.used_.load(std::memory_order_relaxed), kMost);
  for (std::uint32_t id = kAtOnce; id < used; ++id) {
    const TableRecord& record = all.node(id).record;
    if (record.facts.source != 0) visit(record, context);
  }
}

std::uint64_t records_refused() noexcept {
  return table().refused_.load(std::memory_order_relaxed);
}

std::size_t record_bytes() noexcept {
  return table().used_.load(std::memory_order_relaxed) * sizeof(Node);
}

void lock_records() noexcept {
  for (Shard& shard : table().shards_) shard.mutex.lock();
}
void unlock_records() noexcept {
  for (Shard& shard : table().shards_) shard.mutex.unlock();
}

void prepare_records() noexcept { static_cast<void>(table()); }

std::uint64_t drop_records_of(std::uint32_t source,
                              const std::function<void(const TableRecord&)>& dropped) {
  Table& all = table();
  std::uint64_t count = 0;
  if (!all.ready()) return count;
  for (std::uint32_t bucket = 0; bucket != kBuckets; ++bucket) {
    Shard& shard = all.shard(bucket);
    const std::lock_guard lock{shard.mutex};
    for (std::uint32_t* link = &all.head(bucket); *link != 0;) {
      const std::uint32_t id = *link;
      Node& node = all.node(id);
      if (node.record.facts.source != source) {
        link = &node.next;
        continue;
      }
      dropped(node.record);
      *link = node.next;
      all.free(shard, id);
      ++count;
    }
  }
  return count;
}

}  // namespace forebay::detail
