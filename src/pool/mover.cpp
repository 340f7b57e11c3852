// Memory that is sparse is closed, its blocks are copied to where there is room, and what is then
// empty goes upstream.
#include "pool/mover.hpp"

#include <algorithm>
#include <utility>

#include "device/request.hpp"

namespace forebay::detail {

namespace {

// Homes that are closed together: what threads keep of them is asked for once, which stops each.
constexpr std::size_t kClosedAtOnce = 64;

}  // namespace

// Memory that took blocks in one round may itself be sparse in the next. A survey asks for each
// block's place: not for a few homes among many.
bool BlockMover::Round::is_worth_another() const noexcept {
  constexpr std::uint64_t kFew = 16;
  return emptied != 0 && emptied >= homes / kFew;
}

Bytes BlockMover::run() {
  if (!core_.begin_emptying()) return {};
  struct End {
    explicit End(PoolCore& of) noexcept : core(of) {}
    End(const End&) = delete;
    End& operator=(const End&) = delete;
    ~End() { core.end_emptying(); }
    PoolCore& core;
  };
  const End end{core_};
  closed_.reserve(kClosedAtOnce);
  if (checked_ != nullptr) checked_->release_all();
  core_.empty_all_caches();
  const std::uint64_t idle_before = core_.pages_to_go();
  std::uint64_t given = 0;
  for (bool more = true; more;) {
    const Round round = empty_homes();
    given += round.given;
    more = round.is_worth_another();
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

BlockMover::Round BlockMover::empty_homes() {
  // Whatever happens, the owner hears that this survey is over.
  struct Surveyed {
    explicit Surveyed(MovableBlocks& of) noexcept : blocks(of) {}
    Surveyed(const Surveyed&) = delete;
    Surveyed& operator=(const Surveyed&) = delete;
    ~Surveyed() { blocks.surveyed(); }
    MovableBlocks& blocks;
  };
  const Surveyed surveyed{blocks_};
  const std::vector<Resident> residents = survey();
  const std::size_t most = core_.empties_slabs() ? kClosedAtOnce : 1;
  Round round;
  for (auto first = residents.begin(); first != residents.end();) {
    const auto last = std::find_if(first, residents.end(), [first](const Resident& resident) {
      return resident.home != first->home;
    });
    ++round.homes;
    if (close_and_empty({first, last})) closed_.push_back(first->home);
    if (closed_.size() == most) open_closed(round);
    first = last;
  }
  if (!closed_.empty()) open_closed(round);
  return round;
}

// A block is claimed from the look at its home until it has moved itself. Whether the home is
// closed now.
bool BlockMover::close_and_empty(Family family) {
  std::size_t claimed = 0;
  while (claimed != family.size() && blocks_.claim(family[claimed].block)) ++claimed;
  const bool closed = claimed == family.size() && core_.close_home(family[0].home, family.size());
  bool moving = closed;
  for (const Resident& resident : family.first(claimed)) {
    moving = moving && move(resident.block);
    blocks_.release(resident.block);
  }
  return closed;
}

void BlockMover::open_closed(Round& round) {
  if (checked_ != nullptr) checked_->release_all();
  core_.empty_all_caches();
  for (const std::uintptr_t home : closed_) {
    const PoolCore::Emptied emptied = core_.open_home(home);
    if (emptied.any) ++round.emptied;
    round.given += emptied.given;
  }
  closed_.clear();
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
