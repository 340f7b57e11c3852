// Ghosts: hashes of entries that went, newest to oldest, so that a policy sees whom it let go too
// early. Bounded by number and by the bytes that the entries had.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace forebay::detail {

// A hash is in at most once. Every operation is O(1), amortised. Memory is taken as ghosts come;
// when there is none, the oldest ghost makes place, so that remembering never fails.
//
// Invariants: count() <= max_count; bytes() <= max_bytes and is the sum over all ghosts.
// Thread safety: none.
class Ghosts {
 public:
  Ghosts() = default;
  Ghosts(std::size_t max_count, std::uint64_t max_bytes) noexcept
      : max_count_(max_count), max_bytes_(max_bytes) {}

  // Forgets the oldest until both hold.
  void set_limits(std::size_t max_count, std::uint64_t max_bytes) noexcept;

  bool contains(std::uint64_t hash) const noexcept { return find(hash) != kNone; }
  // As the newest. Not remembered if it alone is above a limit.
  void add(std::uint64_t hash, std::uint64_t bytes) noexcept;
  // Whether it was in.
  bool forget(std::uint64_t hash) noexcept;
  void forget_oldest() noexcept;  // REQUIRES: not empty
  void clear() noexcept;

  std::size_t count() const noexcept { return count_; }
  std::uint64_t bytes() const noexcept { return bytes_; }
  std::size_t metadata_bytes() const noexcept;

 private:
  using Index = std::uint32_t;
  static constexpr Index kNone = ~Index{0};

  struct Ghost {
    std::uint64_t hash = 0;
    std::uint64_t bytes = 0;
    Index newer = kNone;
    Index older = kNone;
    Index chain = kNone;  // the next in its bucket, or the next free one
  };

  Index find(std::uint64_t hash) const noexcept;
  Index& bucket(std::uint64_t hash) noexcept;
  Index new_place() noexcept;
  bool grow() noexcept;
  void remove(Index ghost) noexcept;
  void make_newest(Index ghost) noexcept;

  std::size_t max_count_ = 0;
  std::uint64_t max_bytes_ = 0;
  std::vector<Ghost> ghosts_;
  std::vector<Index> buckets_;  // a power of two of them, at least as many as ghosts
  Index newest_ = kNone;
  Index oldest_ = kNone;
  Index free_ = kNone;
  std::size_t count_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace forebay::detail
