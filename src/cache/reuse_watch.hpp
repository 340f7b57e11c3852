// Of requests drawn at random: after how many others their keys are asked for again. For
// MissRatioCurve, which says why.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "cache/key_index.hpp"
#include "cache/policy.hpp"

namespace forebay::detail {

// Which requests are to be looked at: by 32-bit hashes, in slots that are open or not.
// Thread safety: has() may be called by any thread; the others by one at a time.
class HashSlots {
 public:
  // REQUIRES: 6 <= bits <= 32. Exceptions: std::bad_alloc.
  explicit HashSlots(unsigned bits) : shift_(32 - bits), words_((std::size_t{1} << bits) / 64) {}

  bool has(std::uint64_t hash) const noexcept {
    const std::uint64_t slot = hash >> shift_;
    return (words_[slot / 64].load(std::memory_order_relaxed) >> (slot % 64) & 1U) != 0;
  }
  void open(std::uint64_t hash) noexcept { word(hash).fetch_or(bit(hash), kRelaxed); }
  // All up to that of `last`; what is beyond is closed.
  void open_only_to(std::uint64_t last) noexcept;
  void close_all() noexcept {
    for (auto& word : words_) word.store(0, kRelaxed);
  }
  void close(std::uint64_t hash) noexcept { word(hash).fetch_and(~bit(hash), kRelaxed); }
  std::size_t metadata_bytes() const noexcept { return words_.capacity() * sizeof(words_[0]); }

 private:
  static constexpr std::memory_order kRelaxed = std::memory_order_relaxed;
  std::atomic<std::uint64_t>& word(std::uint64_t hash) noexcept {
    return words_[(hash >> shift_) / 64];
  }
  std::uint64_t bit(std::uint64_t hash) const noexcept {
    return std::uint64_t{1} << ((hash >> shift_) % 64);
  }

  unsigned shift_;
  std::vector<std::atomic<std::uint64_t>> words_;
};

// Requests whose keys have not been asked for again yet, in the order in which they were drawn.
// Thread safety: none.
class ReuseWatch {
 public:
  struct Watch {
    std::uint64_t name = kGone;  // of the key
    std::uint64_t hash = 0;      // of its slot
    std::uint64_t bytes = 0;
    std::uint64_t at = 0;   // by the count of requests
    std::size_t place = 0;  // of the stack, for who measures distances
  };

  // REQUIRES: most < 2^32. Exceptions: std::bad_alloc.
  explicit ReuseWatch(std::size_t most);

  // Takes it off.
  std::optional<Watch> take(std::uint64_t name) noexcept;
  // REQUIRES: its name is not watched, and there has been drop_oldest() if full().
  void add(const Watch& watch) noexcept;
  bool full() const noexcept { return last_ - first_ == ring_.size(); }
  bool empty() const noexcept { return last_ == first_; }
  // REQUIRES: not empty. It may have been taken off.
  const Watch& oldest() const noexcept { return ring_[first_ % ring_.size()]; }
  bool oldest_is_gone() const noexcept { return oldest().name == kGone; }
  void drop_oldest() noexcept;
  template <typename Use>
  void for_each(Use use) const {
    for (std::uint64_t i = first_; i != last_; ++i) {
      const Watch& watch = ring_[i % ring_.size()];
      if (watch.name != kGone) use(watch);
    }
  }
  // place = of(place), for all.
  template <typename Of>
  void move_places(Of of) {
    for (Watch& watch : ring_) watch.place = of(watch.place);
  }
  std::size_t metadata_bytes() const noexcept {
    return ring_.capacity() * sizeof(Watch) + index_.metadata_bytes();
  }

 private:
  // A name of no key: it is replaced by another one where a key has it.
  static constexpr std::uint64_t kGone = 0;

  std::vector<Watch> ring_;
  std::uint64_t first_ = 0;
  std::uint64_t last_ = 0;
  KeyIndex index_;
};

}  // namespace forebay::detail
