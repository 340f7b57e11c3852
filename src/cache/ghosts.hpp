// Ghosts: names of entries that went, newest to oldest, so that a policy sees whom it let go too
// early. Bounded by number and by the bytes that the entries had.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace forebay::detail {

// A name is 40 bits of the hash, a group, and the bytes as a short float: 8 bytes in a table of
// buckets of eight, which is three quarters full at most and grows by an eighth: 11 to 12 bytes a
// name; half full at least, but for small ones. The order is that of groups of names that came one
// after the other, 32 to 128 of them: the oldest group goes at once; its names' places are taken by
// others, or given back by a hand that goes round the table. Up to 64 names each is a group of its
// own.
//
// A hash that is not in is taken for one that is in one of 2^39 / count() look-ups; whoever relies
// on ghosts takes an entry for one that came back, and no more. Every operation is O(1), amortised;
// the longest is a walk over the table. Memory is taken as ghosts come; when there is none, the
// oldest make place, so that remembering never fails.
//
// Invariants: count() <= max_count; bytes() <= max_bytes and is the sum of as_kept() over all.
// Thread safety: none.
class Ghosts {
 public:
  Ghosts() = default;
  Ghosts(std::size_t max_count, std::uint64_t max_bytes) noexcept
      : max_count_(max_count), max_bytes_(max_bytes) {}

  // Forgets the oldest until both hold.
  void set_limits(std::size_t max_count, std::uint64_t max_bytes) noexcept;

  // Hashes are mixed: all their bits count.
  bool contains(std::uint64_t hash) const noexcept { return find(hash) != kNone; }
  // As the newest. Forgotten before if it is in: else it is in twice. Not remembered if it alone is
  // above a limit. `stamp` is for forget_before(), and does not fall from one name to the next.
  void add(std::uint64_t hash, std::uint64_t bytes, std::uint32_t stamp = 0) noexcept;
  // Whether it was in.
  bool forget(std::uint64_t hash) noexcept;
  // The oldest group. REQUIRES: not empty.
  void forget_oldest() noexcept;
  // The groups whose names all have lower stamps.
  void forget_before(std::uint32_t stamp) noexcept;
  // Every stamp becomes change(stamp), which keeps their order.
  template <typename Change>
  void change_stamps(Change change) noexcept {
    for (std::uint32_t number = first_; number != next_; ++number) {
      group(number).stamp = change(group(number).stamp);
    }
  }
  void clear() noexcept;

  std::size_t count() const noexcept { return count_; }
  std::uint64_t bytes() const noexcept { return bytes_; }
  std::size_t metadata_bytes() const noexcept;

  // Bytes as they are remembered: to eleven binary digits.
  static std::uint64_t as_kept(std::uint64_t bytes) noexcept;

 private:
  // 0: empty. From the top: 40 bits of the hash, of which the last is set; 8 of the group's number;
  // 16 of bytes. A slot whose group has gone is stale: it is no name any more, but it is not empty.
  using Slot = std::uint64_t;
  struct Group {
    std::uint64_t bytes = 0;
    std::uint32_t names = 0;
    std::uint32_t stamp = 0;  // of the newest
  };
  static constexpr std::size_t kNone = ~std::size_t{0};
  static constexpr std::size_t kBucket = 8;  // slots: a cache line of them
  static constexpr std::uint32_t kMostGroups = 128;
  static constexpr std::uint32_t kGroupNumbers = 256;

  std::size_t find(std::uint64_t hash) const noexcept;
  std::size_t buckets() const noexcept { return passed_.size(); }
  std::size_t home(Slot slot) const noexcept;
  std::size_t after(std::size_t bucket) const noexcept;
  bool is_stale(Slot slot) const noexcept;
  bool is_name(Slot slot) const noexcept { return slot != 0 && !is_stale(slot); }
  std::size_t free_place_in(std::size_t bucket) const noexcept;
  void put(Slot slot) noexcept;
  void empty(std::size_t place) noexcept;

  bool make_place() noexcept;
  bool grow() noexcept;
  void shrink() noexcept;
  bool rebuild(std::size_t buckets) noexcept;
  void sweep(std::size_t buckets) noexcept;

  std::uint32_t live_groups() const noexcept { return next_ - first_; }
  Group& group(std::uint32_t number) noexcept { return groups_[number & (groups_.size() - 1)]; }
  bool open_group() noexcept;
  void regroup() noexcept;
  void drop_empty_groups() noexcept;

  std::size_t max_count_ = 0;
  std::uint64_t max_bytes_ = 0;
  std::size_t count_ = 0;
  std::uint64_t bytes_ = 0;

  std::vector<Slot> slots_;
  // By bucket: how many found it full on their way to the next. At 255 nobody counts any more.
  std::vector<std::uint8_t> passed_;
  std::size_t hand_ = 0;  // a bucket

  // Groups have numbers that rise, of which slots have the lower eight bits.
  std::vector<Group> groups_;         // of numbers in [first_, next_); a power of two
  std::uint32_t first_ = 0;           // the oldest
  std::uint32_t next_ = 0;            // the newest, and one
  std::uint32_t clean_ = 0;           // no slot has a number below
  std::uint32_t first_at_start_ = 0;  // first_ when the hand's round began
  std::size_t room_in_newest_ = 0;    // names that it still takes
};

}  // namespace forebay::detail
