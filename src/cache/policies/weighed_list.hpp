// WeighedList: an EntryList that knows the bytes of its entries.
#pragma once

#include <cstdint>
#include <vector>

#include "cache/entry_list.hpp"

namespace forebay::detail {

// What the policies with several lists keep of an entry.
struct WeighedNode : EntryLinks {
  std::uint64_t hash = 0;
  std::uint64_t bytes = 0;
  std::uint8_t list = 0;  // which one it is in
  std::uint8_t hits = 0;
};

// Invariant: bytes() is the sum over the list. Thread safety: none.
class WeighedList {
 public:
  using Table = EntryTable<WeighedNode>;

  explicit WeighedList(std::uint8_t number) noexcept : number_(number) {}

  void add_newest(Table& nodes, EntryId id) noexcept {
    list_.add_newest(nodes, id);
    nodes[id].list = number_;
    bytes_ += nodes[id].bytes;
  }
  void remove(Table& nodes, EntryId id) noexcept {
    list_.remove(nodes, id);
    bytes_ -= nodes[id].bytes;
  }
  void renew(Table& nodes, EntryId id) noexcept { list_.renew(nodes, id); }
  void weigh(Table& nodes, EntryId id, std::uint64_t bytes) noexcept {
    bytes_ += bytes - nodes[id].bytes;
    nodes[id].bytes = bytes;
  }
  EntryId oldest() const noexcept { return list_.oldest(); }
  bool empty() const noexcept { return list_.empty(); }
  std::size_t size() const noexcept { return list_.size(); }
  std::uint64_t bytes() const noexcept { return bytes_; }
  void append_to(const Table& nodes, std::vector<EntryId>& entries) const {
    list_.append_to(nodes, entries);
  }

 private:
  EntryList<WeighedNode> list_;
  std::uint64_t bytes_ = 0;
  std::uint8_t number_;
};

}  // namespace forebay::detail
