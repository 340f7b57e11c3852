#include <pthread.h>
#include <signal.h>

#include <atomic>
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

[[gnu::always_inline]] inline StackBounds bounds_at(std::uintptr_t sp) noexcept {
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

// Goes on from `at`, whose pc is in the list, as long as each frame lies above the one before and
// has a return address. `at` is the last frame found.
[[gnu::always_inline]] FOREBAY_READS_STACKS inline void walk_frame_pointers(
    Registers& at, StackBounds bounds, FrameList& frames) noexcept {
  if (bounds.high - bounds.low < kPair) return;
  const std::uintptr_t last = bounds.high - kPair;
  while (!frames.full()) {
    if (at.fp < at.sp || at.fp > last || at.fp % sizeof(std::uintptr_t) != 0) return;
    const std::uintptr_t pc = without_signature(word_at(at.fp + sizeof(std::uintptr_t)));
    if (!may_be_code(pc)) return;
    frames.add(pc);
    at = {pc, at.fp + kPair, word_at(at.fp)};
  }
}

// By frame pointers, and from where they end by tables: of a function without frame pointer, its
// caller's registers are still what the last frame found left behind. The C library's outermost
// functions are such. If that place is in no table, what was followed was no chain of frames:
// all of it by tables, unless that finds less.
[[gnu::noinline]] void walk_on(Stack& stack, Registers start, Registers at,
                               StackBounds bounds, FrameList& frames) noexcept {
  if (walk_unwind_tables(at, bounds, frames)) return;
  Stack other;
  FrameList others{other};
  others.add(start.pc);
  const bool whole = walk_unwind_tables(start, bounds, others);
  if (!whole && others.depth() <= frames.depth()) return;
  for (std::uint32_t i = 0; i < others.depth(); ++i) stack.frames[i] = other.frames[i];
  frames = others;
}

[[gnu::always_inline]] FOREBAY_READS_STACKS inline void walk(Stack& stack, StackMethod method,
                                                             std::uintptr_t frame) noexcept {
  FrameList frames{stack};
  const Registers start{without_signature(word_at(frame + sizeof(std::uintptr_t))), frame + kPair,
                        word_at(frame)};
  const StackBounds bounds = bounds_at(start.sp);
  frames.add(start.pc);
  Registers at = start;
  if (method == StackMethod::unwind_tables) {
    walk_unwind_tables(at, bounds, frames);
  } else {
    walk_frame_pointers(at, bounds, frames);
    if (method == StackMethod::automatic && !frames.full()) {
      walk_on(stack, start, at, bounds, frames);
    }
  }
  stack.depth = frames.depth();
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
