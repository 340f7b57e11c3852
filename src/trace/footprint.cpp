#include "trace/footprint.hpp"

#include <algorithm>

namespace forebay::trace {
namespace {

// So many requests ahead, a table's slot is asked for from memory.
constexpr std::size_t kAhead = 16;

}  // namespace

void Footprint::add(std::span<const detail::CacheRequest> requests) {
  for (std::size_t i = 0; i < requests.size(); ++i) {
    if (i + kAhead < requests.size()) sizes_.prefetch(mixed(requests[i + kAhead].key));
    add(requests[i], mixed(requests[i].key));
  }
}

void Footprint::add(const detail::CacheRequest& request, std::uint64_t hash) {
  if (demand_.requests++ == 0) first_size_ = request.bytes;
  demand_.bytes += request.bytes;
  demand_.cost += static_cast<double>(request.cost);
  demand_.largest = std::max(demand_.largest, request.bytes);
  demand_.sizes_differ = demand_.sizes_differ || request.bytes != first_size_;
  demand_.has_cost = demand_.has_cost || request.cost != 1;
  if (!kept(hash)) return;
  std::uint64_t& size = sizes_.at(hash);
  if (size != KeyTable::kNone) return;
  size = request.bytes;
  kept_bytes_ += request.bytes;
  while (sizes_.size() > most_kept_ && dropped_bits_ + 1 < kBits) thin();
}

void Footprint::thin() {
  ++dropped_bits_;
  sizes_.filter([this](std::uint64_t hash, std::uint64_t bytes) {
    if (kept(hash)) return true;
    kept_bytes_ -= bytes;
    return false;
  });
}

const CacheDemand& Footprint::demand() noexcept {
  demand_.exact = dropped_bits_ == 0;
  demand_.objects = static_cast<std::uint64_t>(sizes_.size()) << dropped_bits_;
  // No more than all requests have, which fits.
  const auto estimate =
      static_cast<double>(kept_bytes_) * static_cast<double>(1ULL << dropped_bits_);
  demand_.footprint_bytes =
      demand_.exact
          ? kept_bytes_
          : static_cast<std::uint64_t>(std::min(estimate, static_cast<double>(demand_.bytes)));
  return demand_;
}

}  // namespace forebay::trace
