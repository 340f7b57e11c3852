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
// A word an entry, two entries a place: 64 = 31 (the upper bits of the return address, the lower
// 16 of which say the place) + 1 (is it the second) + 6 (generation) + 26 (rule). So an entry is
// exact, and read and written whole.
//
// Unloading. The hot path must not ask the loader whether an object went. A rule that is out of
// date can only send a walk to a wrong frame: all that it reads is still within the stack. And it
// is short-lived: code that comes to lie where other code was has return addresses that are not in
// the cache, the first of them is looked up, its object overlaps one that was seen there before,
// and with that the generation goes up and every entry is void. (The same object at the same
// place has the same rules.)

constexpr unsigned kPlaceBits = 16;
constexpr unsigned kRuleBits = 26;
constexpr unsigned kGenerationBits = 6;
constexpr std::uint64_t kRuleMask = (1ULL << kRuleBits) - 1;
constexpr std::uint32_t kGenerations = 1U << kGenerationBits;
static_assert(47 - kPlaceBits + 1 + kGenerationBits + kRuleBits == 64);

alignas(64) constinit std::array<std::atomic<std::uint64_t>, 1U << kPlaceBits> entries{};
constinit std::atomic<std::uint32_t> generation{0};

constexpr std::uint64_t packed(const UnwindRule& rule) noexcept {
  const auto words = static_cast<std::uint64_t>(rule.offset / 8) & ((1ULL << 16) - 1);
  return (words << 10) | (std::uint64_t{rule.saved_fp} << 3) | static_cast<std::uint64_t>(rule.cfa);
}
constexpr UnwindRule unpacked(std::uint64_t word) noexcept {
  const auto offset = static_cast<std::int32_t>(static_cast<std::uint32_t>(word) << 6) >> 16;
  return {static_cast<UnwindRule::Cfa>(word & 7), static_cast<std::uint8_t>((word >> 3) & 127),
          offset * 8};
}
static_assert(unpacked(packed({UnwindRule::Cfa::at_fp, 126, -8})) ==
              UnwindRule{UnwindRule::Cfa::at_fp, 126, -8});
static_assert(unpacked(packed({UnwindRule::Cfa::sp, 127, UnwindRule::kMostOffset})) ==
              UnwindRule{UnwindRule::Cfa::sp, 127, UnwindRule::kMostOffset});

// What an entry for `pc` has above its rule. (An empty entry says "none" for the first 64 KiB of
// addresses, where no code is.)
std::uint64_t tag_of(std::uintptr_t pc, std::uint32_t now, bool second) noexcept {
  const std::uint64_t upper = ((pc >> kPlaceBits) << 1) | (second ? 1 : 0);
  return (upper << kGenerationBits) | (now & (kGenerations - 1));
}
constexpr std::uint64_t kSecond = 1ULL << (kRuleBits + kGenerationBits);
// Upper bits choose among places too, else objects that begin alike would share all of theirs.
std::size_t place_of(std::uintptr_t pc) noexcept {
  return (pc ^ ((pc >> kPlaceBits) * 0x9e37U)) & (entries.size() - 1);
}

std::optional<std::uint64_t> find_entry(std::uintptr_t pc, std::uint32_t now) noexcept {
  const std::size_t place = place_of(pc);
  const std::uint64_t first = entries[place].load(std::memory_order_relaxed);
  if ((first >> kRuleBits) == tag_of(pc, now, false)) [[likely]] {
    return first & kRuleMask;
  }
  const std::uint64_t second = entries[place ^ 1].load(std::memory_order_relaxed);
  if ((second >> kRuleBits) == tag_of(pc, now, true)) return second & kRuleMask;
  return std::nullopt;
}

// What was there gives way to the place's other entry, unless it is there as another's second.
void put_entry(std::uintptr_t pc, std::uint32_t now, std::uint64_t rule) noexcept {
  const std::size_t place = place_of(pc);
  const std::uint64_t before = entries[place].load(std::memory_order_relaxed);
  if (before != 0 && (before & kSecond) == 0) {
    entries[place ^ 1].store(before | kSecond, std::memory_order_relaxed);
  }
  entries[place].store((tag_of(pc, now, false) << kRuleBits) | rule, std::memory_order_relaxed);
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
  if (_dl_find_object(reinterpret_cast<void*>(pc), &found) != 0) return std::nullopt;
  if (found.dlfo_eh_frame == nullptr) return std::nullopt;
  Object object;
  object.tables = {reinterpret_cast<std::uintptr_t>(found.dlfo_eh_frame),
                   reinterpret_cast<std::uintptr_t>(found.dlfo_map_start),
                   reinterpret_cast<std::uintptr_t>(found.dlfo_map_end)};
  const std::uint64_t first = object.tables.low >> kPageShift;
  const std::uint64_t end = (object.tables.high + (1U << kPageShift) - 1) >> kPageShift;
  object.pages = (first << kCountBits) | ((end - first) & ((1ULL << kCountBits) - 1));
  // Where it lies, and how its table begins: the number of its functions and the first of them.
  std::array<std::uint64_t, 6> table{};
  read_memory(object.tables.header, table.data(), sizeof table);
  object.identity = mixed(object.tables.low, object.tables.high);
  object.identity = mixed(object.identity, object.tables.header);
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
  const std::uint64_t rule = packed(find_rule(object->tables, pc - 1));
  put_entry(pc, now, rule);
  return rule;
}

