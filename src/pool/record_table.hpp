// RecordTable: records that are found by number and never move. Addresses for all of them are
// reserved at once and take memory when first used, so that making a record never allocates.
#pragma once

#include <atomic>
#include <cstdint>
#include <new>
#include <optional>
#include <utility>

#include "device/mapping.hpp"
#include "forebay/check.hpp"

namespace forebay::detail {

inline Bytes whole_pages(Bytes bytes) noexcept {
  return align_up(bytes, system_page()).value_or(bytes);
}

// Zeroed memory that takes room as it is used: page by page at first, for most pools are small;
// beyond 2 MiB in huge pages, since a walk through a table of that size misses the TLB at each
// step otherwise.
std::optional<Mapping> map_bookkeeping(Bytes bytes) noexcept;

// An array in memory that is mapped when first asked for, and taken as it is used.
// Thread safety: thread-safe.
template <typename T>
class LazyArray {
 public:
  explicit LazyArray(std::uint64_t size) noexcept : bytes_(whole_pages(Bytes{size * sizeof(T)})) {}
  ~LazyArray() {
    if (std::byte* const data = data_.load(std::memory_order_relaxed)) unmap(data, bytes_);
  }
  LazyArray(const LazyArray&) = delete;
  LazyArray& operator=(const LazyArray&) = delete;

  // Null until then, or if there are no addresses for it.
  T* data() const noexcept { return reinterpret_cast<T*>(data_.load(std::memory_order_acquire)); }
  T* map() noexcept {
    if (T* const there = data()) return there;
    auto memory = Mapping::map(bytes_, Access::read_write, system_page());
    if (!memory) return nullptr;
    std::byte* none = nullptr;
    if (data_.compare_exchange_strong(none, memory->data(), std::memory_order_acq_rel)) {
      memory->release();
    }
    return data();
  }

 private:
  const Bytes bytes_;
  std::atomic<std::byte*> data_{nullptr};
};

// Record is an aggregate with a member `next` of type std::uint32_t, used here while the record
// is free. Zero is no record.
// Thread safety: not thread-safe; reading a live record is.
template <typename Record>
class RecordTable {
 public:
  explicit RecordTable(std::uint32_t capacity)
      : capacity_(capacity),
        memory_(map_bookkeeping(Bytes{std::uint64_t{capacity} * sizeof(Record)})) {
    if (!memory_) throw std::bad_alloc{};
  }

  // Zero if there are no more.
  std::uint32_t make() noexcept {
    std::uint32_t id = free_;
    if (id != 0) {
      free_ = (*this)[id].next;
    } else {
      if (used_ + 1 == capacity_) return 0;
      id = ++used_;
    }
    ++live_;
    new (&(*this)[id]) Record{};
    return id;
  }
  void drop(std::uint32_t id) noexcept {
    --live_;
    (*this)[id].next = free_;
    free_ = id;
  }
  // Whether `count` more can be made.
  bool has_room(std::uint32_t count) const noexcept { return capacity_ - 1 - live_ >= count; }

  Record& operator[](std::uint32_t id) noexcept { return records()[id]; }
  const Record& operator[](std::uint32_t id) const noexcept { return records()[id]; }
  std::uint32_t id_of(const Record& record) const noexcept {
    return static_cast<std::uint32_t>(&record - records());
  }
  // Bytes of memory taken so far.
  Bytes used() const noexcept { return Bytes{(used_ + 1ULL) * sizeof(Record)}; }

 private:
  Record* records() const noexcept { return reinterpret_cast<Record*>(memory_->data()); }

  std::uint32_t capacity_;
  std::uint32_t used_ = 0;  // highest number ever made
  std::uint32_t live_ = 0;
  std::uint32_t free_ = 0;
  std::optional<Mapping> memory_;
};

}  // namespace forebay::detail
