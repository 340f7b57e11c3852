#include <pthread.h>
#include <signal.h>

#include <array>
#include <atomic>
#include <bit>
#include <cerrno>

#include "track/frames.hpp"
#include "track/stack.hpp"
#include "track/stack_depot.hpp"
#include "track/unwind_table.hpp"

namespace forebay::detail {
namespace {

// Written once, read by handlers of signals too: high is 0 until low is there.
struct KnownBounds {
  std::atomic<std::uintptr_t> low{0};
  std::atomic<std::uintptr_t> high{0};
};
[[gnu::tls_model("initial-exec")]] constinit thread_local KnownBounds known_bounds;

// The stack for signals that the thread is on, if it is.
StackBounds signal_stack() noexcept {
  const int saved = errno;
  stack_t stack{};
  const bool is_on = sigaltstack(nullptr, &stack) == 0 && (stack.ss_flags & SS_ONSTACK) != 0;
  errno = saved;
  if (!is_on) return {};
  const auto low = reinterpret_cast<std::uintptr_t>(stack.ss_sp);
  return {low, low + stack.ss_size};
}

// A fiber's stack, or that of a thread that did not say: the page that is in use is there.
StackBounds page_of(std::uintptr_t sp) noexcept {
  constexpr std::uintptr_t kLeastPage = 4096;
  return {sp, (sp | (kLeastPage - 1)) + 1};
}

[[gnu::noinline]] StackBounds bounds_of_other_stack(std::uintptr_t sp) noexcept {
  const StackBounds of_signals = signal_stack();
  return of_signals.contains(sp) ? StackBounds{sp, of_signals.high} : page_of(sp);
}

[[gnu::always_inline]] FOREBAY_READS_STACKS inline StackBounds bounds_at(
    std::uintptr_t sp) noexcept {
  const StackBounds own = this_threads_stack();
  if (own.contains(sp)) [[likely]] {
    return {sp, own.high};
  }
  return bounds_of_other_stack(sp);
}

#if defined(__x86_64__) || defined(__aarch64__)
#define FOREBAY_FRAME_POINTERS 1
#else
#define FOREBAY_FRAME_POINTERS 0
#endif

// A frame pointer points to the caller's, beside which is the return address: on x86-64 and
// aarch64 alike.
constexpr std::uintptr_t kPair = 2 * sizeof(std::uintptr_t);

// Pointers to code may be signed on aarch64: what is above the address goes.
constexpr std::uintptr_t without_signature(std::uintptr_t pc) noexcept {
#if defined(__aarch64__)
  return pc & ((1ULL << 48) - 1);
#else
  return pc;
#endif
}

// Where pairs may be: words from `low` on, the last at low + 8 * most.
struct Pairs {
  explicit Pairs(StackBounds bounds) noexcept
      : low(bounds.low), most((bounds.high - kPair - low) / sizeof(std::uintptr_t)) {}
  // Turned right by 3 bits, what is not aligned is out of range.
  bool have(std::uintptr_t fp) const noexcept { return std::rotr(fp - low, 3) <= most; }
  std::uintptr_t low;
  std::uintptr_t most;
};

// How far a chain was followed: the last pair of it, or what its first must lie above.
struct Followed {
  std::uintptr_t* out;
  std::uintptr_t last;
};

// As long as each pair lies above the one before and has a return address. By itself, so that all
// of it stays in registers: there are so few instructions a frame that each one counts.
[[gnu::noinline]] FOREBAY_READS_STACKS Followed follow(std::uintptr_t fp, std::uintptr_t last,
                                                       Pairs pairs, std::uintptr_t* out,
                                                       std::uintptr_t* end) noexcept {
  while (out != end && fp > last && pairs.have(fp)) {
    const std::uintptr_t pc = without_signature(word_at(fp + sizeof(std::uintptr_t)));
    if (!may_be_code(pc)) break;
    *out++ = pc;
    last = fp;
    fp = word_at(fp);
  }
  return {out, last};
}

// The registers of the caller of the function whose pair is at `fp`.
[[gnu::always_inline]] FOREBAY_READS_STACKS inline Registers above(std::uintptr_t fp) noexcept {
  return {without_signature(word_at(fp + sizeof(std::uintptr_t))), fp + kPair, word_at(fp)};
}

// Follows the chain from the pair at `frame`, which is there.
[[gnu::always_inline]] FOREBAY_READS_STACKS inline Followed walk_frame_pointers(
    std::uintptr_t frame, StackBounds bounds, Stack& stack) noexcept {
  std::uintptr_t* const first = stack.frames.data();
  if (bounds.high - bounds.low < kPair) return {first, frame};
  *first = without_signature(word_at(frame + sizeof(std::uintptr_t)));
  return follow(word_at(frame), frame, Pairs{bounds}, first + 1, first + kMostFrames);
}

// ---- The outermost frames
//
// Of nearly every stack of a thread the same two or three, the C library's, which have no frame
// pointers. They are kept with the places of their return addresses, and looked at again: if a
// walk is at the same place of the code with the same stack pointer, and each of those words is
// what it was, then by rules that build on the stack pointer alone it would find the same.

class OutermostFrames {
 public:
  // Adds them, if they are those of a walk at `at`.
  FOREBAY_READS_STACKS bool add(const Registers& at, StackBounds bounds,
                                FrameList& frames) const noexcept {
    const std::uint32_t before = version_.load(std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_acquire);
    const Kept kept = kept_;
    std::atomic_signal_fence(std::memory_order_acquire);
    // A handler of signals changed it meanwhile, or interrupted a change.
    if (before % 2 != 0 || version_.load(std::memory_order_relaxed) != before) return false;
    if (kept.pc != at.pc || kept.sp != at.sp || kept.high != bounds.high) return false;
    if (kept.generation != unwind_generation()) return false;
    for (std::uint32_t i = 0; i < kept.count; ++i) {
      if (word_at(kept.places[i]) != kept.pcs[i]) return false;
    }
    for (std::uint32_t i = 0; i < kept.count && !frames.full(); ++i) frames.add(kept.pcs[i]);
    return true;
  }

