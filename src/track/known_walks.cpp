#include "track/known_walks.hpp"

#include <tuple>

#include "track/unwind_table.hpp"

namespace forebay::detail {
namespace {

// `at` was found by the pair right below its stack pointer: a frame pointer, which it has, and its
// return address.
constexpr std::uintptr_t kPair = 2 * sizeof(std::uintptr_t);

std::uintptr_t base_of(const Registers& at) noexcept { return at.sp - kPair; }

}  // namespace

// The words that a walk goes by.
class KnownWalk::Words {
 public:
  Words(const Registers& start, StackBounds bounds) noexcept
      : at_(start), base_(base_of(start)), high_(bounds.high), fp_place_(base_) {}

  // Goes along the frames beyond the first; false if rules say otherwise, or are of rare kinds.
  FOREBAY_READS_STACKS bool find(std::span<const std::uintptr_t> frames) noexcept {
    for (const std::uintptr_t frame : frames.subspan(1)) {
      if (!step(rule_at(at_.pc)) || at_.pc != frame) return false;
    }
    return frames.size() == kMostFrames || rule_at(at_.pc).cfa == UnwindRule::Cfa::end;
  }
  std::span<const Word> all() const noexcept { return {words_.data(), count_}; }

 private:
  FOREBAY_READS_STACKS bool step(const UnwindRule& rule) noexcept {
    const bool by_fp = rule.cfa == UnwindRule::Cfa::fp;
    if (!by_fp && rule.cfa != UnwindRule::Cfa::sp) return false;
    if (by_fp && !add_frame_pointer()) return false;
    const std::uintptr_t offset = static_cast<std::uintptr_t>(std::intptr_t{rule.offset});
    const std::uintptr_t cfa = (by_fp ? at_.fp : at_.sp) + offset;
    if (cfa <= at_.sp || cfa > high_ || cfa % sizeof(std::uintptr_t) != 0) return false;
    if (rule.saved_fp != UnwindRule::kKept) {
      if (rule.saved_fp >= UnwindRule::kAtFp) return false;
      fp_place_ = cfa - rule.saved_fp * sizeof(std::uintptr_t);
      if (fp_place_ < base_) return false;
      at_.fp = word_at(fp_place_);
      fp_is_there_ = false;
    }
    at_.sp = cfa;
    at_.pc = word_at(cfa - sizeof(std::uintptr_t));
    return add(cfa - sizeof(std::uintptr_t), at_.pc, true);
  }

  // The latest; that of a function whose callers build on the stack pointer does not matter.
  bool add_frame_pointer() noexcept {
    if (fp_is_there_) return true;
    fp_is_there_ = true;
    return add(fp_place_, at_.fp, false);
  }

  bool add(std::uintptr_t address, std::uintptr_t value, bool is_frame) noexcept {
    const std::uintptr_t place = (address - base_) / sizeof(std::uintptr_t);
    if (count_ == words_.size() || place > ~std::uint32_t{0}) return false;
    words_[count_++] = {place, value, is_frame};
    return true;
  }

  Registers at_;
  const std::uintptr_t base_;
  const std::uintptr_t high_;
  std::uintptr_t fp_place_;
  bool fp_is_there_ = false;
  std::uint32_t count_ = 0;
  std::array<Word, kMostWords> words_;
};

bool KnownWalk::is_from(const Registers& at, StackBounds bounds) const noexcept {
  return pc_.load(std::memory_order_acquire) == at.pc &&
         sp_.load(std::memory_order_acquire) == at.sp &&
         high_.load(std::memory_order_acquire) == bounds.high &&
         generation_.load(std::memory_order_acquire) == unwind_generation();
}

// Places of a walk that changes meanwhile may be beyond the stack.
FOREBAY_READS_STACKS bool KnownWalk::has_same_words(const Registers& at,
                                                    StackBounds bounds) const noexcept {
  const std::uintptr_t base = base_of(at);
  const std::uintptr_t most =
      (bounds.high - sizeof(std::uintptr_t) - base) / sizeof(std::uintptr_t);
  const std::uint32_t count = count_.load(std::memory_order_acquire);
  // A word is six instructions then, and eleven without.
#pragma GCC unroll 8
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uintptr_t place = places_[i].load(std::memory_order_acquire);
    if (place > most) return false;
    const std::uintptr_t value = values_[i].load(std::memory_order_acquire);
    if (word_at(base + place * sizeof(std::uintptr_t)) != value) return false;
  }
  return true;
}

