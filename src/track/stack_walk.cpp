#include <pthread.h>
#include <signal.h>

#include <array>
#include <atomic>
#include <bit>
#include <cerrno>

#include "track/frames.hpp"
#include "track/known_walks.hpp"
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

// Zero when it is loaded: takes no memory before it is used.
constinit KnownWalks known_walks{};

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
  // Of nearly every stack of a thread the same two or three beyond, the C library's.
  if (!known_walks.add_frames(end_of_chain, bounds, frames)) {
    Registers at = end_of_chain;
    const std::uint32_t before = stack.depth;
    if (!walk_unwind_tables(at, bounds, frames)) {
      stack.depth = frames.depth();
      return false;
    }
    // There is no frame of the chain where it began at the very end of the stack.
    if (before != 0) {
      known_walks.keep(end_of_chain, bounds, frames.frames().subspan(before - 1), 0);
    }
  }
  stack.depth = frames.depth();
  return true;
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
                                                             std::uintptr_t frame,
                                                             StackBounds bounds) noexcept {
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

[[gnu::noinline]] FOREBAY_READS_STACKS StackId walk_and_intern(StackMethod method,
                                                               std::uintptr_t frame,
                                                               StackBounds bounds) noexcept {
  Stack stack;
  stack.depth = 0;
  walk(stack, method, frame, bounds);
  const StackId id = intern(stack);
  const bool by_tables = method != StackMethod::frame_pointers;
  if (by_tables && id != 0)
    known_walks.keep(above(frame), bounds, {stack.frames.data(), stack.depth}, id);
  return id;
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
  const auto first = reinterpret_cast<std::uintptr_t>(frame);
  walk(stack, method, first, bounds_at(first + kPair));
}

[[gnu::noinline]] FOREBAY_READS_STACKS StackId capture_and_intern(StackMethod method,
                                                                  const void* frame) noexcept {
  if (method == StackMethod::none) return 0;
  if (frame == nullptr) frame = __builtin_frame_address(0);
  const auto first = reinterpret_cast<std::uintptr_t>(frame);
  const StackBounds bounds = bounds_at(first + kPair);
  const bool by_tables = method != StackMethod::frame_pointers;
  const StackId known = by_tables ? known_walks.id_of(above(first), bounds) : 0;
  return known != 0 ? known : walk_and_intern(method, first, bounds);
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