std::uint64_t packed_rule_at(std::uintptr_t pc) noexcept {
  if (const auto kept = find_entry(pc, generation.load(std::memory_order_relaxed))) return *kept;
  return find_and_keep(pc);
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

// Undefined where the rule does not say one; that is then out of bounds.
[[gnu::always_inline]] FOREBAY_READS_STACKS inline std::uintptr_t cfa_of(
    const Registers& at, const UnwindRule& rule, StackBounds bounds) noexcept {
  const auto offset = static_cast<std::uintptr_t>(static_cast<std::intptr_t>(rule.offset));
  if (rule.cfa == UnwindRule::Cfa::sp) [[likely]] {
    return at.sp + offset;
  }
  if (rule.cfa == UnwindRule::Cfa::fp) return at.fp + offset;
  const bool reads = rule.cfa == UnwindRule::Cfa::at_fp && may_read_word(at.fp + offset, bounds);
  return reads ? word_at(at.fp + offset) : 0;
}

// The caller's frame pointer. Zero, which no rule can build on, if it is not known.
[[gnu::always_inline]] FOREBAY_READS_STACKS inline std::uintptr_t fp_of(
    const Registers& at, const UnwindRule& rule, std::uintptr_t cfa, StackBounds bounds) noexcept {
  if (rule.saved_fp == UnwindRule::kKept) return at.fp;
  if (rule.saved_fp == UnwindRule::kLost) return 0;
  const std::uintptr_t place = rule.saved_fp == UnwindRule::kAtFp
                                   ? at.fp
                                   : cfa - std::uintptr_t{rule.saved_fp} * sizeof(std::uintptr_t);
  return may_read_word(place, bounds) ? word_at(place) : 0;
}

// One walk. Whether it came to the outermost frame, or the list is full.
FOREBAY_READS_STACKS bool walk_by_rules(Registers& at, StackBounds bounds,
                                        FrameList& frames) noexcept {
  if (bounds.high - bounds.low < sizeof(std::uintptr_t)) return false;
  while (!frames.full()) {
    const UnwindRule rule = unpacked(packed_rule_at(at.pc));
    if (rule.cfa == UnwindRule::Cfa::end) return true;
    if (rule.cfa == UnwindRule::Cfa::signal) {
      if (!leave_handler(at, bounds)) return false;
    } else {
      const std::uintptr_t cfa = cfa_of(at, rule, bounds);
      // Up, and within: so it ends.
      if (cfa <= at.sp || cfa > bounds.high || cfa % sizeof(std::uintptr_t) != 0) return false;
      const std::uintptr_t fp = fp_of(at, rule, cfa, bounds);
      at = {word_at(cfa - sizeof(std::uintptr_t)), cfa, fp};
      if (at.pc == 0) return true;
      if (!may_be_code(at.pc)) return false;
    }
    frames.add(at.pc);
  }
  return true;
}

// Walks that failed since the last one that made us look, and how many may.
constinit std::atomic<std::uint32_t> failures{0};
constinit std::atomic<std::uint32_t> patience{0};

// A walk that failed may have gone by rules of an object that is no more, if each return address
// on its way was in the cache (an object loaded in the place of one laid out the same). Looks at
// the objects on the way once more; whether rules were forgotten over that. Where walks fail all
// the time, for code without tables, it looks ever less often.
[[gnu::noinline]] bool is_out_of_date(std::span<const std::uintptr_t> way) noexcept {
  constexpr std::uint32_t kMostPatience = 1024;
  if (failures.fetch_add(1, std::memory_order_relaxed) < patience.load(std::memory_order_relaxed)) {
    return false;
  }
  failures.store(0, std::memory_order_relaxed);
  const std::uint32_t before = generation.load(std::memory_order_acquire);
  for (const std::uintptr_t pc : way) {
    if (!may_read_memory()) return false;
    if (const auto object = object_of(pc - 1)) remember(*object);
  }
  const bool is = generation.load(std::memory_order_acquire) != before;
  const std::uint32_t now = patience.load(std::memory_order_relaxed);
  patience.store(is ? 0 : std::min(kMostPatience, now * 2 + 1), std::memory_order_relaxed);
  return is;
}

}  // namespace

bool has_unwind_tables() noexcept { return may_read_memory(); }

UnwindRule rule_at(std::uintptr_t return_address) noexcept {
  return may_be_code(return_address) ? unpacked(packed_rule_at(return_address)) : UnwindRule{};
}

bool walk_unwind_tables(Registers& at, StackBounds bounds, FrameList& frames) noexcept {
  const Registers start = at;
  const FrameList before = frames;
  if (walk_by_rules(at, bounds, frames)) [[likely]] {
    return true;
  }
  if (!is_out_of_date(frames.frames())) return false;
  at = start;
  frames = before;
  return walk_by_rules(at, bounds, frames);
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
UnwindRule rule_at(std::uintptr_t) noexcept { return {}; }
bool walk_unwind_tables(Registers&, StackBounds, FrameList&) noexcept { return false; }
void notice_unloaded_objects() noexcept {}

#endif

}  // namespace forebay::detail
