#include "cache/wheel.hpp"

#include <algorithm>
#include <bit>

namespace forebay::detail {

void TimerWheel::prepare() {
  if (links_ == nullptr) links_ = std::make_unique<ReservedArray<Link>>(most_);
}

void TimerWheel::link(EntryId id, std::uint64_t deadline) noexcept {
  const std::uint64_t at = std::max(deadline, now_);
  const int differs = static_cast<int>(std::bit_width(at ^ now_));
  const int level = std::min(std::max(differs - 1, 0) / 6, kLevels - 1);
  const auto slot = static_cast<std::uint32_t>(at >> (6 * level)) % kSlots;
  const std::uint32_t index = static_cast<std::uint32_t>(level) * kSlots + slot;
  std::uint32_t& head = heads_[index];
  (*links_)[id] = {head, kFirst | index};
  if (head != 0) (*links_)[head - 1].previous = id + 1;
  head = id + 1;
  filled_[static_cast<std::size_t>(level)] |= 1ULL << slot;
  ++linked_;
  highest_ = std::max<std::uint64_t>(highest_, id + 1ULL);
}

void TimerWheel::unlink(EntryId id) noexcept {
  if (id >= highest_) return;
  Link& link = (*links_)[id];
  if (link.previous == 0) return;
  if ((link.previous & kFirst) != 0) {
    const std::uint32_t index = link.previous & ~kFirst;
    heads_[index] = link.next;
    if (link.next == 0) filled_[index / kSlots] &= ~(1ULL << index % kSlots);
  } else {
    (*links_)[link.previous - 1].next = link.next;
  }
  if (link.next != 0) (*links_)[link.next - 1].previous = link.previous;
  link.previous = 0;
  --linked_;
}

// The slots of a level come up in turn from that of the present on, which may still have entries:
// those that advance() has not come to.
TimerWheel::Next TimerWheel::next() const noexcept {
  Next best;
  for (int level = 0; level != kLevels; ++level) {
    const std::uint64_t filled = filled_[static_cast<std::size_t>(level)];
    if (filled == 0) continue;
    const int shift = 6 * level;
    const std::uint64_t turn = now_ >> shift;
    const auto here = static_cast<int>(turn % kSlots);
    const auto ahead = static_cast<std::uint32_t>(std::countr_zero(std::rotr(filled, here)));
    const std::uint64_t start = std::max((turn + ahead) << shift, now_);
    if (start < best.start) {
      best = {level, static_cast<std::uint32_t>(turn + ahead) % kSlots, start};
    }
  }
  return best;
}

std::uint64_t TimerWheel::next_due() const noexcept { return next().start; }

}  // namespace forebay::detail