StackId KnownWalk::id_of(const Registers& at, StackBounds bounds) const noexcept {
  const std::uint32_t version = version_.load(std::memory_order_acquire);
  if (!is_from(at, bounds) || !has_same_words(at, bounds)) return 0;
  const StackId id = id_.load(std::memory_order_acquire);
  const bool same = version % 2 == 0 && version_.load(std::memory_order_relaxed) == version;
  return same ? id : 0;
}

bool KnownWalk::add_frames(const Registers& at, StackBounds bounds,
                           FrameList& frames) const noexcept {
  const std::uint32_t version = version_.load(std::memory_order_acquire);
  if (!is_from(at, bounds) || !has_same_words(at, bounds)) return false;
  FrameList longer = frames;
  const std::uint32_t count = count_.load(std::memory_order_acquire);
  for (std::uint32_t i = 0; i < count && !longer.full(); ++i) {
    const std::uint64_t bits = frames_[i / 64].load(std::memory_order_acquire);
    if ((bits >> i % 64 & 1) != 0) longer.add(values_[i].load(std::memory_order_acquire));
  }
  if (version % 2 != 0 || version_.load(std::memory_order_relaxed) != version) return false;
  frames = longer;
  return true;
}

void KnownWalk::become(const Registers& at, StackBounds bounds,
                       std::span<const std::uintptr_t> frames, StackId id) noexcept {
  const std::uint32_t generation = unwind_generation();
  Words words{at, bounds};
  if (!words.find(frames)) return;
  std::uint32_t version = version_.load(std::memory_order_relaxed);
  if (version % 2 != 0) return;
  if (!version_.compare_exchange_strong(version, version + 1, std::memory_order_acq_rel)) return;
  std::uint32_t count = 0;
  std::array<std::uint64_t, 2> bits{};
  for (const Word& word : words.all()) {
    if (word.is_frame) bits[count / 64] |= 1ULL << count % 64;
    places_[count].store(static_cast<std::uint32_t>(word.place), std::memory_order_release);
    values_[count++].store(word.value, std::memory_order_release);
  }
  for (std::size_t i = 0; i < bits.size(); ++i)
    frames_[i].store(bits[i], std::memory_order_release);
  count_.store(count, std::memory_order_release);
  pc_.store(at.pc, std::memory_order_release);
  sp_.store(at.sp, std::memory_order_release);
  high_.store(bounds.high, std::memory_order_release);
  generation_.store(generation, std::memory_order_release);
  id_.store(id, std::memory_order_release);
  version_.store(version + 2, std::memory_order_release);
}

std::size_t KnownWalks::place_of(const Registers& at) noexcept {
  constexpr unsigned kBits = 6;
  static_assert(1U << kBits == std::tuple_size_v<decltype(sets_)>);
  return ((at.pc ^ (at.sp << 16)) * 0x9e3779b97f4a7c15ULL) >> (64 - kBits);
}

StackId KnownWalks::id_of(const Registers& at, StackBounds bounds) const noexcept {
  const Set& set = sets_[place_of(at)];
  const StackId first = set.walks[0].id_of(at, bounds);
  return first != 0 ? first : set.walks[1].id_of(at, bounds);
}

bool KnownWalks::add_frames(const Registers& at, StackBounds bounds,
                            FrameList& frames) const noexcept {
  const Set& set = sets_[place_of(at)];
  return set.walks[0].add_frames(at, bounds, frames) || set.walks[1].add_frames(at, bounds, frames);
}

void KnownWalks::keep(const Registers& at, StackBounds bounds,
                      std::span<const std::uintptr_t> frames, StackId id) noexcept {
  Set& set = sets_[place_of(at)];
  if (id != 0 && set.latest.exchange(id, std::memory_order_relaxed) != id) return;
  const std::uint32_t turn = set.turn.fetch_add(1, std::memory_order_relaxed);
  set.walks[turn % set.walks.size()].become(at, bounds, frames, id);
}

}  // namespace forebay::detail
