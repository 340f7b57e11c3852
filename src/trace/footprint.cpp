#include "trace/footprint.hpp"

#include <algorithm>
#include <bit>
#include <numeric>

#include "trace/key_table.hpp"

namespace forebay::trace {
namespace {

// So many requests ahead, a slot is asked for from memory.
constexpr std::size_t kAhead = 16;

}  // namespace

void Footprint::add(std::span<const detail::CacheRequest> requests) {
  hashes_.clear();
  for (const detail::CacheRequest& request : requests) {
    hashes_.push_back(std::max<std::uint64_t>(mixed(request.key), kEmpty + 1));
    count(request);
  }
  for (std::size_t i = 0; i < requests.size(); ++i) {
    if (i + kAhead < requests.size()) {
      __builtin_prefetch(&slots_[hashes_[i + kAhead] & (slots_.size() - 1)]);
    }
    if (kept(hashes_[i])) keep(hashes_[i], requests[i].bytes);
  }
}

void Footprint::count(const detail::CacheRequest& request) noexcept {
  if (demand_.requests++ == 0) first_size_ = request.bytes;
  demand_.bytes += request.bytes;
  demand_.cost += static_cast<double>(request.cost);
  demand_.largest = std::max(demand_.largest, request.bytes);
  demand_.sizes_differ = demand_.sizes_differ || request.bytes != first_size_;
  demand_.has_cost = demand_.has_cost || request.cost != 1;
}

std::size_t Footprint::find(std::uint64_t hash) const noexcept {
  const std::size_t mask = slots_.size() - 1;
  std::size_t i = hash & mask;
  while (slots_[i] != kEmpty && slots_[i] != hash) i = (i + 1) & mask;
  return i;
}

void Footprint::keep(std::uint64_t hash, std::uint64_t bytes) {
  const std::size_t i = find(hash);
  if (slots_[i] == hash) return;
  slots_[i] = hash;
  ++size_;
  bytes_by_zeros_.at(static_cast<std::size_t>(std::countl_zero(hash))) += bytes;
  if (size_ > most_kept_ && dropped_bits_ + 1 < kBits) {
    ++dropped_bits_;
    rehash(slots_.size());
  } else if (2 * size_ > slots_.size()) {
    rehash(2 * slots_.size());
  }
}

void Footprint::rehash(std::size_t slots) {
  std::vector<std::uint64_t> old(slots, kEmpty);
  old.swap(slots_);
  size_ = 0;
  for (const std::uint64_t hash : old) {
    if (hash == kEmpty || !kept(hash)) continue;
    slots_[find(hash)] = hash;
    ++size_;
  }
}

const CacheDemand& Footprint::demand() noexcept {
  demand_.exact = dropped_bits_ == 0;
  demand_.objects = static_cast<std::uint64_t>(size_) << dropped_bits_;
  const std::uint64_t bytes = std::accumulate(bytes_by_zeros_.begin() + dropped_bits_,
                                              bytes_by_zeros_.end(), std::uint64_t{0});
  // Never more than all requests have, which fits.
  const double estimate = static_cast<double>(bytes) * static_cast<double>(1ULL << dropped_bits_);
  const double most = static_cast<double>(demand_.bytes);
  demand_.footprint_bytes =
      demand_.exact ? bytes : static_cast<std::uint64_t>(std::min(estimate, most));
  return demand_;
}

}  // namespace forebay::trace
