#include "track/unwind_table.hpp"

#include <dlfcn.h>
#include <link.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <optional>
#include <span>

#if defined(__x86_64__) && defined(__GLIBC__) && defined(DLFO_STRUCT_HAS_EH_DBASE)
#define FOREBAY_UNWIND_TABLES 1
#else
#define FOREBAY_UNWIND_TABLES 0
#endif

namespace forebay::detail {

#if FOREBAY_UNWIND_TABLES

namespace {

// ---- The cache
//
// A word an entry, two entries a place, both read and written whole. From the top: 16 bits of the
// rule's offset, in words; 31 bits, the upper ones of the return address, the lower 16 of which say
// the place; is it the second entry; 6 bits of the generation; 10 of the rule. So an entry is
// exact.
//
// Unloading. The hot path must not ask the loader whether an object went. A rule that is out of
// date can only send a walk to a wrong frame: all that it reads is still within the stack. And it
// does not last:
//   - of code that comes to lie where other code was, most return addresses are not in the cache;
//     the first one is looked up, its object overlaps another that was seen there, and with that
//     the generation goes up and every entry is void;
//   - if all of them are there, because the other object was laid out the same, wrong rules make
//     walks fail; one that fails looks up its frames again;
//   - notice_unloaded_objects() asks the loader, off the path.
// (The same object at the same place has the same rules.)

constexpr unsigned kPlaceBits = 16;
constexpr unsigned kTagBit = 10;
constexpr unsigned kGenerationBits = 6;
constexpr unsigned kOffsetBit = 48;
constexpr std::uint64_t kTagMask = (1ULL << kOffsetBit) - (1ULL << kTagBit);
constexpr std::uint64_t kSecond = 1ULL << (kTagBit + kGenerationBits);
constexpr std::uint32_t kGenerations = 1U << kGenerationBits;
static_assert(kTagBit + kGenerationBits + 1 + (47 - kPlaceBits) == kOffsetBit);

alignas(64) constinit std::array<std::atomic<std::uint64_t>, 1U << kPlaceBits> entries{};
constinit std::atomic<std::uint32_t> generation{0};

constexpr UnwindRule::Cfa cfa_in(std::uint64_t entry) noexcept {
  return static_cast<UnwindRule::Cfa>(entry & 7);
}
constexpr std::uint64_t saved_fp_in(std::uint64_t entry) noexcept { return (entry >> 3) & 127; }
constexpr std::uintptr_t offset_in(std::uint64_t entry) noexcept {
  return static_cast<std::uintptr_t>(static_cast<std::int64_t>(entry) >> kOffsetBit) * 8;
}
constexpr std::uint64_t packed(const UnwindRule& rule) noexcept {
  return (static_cast<std::uint64_t>(rule.offset / 8) << kOffsetBit) |
         (std::uint64_t{rule.saved_fp} << 3) | static_cast<std::uint64_t>(rule.cfa);
}
constexpr UnwindRule unpacked(std::uint64_t entry) noexcept {
  return {cfa_in(entry), static_cast<std::uint8_t>(saved_fp_in(entry)),
          static_cast<std::int32_t>(offset_in(entry))};
}
static_assert(unpacked(packed({UnwindRule::Cfa::at_fp, 126, -8})) ==
              UnwindRule{UnwindRule::Cfa::at_fp, 126, -8});
static_assert(unpacked(packed({UnwindRule::Cfa::sp, 127, UnwindRule::kMostOffset})) ==
              UnwindRule{UnwindRule::Cfa::sp, 127, UnwindRule::kMostOffset});

// What a first entry for `pc` has between offset and rule; a second one, kSecond too. (An empty
// entry says "none" for the first 64 KiB of addresses, where no code is.)
std::uint64_t tag_of(std::uintptr_t pc, std::uint32_t now) noexcept {
  const std::uint64_t upper = pc & ~std::uint64_t{(1U << kPlaceBits) - 1};
  return (upper << 1) | (std::uint64_t{now & (kGenerations - 1)} << kTagBit);
}
static_assert(kSecond == 1ULL << kPlaceBits);  // upper << 1 begins above it

// Upper bits choose among places too, else objects that begin alike would share all of theirs.
std::size_t place_of(std::uintptr_t pc) noexcept {
  return (pc ^ (pc >> kPlaceBits)) & (entries.size() - 1);
}

std::optional<std::uint64_t> find_entry(std::uintptr_t pc, std::uint32_t now) noexcept {
  const std::size_t place = place_of(pc);
  const std::uint64_t tag = tag_of(pc, now);
  const std::uint64_t first = entries[place].load(std::memory_order_relaxed);
  if ((first & kTagMask) == tag) [[likely]] {
    return first;
  }
  const std::uint64_t second = entries[place ^ 1].load(std::memory_order_relaxed);
  if ((second & kTagMask) == (tag | kSecond)) return second;
  return std::nullopt;
}

// What was there gives way to the place's other entry, unless it is there as another's second.
std::uint64_t put_entry(std::uintptr_t pc, std::uint32_t now, const UnwindRule& rule) noexcept {
  const std::size_t place = place_of(pc);
  const std::uint64_t before = entries[place].load(std::memory_order_relaxed);
  if (before != 0 && (before & kSecond) == 0) {
    entries[place ^ 1].store(before | kSecond, std::memory_order_relaxed);
  }
  const std::uint64_t entry = tag_of(pc, now) | packed(rule);
  entries[place].store(entry, std::memory_order_relaxed);
  return entry;
}

// Every entry is void. Numbers of generations come again: before one does, entries are emptied.
void next_generation() noexcept {
  const std::uint32_t now = generation.fetch_add(1, std::memory_order_acq_rel) + 1;
  if ((now & (kGenerations - 1)) != 0) return;
  for (auto& entry : entries) entry.store(0, std::memory_order_relaxed);
}

// ---- Objects that were seen

struct Seen {
  std::atomic<std::uint64_t> pages{0};  // first (35 bits) and how many (29 bits)
  std::atomic<std::uint64_t> identity{0};
};
constexpr unsigned kPageShift = 12;
constexpr unsigned kCountBits = 29;
constinit std::array<Seen, 512> seen{};

struct Object {
  UnwindTables tables;
  std::uint64_t pages = 0;
  std::uint64_t identity = 0;
};

constexpr std::uint64_t mixed(std::uint64_t a, std::uint64_t b) noexcept {
  const std::uint64_t product = (a ^ (a >> 32) ^ b) * 0x9e3779b97f4a7c15ULL;
  return product ^ (product >> 29);
}

std::optional<Object> object_of(std::uintptr_t pc) noexcept {
  dl_find_object found{};
  // NOLINTNEXTLINE(performance-no-int-to-ptr): asked for, not followed
  if (_dl_find_object(reinterpret_cast<void*>(pc), &found) != 0) return std::nullopt;
  if (found.dlfo_eh_frame == nullptr) return std::nullopt;
  Object object;
  object.tables = {reinterpret_cast<std::uintptr_t>(found.dlfo_eh_frame),
                   reinterpret_cast<std::uintptr_t>(found.dlfo_map_start),
                   reinterpret_cast<std::uintptr_t>(found.dlfo_map_end)};
  const std::uint64_t first = object.tables.low >> kPageShift;
  const std::uint64_t end = (object.tables.high + (1U << kPageShift) - 1) >> kPageShift;
  object.pages = (first << kCountBits) | ((end - first) & ((1ULL << kCountBits) - 1));
  // Where it lies, the loader's record of it, and how its table begins: the number of its
  // functions and the first of them.
  std::array<std::uint64_t, 6> table{};
  read_memory(object.tables.header, table.data(), sizeof table);
  object.identity = mixed(object.tables.low, object.tables.high);
  object.identity = mixed(object.identity, object.tables.header);
  object.identity = mixed(object.identity, reinterpret_cast<std::uintptr_t>(found.dlfo_link_map));
  for (const std::uint64_t word : table) object.identity = mixed(object.identity, word);
  object.identity |= 1;  // 0: not yet known
  return object;
}

bool overlap(std::uint64_t a, std::uint64_t b) noexcept {
  const auto end = [](std::uint64_t pages) {
    return (pages >> kCountBits) + (pages & ((1ULL << kCountBits) - 1));
  };
  return (a >> kCountBits) < end(b) && (b >> kCountBits) < end(a);
}

// Remembers the object; a new generation if another one was there. Threads that do so at once may
// begin more generations than needed, which costs time only.
void remember(const Object& object) noexcept {
  bool replaced = false;
  Seen* place = nullptr;
  for (Seen& other : seen) {
    std::uint64_t pages = other.pages.load(std::memory_order_acquire);
    if (pages == 0) {
      if (place != nullptr) break;
      if (other.pages.compare_exchange_strong(pages, object.pages)) {
        other.identity.store(object.identity, std::memory_order_release);
        place = &other;
        break;
      }
    }
    if (!overlap(pages, object.pages)) continue;
    const std::uint64_t identity = other.identity.load(std::memory_order_acquire);
    if (pages == object.pages && (identity == object.identity || identity == 0)) return;
    other.pages.store(object.pages, std::memory_order_release);
    other.identity.store(object.identity, std::memory_order_release);
    place = &other;
    replaced = true;
  }
  if (place == nullptr) {  // more objects than there is room for: begin again
    for (Seen& other : seen) other.pages.store(0, std::memory_order_release);
    replaced = true;
  }
  if (replaced) next_generation();
}

// ---- Finding what is not in the cache

// 0: no place in the code has been asked about, 1: the system forbids, 2: it does not.
constinit std::atomic<int> may_read{0};

bool may_read_memory() noexcept {
  int known = may_read.load(std::memory_order_relaxed);
  if (known == 0) {
    const std::uint64_t word = 1;
    std::uint64_t copy = 0;
    known = read_memory(reinterpret_cast<std::uintptr_t>(&word), &copy, sizeof copy) ? 2 : 1;
    may_read.store(known, std::memory_order_relaxed);
  }
  return known == 2;
}

[[gnu::noinline]] std::uint64_t find_and_keep(std::uintptr_t pc) noexcept {
  constexpr std::uint64_t kNone = 0;
  if (!may_read_memory()) return kNone;
  const auto object = object_of(pc - 1);
  if (!object) return kNone;  // of no object, and so of none that could be noticed to go
  remember(*object);
  const std::uint32_t now = generation.load(std::memory_order_acquire);
  return put_entry(pc, now, find_rule(object->tables, pc - 1));
}

[[gnu::always_inline]] FOREBAY_READS_STACKS inline std::uint64_t entry_of(
    std::uintptr_t pc) noexcept {
  const auto kept = find_entry(pc, generation.load(std::memory_order_relaxed));
  return kept ? *kept : find_and_keep(pc);
}

// ---- Walking

bool may_read_word(std::uintptr_t address, StackBounds bounds) noexcept {
  return address >= bounds.low && address <= bounds.high - sizeof(std::uintptr_t) &&
         address % sizeof(std::uintptr_t) == 0;
}

// Whether all from `low` to `high` is mapped. (The main thread's stack ends, for the C library,
// where it may grow to.)
bool is_mapped(std::uintptr_t low, std::uintptr_t high) noexcept {
  constexpr std::uintptr_t kPage = 1U << kPageShift;
  constexpr long kAsynchronously = 1;
  const int saved = errno;
  const std::uintptr_t first = low & ~(kPage - 1);
  const bool is = syscall(SYS_msync, first, high - first, kAsynchronously) == 0;
  errno = saved;
  return is;
}

// To the function that the signal interrupted, on this stack or from one for signals to the
// thread's own.
FOREBAY_READS_STACKS bool leave_handler(Registers& at, StackBounds& bounds) noexcept {
  constexpr auto kGeneral = offsetof(ucontext_t, uc_mcontext.gregs);
  const auto place = [&](int number) {
    return at.sp + kGeneral + static_cast<unsigned>(number) * sizeof(greg_t);
  };
  if (!may_read_word(place(REG_R8), bounds) || !may_read_word(place(REG_RIP), bounds)) return false;
  const Registers interrupted{word_at(place(REG_RIP)) + 1, word_at(place(REG_RSP)),
                              word_at(place(REG_RBP))};
  if (!may_be_code(interrupted.pc)) return false;
  const bool same_stack = interrupted.sp > at.sp && interrupted.sp < bounds.high;
  if (!same_stack) {
    const StackBounds own = this_threads_stack();
    if (own.contains(at.sp) || !own.contains(interrupted.sp)) return false;
    if (!is_mapped(interrupted.sp, own.high)) return false;
    bounds = own;
  }
  bounds.low = interrupted.sp;
  at = interrupted;
  return true;
}

// By a rule that most places do not have. False: not known, or not within bounds.
[[gnu::noinline]] FOREBAY_READS_STACKS bool take_rare_step(Registers& at, const UnwindRule& rule,
                                                           StackBounds& bounds) noexcept {
  if (rule.cfa == UnwindRule::Cfa::signal) return leave_handler(at, bounds);
  const auto base = rule.cfa == UnwindRule::Cfa::sp ? at.sp : at.fp;
  std::uintptr_t cfa = base + static_cast<std::uintptr_t>(std::intptr_t{rule.offset});
  if (rule.cfa == UnwindRule::Cfa::at_fp) cfa = may_read_word(cfa, bounds) ? word_at(cfa) : 0;
  if (cfa <= at.sp || cfa > bounds.high || cfa % sizeof(std::uintptr_t) != 0) return false;
  // Zero, which no rule can build on, if it is not known.
  std::uintptr_t fp = 0;
  if (rule.saved_fp == UnwindRule::kKept) {
    fp = at.fp;
  } else if (rule.saved_fp != UnwindRule::kLost) {
    const std::uintptr_t below = std::uintptr_t{rule.saved_fp} * sizeof(std::uintptr_t);
    const std::uintptr_t place = rule.saved_fp == UnwindRule::kAtFp ? at.fp : cfa - below;
    if (may_read_word(place, bounds)) fp = word_at(place);
  }
  at = {word_at(cfa - sizeof(std::uintptr_t)), cfa, fp};
  return true;
}

// A step by the rules that nearly all places have, on registers alone. False: by another rule,
// or not within bounds; nothing changes then.
[[gnu::always_inline]] FOREBAY_READS_STACKS inline bool take_step(Registers& at,
                                                                  std::uint64_t entry,
                                                                  StackBounds bounds) noexcept {
  const UnwindRule::Cfa kind = cfa_in(entry);
  std::uintptr_t cfa = offset_in(entry);
  if (kind == UnwindRule::Cfa::sp) {
    cfa += at.sp;
  } else if (kind == UnwindRule::Cfa::fp) {
    cfa += at.fp;
  } else {
    return false;
  }
  // Up, and within: so the walk ends.
  if (cfa <= at.sp || cfa > bounds.high || cfa % sizeof(std::uintptr_t) != 0) return false;
  if (const std::uint64_t saved = saved_fp_in(entry); saved != UnwindRule::kKept) {
    const std::uintptr_t place = cfa - saved * sizeof(std::uintptr_t);
    if (saved >= UnwindRule::kAtFp || place < bounds.low) return false;
    at.fp = word_at(place);
  }
  at.pc = word_at(cfa - sizeof(std::uintptr_t));
  at.sp = cfa;
  return true;
}

// One walk. Whether it came to the outermost frame, or the list is full.
FOREBAY_READS_STACKS bool walk_by_rules(Registers& registers, StackBounds bounds,
                                        FrameList& list) noexcept {
  if (bounds.high - bounds.low < sizeof(std::uintptr_t)) return false;
  Registers at = registers;  // copies, that can stay in the machine's registers
  FrameList frames = list;
  bool whole = true;
  while (!frames.full()) {
    const std::uint64_t entry = entry_of(at.pc);
    if (!take_step(at, entry, bounds)) [[unlikely]] {
      whole = cfa_in(entry) == UnwindRule::Cfa::end;
      Registers rare = at;
      StackBounds from = bounds;
      if (whole || !take_rare_step(rare, unpacked(entry), from)) break;
      whole = true;
      at = rare;
      bounds = from;
    }
    if (!may_be_code(at.pc)) [[unlikely]] {
      whole = false;
      break;
    }
    frames.add(at.pc);
  }
  registers = at;
  list = frames;
  return whole;
}

// Walks that failed since the last one that made us look, and how many may.
constinit std::atomic<std::uint32_t> failures{0};
constinit std::atomic<std::uint32_t> patience{0};

// Whether the cache has another rule for `pc` than its object's tables; then all are forgotten.
bool has_changed(std::uintptr_t pc) noexcept {
  const auto object = object_of(pc - 1);
  if (!object) return false;
  const std::uint32_t now = generation.load(std::memory_order_acquire);
  remember(*object);
  const auto kept = find_entry(pc, now);
  if (kept && unpacked(*kept) != find_rule(object->tables, pc - 1)) next_generation();
  return generation.load(std::memory_order_acquire) != now;
}

// A walk that failed may have gone by rules of an object that is no more, if each return address
// on its way was in the cache: an object loaded in the place of one that was laid out the same.
// Looks up every place on the way once more; whether rules were forgotten over that. Where walks
// fail all the time, for code without tables, it looks ever less often.
[[gnu::noinline]] bool is_out_of_date(std::span<const std::uintptr_t> way) noexcept {
  constexpr std::uint32_t kMostPatience = 1024;
  if (failures.fetch_add(1, std::memory_order_relaxed) < patience.load(std::memory_order_relaxed)) {
    return false;
  }
  failures.store(0, std::memory_order_relaxed);
  const bool is = may_read_memory() && std::ranges::any_of(way, has_changed);
  const std::uint32_t now = patience.load(std::memory_order_relaxed);
  patience.store(is ? 0 : std::min(kMostPatience, now * 2 + 1), std::memory_order_relaxed);
  return is;
}

}  // namespace

bool has_unwind_tables() noexcept { return may_read_memory(); }

std::uint32_t unwind_generation() noexcept { return generation.load(std::memory_order_relaxed); }

UnwindRule rule_at(std::uintptr_t return_address) noexcept {
  return may_be_code(return_address) ? unpacked(entry_of(return_address)) : UnwindRule{};
}

bool walk_unwind_tables(Registers& at, StackBounds bounds, FrameList& frames) noexcept {
  const Registers start = at;
  const FrameList before = frames;
  if (walk_by_rules(at, bounds, frames)) [[likely]] {
    return true;
  }
  // Some end their stacks with a zero.
  if (!is_out_of_date(frames.frames())) return at.pc == 0;
  at = start;
  frames = before;
  return walk_by_rules(at, bounds, frames) || at.pc == 0;
}

namespace {

constinit std::atomic<std::uint64_t> unloaded_before{0};

int note_unloaded(dl_phdr_info* info, std::size_t bytes, void* count) noexcept {
  if (bytes >= offsetof(dl_phdr_info, dlpi_subs) + sizeof info->dlpi_subs) {
    *static_cast<std::uint64_t*>(count) = info->dlpi_subs;
  }
  return 1;  // the first object knows
}

}  // namespace

void notice_unloaded_objects() noexcept {
  std::uint64_t unloaded = 0;
  dl_iterate_phdr(note_unloaded, &unloaded);
  if (unloaded_before.exchange(unloaded, std::memory_order_acq_rel) != unloaded) next_generation();
}

#else

bool has_unwind_tables() noexcept { return false; }
std::uint32_t unwind_generation() noexcept { return 0; }
UnwindRule rule_at(std::uintptr_t) noexcept { return {}; }
bool walk_unwind_tables(Registers&, StackBounds, FrameList&) noexcept { return false; }
void notice_unloaded_objects() noexcept {}

#endif

}  // namespace forebay::detail
