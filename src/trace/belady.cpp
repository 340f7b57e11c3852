#include "trace/belady.hpp"

#include <algorithm>

namespace forebay::trace {

void NextUses::add(std::span<const detail::CacheRequest> requests) {
  constexpr std::size_t kAhead = 16;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    if (i + kAhead < requests.size()) last_.prefetch(mixed(requests[i + kAhead].key));
    std::uint64_t& last = last_.at(mixed(requests[i].key));
    if (last != KeyTable::kNone) next_[last] = static_cast<std::uint32_t>(next_.size());
    last = next_.size();
    next_.push_back(kNever);
  }
}

bool BeladyCache::request(const detail::CacheRequest& request, std::uint64_t now,
                          std::uint32_t next) {
  ++counts_.requests;
  counts_.bytes_requested += request.bytes;
  counts_.cost_requested += static_cast<double>(request.cost);
  const std::uint64_t hash = mixed(request.key);
  const std::uint64_t* const at = index_.get(hash);
  const bool hit = at != nullptr;
  if (!hit) {
    counts_.bytes_missed += request.bytes;
    counts_.cost_missed += static_cast<double>(request.cost);
  }
  counts_.hits += hit ? 1 : 0;
  const Entry entry{hash, request.bytes, next, request.cost};
  const bool same = hit && entries_[*at].bytes == request.bytes;
  if (same && next != NextUses::kNever) {
    entries_[*at] = entry;
    expect(hash, next);
    return true;
  }
  if (hit) remove(hash);
  if (next == NextUses::kNever) return hit;
  if (make_room(entry, now)) {
    add(entry);
  } else {
    ++counts_.refused;
  }
  return hit;
}

bool BeladyCache::make_room(const Entry& newcomer, std::uint64_t now) {
  if (newcomer.bytes > capacity_) return false;
  while (used_ > capacity_ - newcomer.bytes) {
    const bool by_next = rule_ == Rule::farthest;
    const Entry* const victim = by_next ? farthest() : worst_drawn(now);
    const bool keeps =
        by_next ? victim->next <= newcomer.next : worth(*victim, now) >= worth(newcomer, now);
    if (keeps) return false;
    remove(victim->hash);
    ++counts_.evictions;
  }
  return true;
}

const BeladyCache::Entry* BeladyCache::farthest() {
  for (;;) {
    const Waiting& top = heap_.front();
    const std::uint64_t* const at = index_.get(top.hash);
    if (at != nullptr && entries_[*at].next == top.next) return &entries_[*at];
    std::ranges::pop_heap(heap_, {}, &Waiting::next);
    heap_.pop_back();
  }
}

// Hits that a byte of room brings before the object's next request has come; each saves its cost
// where that counts.
double BeladyCache::worth(const Entry& entry, std::uint64_t now) const {
  const double room = static_cast<double>(entry.bytes) * static_cast<double>(entry.next - now);
  return (rule_ == Rule::by_cost ? static_cast<double>(entry.cost) : 1.0) / room;
}

const BeladyCache::Entry* BeladyCache::worst_drawn(std::uint64_t now) {
  const Entry* worst = nullptr;
  double least = 0;
  const std::size_t count = std::min(kDrawn, entries_.size());
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t place = count < kDrawn ? i : mixed(++random_) % entries_.size();
    const double value = worth(entries_[place], now);
    if (worst != nullptr && value >= least) continue;
    worst = &entries_[place];
    least = value;
  }
  return worst;
}

void BeladyCache::add(const Entry& entry) {
  entries_.push_back(entry);
  index_.at(entry.hash) = entries_.size() - 1;
  used_ += entry.bytes;
  expect(entry.hash, entry.next);
}

void BeladyCache::remove(std::uint64_t hash) {
  const std::uint64_t place = *index_.get(hash);
  used_ -= entries_[place].bytes;
  index_.erase(hash);
  if (place + 1 != entries_.size()) {
    entries_[place] = entries_.back();
    *index_.get(entries_[place].hash) = place;
  }
  entries_.pop_back();
}

void BeladyCache::expect(std::uint64_t hash, std::uint32_t next) {
  if (rule_ != Rule::farthest) return;
  heap_.push_back({next, hash});
  std::ranges::push_heap(heap_, {}, &Waiting::next);
  // What is out of date is near in time and stays at the bottom, so that it is swept at times.
  constexpr std::size_t kLeast = 1024;
  if (heap_.size() < std::max(kLeast, 2 * entries_.size())) return;
  heap_.clear();
  for (const Entry& entry : entries_) heap_.push_back({entry.next, entry.hash});
  std::ranges::make_heap(heap_, {}, &Waiting::next);
}

}  // namespace forebay::trace