  // Keeps those beyond `at`, from where a walk came to the end, if they are few and such as above.
  FOREBAY_READS_STACKS void keep(const Registers& at, StackBounds bounds) noexcept {
    Kept kept{at.pc, at.sp, bounds.high, unwind_generation(), 0, {}, {}};
    Registers next = at;
    for (UnwindRule rule = rule_at(next.pc); rule.cfa != UnwindRule::Cfa::end;
         rule = rule_at(next.pc)) {
      if (rule.cfa != UnwindRule::Cfa::sp || kept.count == kMost) return;
      next.sp += static_cast<std::uintptr_t>(std::intptr_t{rule.offset});
      const std::uintptr_t place = next.sp - sizeof(std::uintptr_t);
      if (place < at.sp || place > bounds.high - sizeof(std::uintptr_t)) return;
      next.pc = word_at(place);
      kept.places[kept.count] = place;
      kept.pcs[kept.count++] = next.pc;
    }
    const std::uint32_t before = version_.load(std::memory_order_relaxed);
    if (before % 2 != 0) return;
    version_.store(before + 1, std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_release);
    kept_ = kept;
    std::atomic_signal_fence(std::memory_order_release);
    version_.store(before + 2, std::memory_order_relaxed);
  }

 private:
  static constexpr std::uint32_t kMost = 3;
  struct Kept {
    std::uintptr_t pc = 0;
    std::uintptr_t sp = 0;
    std::uintptr_t high = 0;  // of the stack
    std::uint32_t generation = 0;
    std::uint32_t count = 0;
    std::array<std::uintptr_t, kMost> places{};
    std::array<std::uintptr_t, kMost> pcs{};
  };
  std::atomic<std::uint32_t> version_{0};  // odd while it changes
  Kept kept_;
};
[[gnu::tls_model("initial-exec")]] constinit thread_local OutermostFrames outermost_frames;

// Whether it came to the outermost frame.
FOREBAY_READS_STACKS bool walk_by_tables(Stack& stack, std::uintptr_t frame,
                                         StackBounds bounds) noexcept {
  FrameList frames{stack};
  Registers at = above(frame);
  frames.add(at.pc);
  const bool whole = walk_unwind_tables(at, bounds, frames);
  stack.depth = frames.depth();
  return whole;
}

// From the pair at `last`, in which a chain of frame pointers ended. Whether it came to the
// outermost frame.
FOREBAY_READS_STACKS bool walk_on(Stack& stack, std::uintptr_t last, StackBounds bounds) noexcept {
  FrameList frames{stack, stack.depth};
  const Registers end_of_chain = above(last);
  Registers at = end_of_chain;
  bool whole = outermost_frames.add(at, bounds, frames);
  if (!whole) {
    whole = walk_unwind_tables(at, bounds, frames);
    const bool own = this_threads_stack().high == bounds.high;
    if (whole && own && !frames.full()) outermost_frames.keep(end_of_chain, bounds);
  }
  stack.depth = frames.depth();
  return whole;
}

// By frame pointers, and from where they end by tables: of a function without frame pointer, its
// caller's registers are still what the last frame found left behind. The C library's outermost
// functions are such. If that place is in no table, what was followed was no chain of frames:
// all of it by tables, unless that finds less.
[[gnu::noinline]] void complete(Stack& stack, std::uintptr_t frame, std::uintptr_t last,
                                StackBounds bounds) noexcept {
  if (walk_on(stack, last, bounds)) return;
  Stack other;
  if (!walk_by_tables(other, frame, bounds) && other.depth <= stack.depth) return;
  for (std::uint32_t i = 0; i < other.depth; ++i) stack.frames[i] = other.frames[i];
  stack.depth = other.depth;
}

// The stack beyond the pair at `frame`, the calling function's own.
[[gnu::always_inline]] FOREBAY_READS_STACKS inline void walk(Stack& stack, StackMethod method,
                                                             std::uintptr_t frame) noexcept {
  const StackBounds bounds = bounds_at(frame + kPair);
  if (method == StackMethod::unwind_tables) {
    walk_by_tables(stack, frame, bounds);
    return;
  }
  const Followed chain = walk_frame_pointers(frame, bounds, stack);
  stack.depth = static_cast<std::uint32_t>(chain.out - stack.frames.data());
  if (method == StackMethod::automatic && stack.depth != kMostFrames) {
    complete(stack, frame, chain.last, bounds);
  }
}

}  // namespace

StackBounds this_threads_stack() noexcept {
  const std::uintptr_t high = known_bounds.high.load(std::memory_order_relaxed);
  return {known_bounds.low.load(std::memory_order_relaxed), high};
}

void know_this_threads_stack() noexcept {
  prepare_depot();
  notice_unloaded_objects();
  // The first look binds the loader's function, which a handler of signals had better not do.
  rule_at(reinterpret_cast<std::uintptr_t>(__builtin_return_address(0)));
  pthread_attr_t attributes;
  if (pthread_getattr_np(pthread_self(), &attributes) != 0) return;
  void* low = nullptr;
  std::size_t bytes = 0;
  if (pthread_attr_getstack(&attributes, &low, &bytes) == 0) {
    const auto first = reinterpret_cast<std::uintptr_t>(low);
    known_bounds.low.store(first, std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_release);
    known_bounds.high.store(first + bytes, std::memory_order_relaxed);
  }
  pthread_attr_destroy(&attributes);
}

// Noinline and with a frame of its own: what is on the stack above it is the caller's.
#if FOREBAY_FRAME_POINTERS

[[gnu::noinline]] FOREBAY_READS_STACKS void capture(Stack& stack, StackMethod method,
                                                    const void* frame) noexcept {
  stack.depth = 0;
  if (method == StackMethod::none) return;
  if (frame == nullptr) frame = __builtin_frame_address(0);
  walk(stack, method, reinterpret_cast<std::uintptr_t>(frame));
}

[[gnu::noinline]] FOREBAY_READS_STACKS StackId capture_and_intern(StackMethod method,
                                                                  const void* frame) noexcept {
  if (method == StackMethod::none) return 0;
  if (frame == nullptr) frame = __builtin_frame_address(0);
  Stack stack;
  walk(stack, method, reinterpret_cast<std::uintptr_t>(frame));
  return intern(stack);
}

#else

[[gnu::noinline]] void capture(Stack& stack, StackMethod method, const void*) noexcept {
  stack.depth = method == StackMethod::none ? 0 : 1;
  stack.frames[0] = reinterpret_cast<std::uintptr_t>(__builtin_return_address(0));
}

[[gnu::noinline]] StackId capture_and_intern(StackMethod method, const void*) noexcept {
  if (method == StackMethod::none) return 0;
  Stack stack;
  stack.frames[0] = reinterpret_cast<std::uintptr_t>(__builtin_return_address(0));
  stack.depth = 1;
  return intern(stack);
}

#endif

}  // namespace forebay::detail
