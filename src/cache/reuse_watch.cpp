#include "cache/reuse_watch.hpp"

#include <algorithm>

namespace forebay::detail {

void HashSlots::open_only_to(std::uint64_t last) noexcept {
  const std::uint64_t slots = (std::min<std::uint64_t>(last, 0xffff'ffffULL) >> shift_) + 1;
  for (std::size_t i = 0; i != words_.size(); ++i) {
    const std::uint64_t left = slots > i * 64 ? slots - i * 64 : 0;
    words_[i].store(left >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << left) - 1, kRelaxed);
  }
}

ReuseWatch::ReuseWatch(std::size_t most) : ring_(most) { index_.make_room(most + 1); }

std::optional<ReuseWatch::Watch> ReuseWatch::take(std::uint64_t name) noexcept {
  name = std::max<std::uint64_t>(name, kGone + 1);
  const EntryId id = index_.find(name, [&](EntryId at) { return ring_[at].name == name; });
  if (id == kNoEntry) return std::nullopt;
  index_.remove(name, id);
  const Watch taken = ring_[id];
  ring_[id].name = kGone;
  return taken;
}

void ReuseWatch::add(const Watch& watch) noexcept {
  const auto id = static_cast<EntryId>(last_++ % ring_.size());
  ring_[id] = watch;
  ring_[id].name = std::max<std::uint64_t>(watch.name, kGone + 1);
  index_.add(ring_[id].name, id);
}

void ReuseWatch::drop_oldest() noexcept {
  const auto id = static_cast<EntryId>(first_++ % ring_.size());
  if (ring_[id].name == kGone) return;
  index_.remove(ring_[id].name, id);
  ring_[id].name = kGone;
}

}  // namespace forebay::detail
