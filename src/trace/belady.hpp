// The offline optimum: what a cache could do that knows the future.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cache/simulated_cache.hpp"
#include "trace/key_table.hpp"

namespace forebay::trace {

// The number of each request's next one for the same object. Four bytes a request.
class NextUses {
 public:
  static constexpr std::uint32_t kNever = ~std::uint32_t{0};
  static constexpr std::uint64_t kMostRequests = kNever;

  // REQUIRES: in the order of the trace, kMostRequests together at most.
  void add(std::span<const detail::CacheRequest> requests);
  // kNever for what was not there: a file may have grown since.
  std::uint32_t of(std::uint64_t request) const noexcept {
    return request < next_.size() ? next_[request] : kNever;
  }
  std::uint64_t requests() const noexcept { return next_.size(); }
  void forget_keys() { last_ = {}; }  // when the trace is over

 private:
  KeyTable last_;
  std::vector<std::uint32_t> next_;
};

// Objects of one size, or little bytes wanted: the object whose next request is farthest goes,
// and is not let in if that is the newcomer (Belady, IBM Systems Journal 1966; exact for one
// size and equal costs). Objects of many sizes, or costs: of kDrawn entries drawn at random the
// one with the most bytes times requests to its next one, by cost where that counts
// (Belady-size, a heuristic: the true optimum is NP-hard). What is never asked for again is
// not kept in either case. Deterministic. Thread safety: none.
class BeladyCache {
 public:
  enum class Rule { farthest, largest_and_farthest, by_cost };
  static constexpr std::size_t kDrawn = 64;

  BeladyCache(Rule rule, std::uint64_t capacity) : rule_(rule), capacity_(capacity) {}

  // `now` is the number of the request, `next` of the object's next one. Whether it hit.
  bool request(const detail::CacheRequest& request, std::uint64_t now, std::uint32_t next);
  const detail::CacheCounts& counts() const noexcept { return counts_; }
  std::uint64_t used() const noexcept { return used_; }
  std::size_t entries() const noexcept { return entries_.size(); }

 private:
  struct Entry {
    std::uint64_t hash;
    std::uint64_t bytes;
    std::uint32_t next;
    float cost;
  };
  struct Waiting {  // in the heap; out of date if the entry has another next by now
    std::uint32_t next;
    std::uint64_t hash;
  };

  bool make_room(const Entry& newcomer, std::uint64_t now);
  const Entry* farthest();
  const Entry* worst_drawn(std::uint64_t now);
  double worth(const Entry& entry, std::uint64_t now) const;
  void add(const Entry& entry);
  void remove(std::uint64_t hash);
  void expect(std::uint64_t hash, std::uint32_t next);

  Rule rule_;
  std::uint64_t capacity_;
  std::uint64_t used_ = 0;
  std::uint64_t random_ = 0;
  KeyTable index_;  // of entries_
  std::vector<Entry> entries_;
  std::vector<Waiting> heap_;
  detail::CacheCounts counts_;
};

}  // namespace forebay::trace
