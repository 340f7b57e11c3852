// Memory that is sparse is closed, its blocks are copied to where there is room, and what is then
// empty goes upstream.
#include "pool/mover.hpp"

#include <algorithm>
#include <utility>

#include "device/request.hpp"

namespace forebay::detail {

// Memory that took blocks in one round may itself be sparse in the next; each but the last empties
// some.
Bytes BlockMover::run() {
  if (checked_ != nullptr) checked_->release_all();
  core_.empty_all_caches();
  const std::uint64_t idle_before = core_.pages_to_go();
  std::uint64_t given = 0;
  while (true) {
    const PoolCore::Emptied round = empty_homes();
    if (!round.any) break;
    given += round.given;
  }
  return Bytes{given << kPageShift} + core_.give_all_but(idle_before);
}

// Those of one home side by side, the home with the least in it first.
std::vector<BlockMover::Resident> BlockMover::survey() {
  std::vector<MovableBlocks::Block> all;
  blocks_.list(all);
  std::vector<Resident> residents;
  residents.reserve(all.size());
  for (const MovableBlocks::Block& block : all) {
    const std::uintptr_t home = core_.home_of(block.data);
    if (home != 0) residents.push_back({home, block.size.count(), block});
  }
  std::sort(residents.begin(), residents.end(),
            [](const Resident& a, const Resident& b) { return a.home < b.home; });
  for (auto first = residents.begin(); first != residents.end();) {
    std::uint64_t bytes = 0;
    auto last = first;
    for (; last != residents.end() && last->home == first->home; ++last) bytes += last->home_bytes;
    for (; first != last; ++first) first->home_bytes = bytes;
  }
  std::sort(residents.begin(), residents.end(), [](const Resident& a, const Resident& b) {
    return std::pair{a.home_bytes, a.home} < std::pair{b.home_bytes, b.home};
  });
  return residents;
}

PoolCore::Emptied BlockMover::empty_homes() {
  // Whatever happens, the owner hears that this round is over.
  struct Round {
    explicit Round(MovableBlocks& of) noexcept : blocks(of) {}
    Round(const Round&) = delete;
    Round& operator=(const Round&) = delete;
    ~Round() { blocks.surveyed(); }
    MovableBlocks& blocks;
  };
  const Round round{blocks_};
  const std::vector<Resident> residents = survey();
  PoolCore::Emptied total;
  for (auto first = residents.begin(); first != residents.end();) {
    const auto last = std::find_if(first, residents.end(), [first](const Resident& resident) {
      return resident.home != first->home;
    });
    const PoolCore::Emptied emptied = empty_home({first, last});
    total.any = total.any || emptied.any;
    total.given += emptied.given;
    first = last;
  }
  return total;
}

// A block is claimed from the look at its home until it has moved itself.
PoolCore::Emptied BlockMover::empty_home(Family family) {
  std::size_t claimed = 0;
  while (claimed != family.size() && blocks_.claim(family[claimed].block)) ++claimed;
  const bool closed = claimed == family.size() && core_.close_home(family[0].home, family.size());
  bool moving = closed;
  for (const Resident& resident : family.first(claimed)) {
    moving = moving && move(resident.block);
    blocks_.release(resident.block);
  }
  if (!closed) return {};
  if (checked_ != nullptr) checked_->release_all();
  return core_.open_home(family[0].home);
}

// False, and nothing changed, if there is no memory to move to, or the owner declines.
bool BlockMover::move(const MovableBlocks::Block& block) {
  const AcquireOptions options = blocks_.options(block);
  const auto outer = [this](const void* data) {
    return checked_ != nullptr ? checked_->outer_of(data) : data;
  };
  const auto give = [&](void* data) {
    if (checked_ != nullptr) {
      checked_->release(data, {.stream = options.stream});
    } else {
      core_.release_uncached(data, options.stream);
    }
  };
  // It stays whose it is.
  const Need need{.bytes = block.size.count(),
                  .alignment = core_.aligned(options.alignment.count()),
                  .stream = options.stream,
                  .soil = static_cast<Soil>(options.tenant.id + 1),
                  .may_grow = false,
                  .context = core_.context_of(outer(block.data))};
  const auto taken = refuse_bad_alloc([&] {
    return checked_ != nullptr ? checked_->acquire_for_move(need) : core_.acquire_uncached(need);
  });
  if (!taken) return false;
  if (!blocks_.move(block, taken->block)) {
    give(taken->block);
    return false;
  }
  core_.carry_over(outer(block.data), outer(taken->block));
  give(block.data);
  return true;
}

}  // namespace forebay::detail
