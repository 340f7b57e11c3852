// WeighedList: an EntryList that knows the bytes of its entries.
#pragma once

#include <cstdint>
#include <vector>

#include "cache/entry_list.hpp"

namespace forebay::detail {

// Entries' bytes are told with each call, the same for an entry until weigh().
// Invariant: bytes() is the sum over the list. Thread safety: none.
template <typename Node = EntryLinks>
class WeighedList {
 public:
  using Table = EntryTable<Node>;

  void add_newest(Table& nodes, EntryId id, std::uint64_t bytes) noexcept {
    list_.add_newest(nodes, id);
    bytes_ += bytes;
  }
  void remove(Table& nodes, EntryId id, std::uint64_t bytes) noexcept {
    list_.remove(nodes, id);
    bytes_ -= bytes;
  }
  void renew(Table& nodes, EntryId id) noexcept { list_.renew(nodes, id); }
  void weigh(std::uint64_t before, std::uint64_t now) noexcept { bytes_ += now - before; }
  EntryId oldest() const noexcept { return list_.oldest(); }
  bool empty() const noexcept { return list_.empty(); }
  std::size_t size() const noexcept { return list_.size(); }
  std::uint64_t bytes() const noexcept { return bytes_; }
  std::uint32_t some_oldest(const Table& nodes, std::span<EntryId> entries) const noexcept {
    return list_.some_oldest(nodes, entries);
  }
  template <typename Call>
  void for_each(const Table& nodes, Call call) const {
    list_.for_each(nodes, call);
  }
  void append_to(const Table& nodes, std::vector<EntryId>& entries) const {
    list_.append_to(nodes, entries);
  }

 private:
  EntryList<Node> list_;
  std::uint64_t bytes_ = 0;
};

}  // namespace forebay::detail
