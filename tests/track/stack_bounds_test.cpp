// Stacks that are damaged, or not where they are thought to be: nothing may fault.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <random>
#include <thread>
#include <vector>

#include "track/captured.hpp"
#include "track/recursion.hpp"
#include "track/stack.hpp"
#include "track/unwind_table.hpp"

#if defined(__SANITIZE_THREAD__)
constexpr bool kUnderTsan = true;  // it wants to be told of fibers, and puts signals off
#else
constexpr bool kUnderTsan = false;
#endif

namespace forebay::testing {
namespace {

using detail::Stack;

constexpr std::array kMethods{StackMethod::frame_pointers, StackMethod::unwind_tables,
                              StackMethod::automatic};

// Captures while this function's frame names another caller than its own.
[[gnu::noinline]] __attribute__((no_sanitize("address", "thread", "undefined"))) void
capture_with_damage(Stack& stack, StackMethod method, std::uintptr_t fp, std::uintptr_t pc) {
  auto* const frame = static_cast<std::uintptr_t volatile*>(__builtin_frame_address(0));
  const std::uintptr_t fp_before = frame[0];
  const std::uintptr_t pc_before = frame[1];
  frame[0] = fp;
  frame[1] = pc;
  detail::capture(stack, method, nullptr);
  frame[0] = fp_before;
  frame[1] = pc_before;
}

class DamagedStack : public ::testing::Test {
 protected:
  void SetUp() override { detail::know_this_threads_stack(); }

  static void capture_all_ways(std::uintptr_t fp, std::uintptr_t pc) {
    for (const StackMethod method : kMethods) {
      Stack stack;
      stack.depth = ~0U;
      capture_with_damage(stack, method, fp, pc);
      ASSERT_GE(stack.depth, 1U);
      ASSERT_LE(stack.depth, detail::kMostFrames);
    }
  }
  static std::uintptr_t here() {
    return reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
  }
  static std::uintptr_t some_code() { return reinterpret_cast<std::uintptr_t>(&most_repeated); }
};

// A frame at the very end of a page that is no stack of the thread's, which the outermost function
// has called: there is nothing to follow, and nothing to keep.
TEST_F(DamagedStack, MayEndWhereItsFirstFrameDoes) {
  Capture whole{StackMethod::automatic};
  recurse_with_frames(1, &Capture::make, &whole);
  const std::uintptr_t outermost = frames(whole.stack).back();
  alignas(4096) static std::array<std::uintptr_t, 512> page{};
  std::uintptr_t* const frame = &page[page.size() - 3];
  frame[1] = outermost;
  for (int i = 0; i < 3; ++i) {
    Stack stack;
    detail::capture(stack, StackMethod::automatic, frame);
    EXPECT_LE(stack.depth, 1U);
    EXPECT_EQ(detail::capture_and_intern(StackMethod::automatic, frame), detail::intern(stack));
  }
}

TEST_F(DamagedStack, OfImpossibleFramePointersIsCutShort) {
  const detail::StackBounds own = detail::this_threads_stack();
  for (const std::uintptr_t fp :
       {std::uintptr_t{0}, std::uintptr_t{1}, std::uintptr_t{8}, ~std::uintptr_t{0},
        ~std::uintptr_t{7}, own.high, own.high - 8, own.high - 16, own.high + 8, own.low,
        own.low - 8, here(), here() + 1, here() - 4096, some_code()}) {
    for (const std::uintptr_t pc :
         {std::uintptr_t{0}, std::uintptr_t{1}, ~std::uintptr_t{0}, some_code(), own.high - 8,
          std::uintptr_t{1} << 47, std::uintptr_t{4096}}) {
      capture_all_ways(fp, pc);
    }
  }
}

TEST_F(DamagedStack, ThatLeadsToItselfEnds) {
  std::array<std::uintptr_t, 8> loop{};
  const auto at = reinterpret_cast<std::uintptr_t>(loop.data());
  for (std::size_t i = 0; i < 6; i += 2) {
    loop[i] = at;  // not above: the chain may not go down
    loop[i + 1] = some_code();
  }
  capture_all_ways(at, some_code());
  loop[0] = at + 16;
  loop[2] = at;
  capture_all_ways(at, some_code());
}

TEST_F(DamagedStack, OfRandomWordsIsHarmless) {
  std::mt19937_64 random{7};
  const detail::StackBounds own = detail::this_threads_stack();
  std::array<std::uintptr_t, 512> words{};
  const auto low = reinterpret_cast<std::uintptr_t>(words.data());
  for (int round = 0; round < 300; ++round) {
    for (std::uintptr_t& word : words) {
      switch (random() % 4) {
        case 0:
          word = random();
          break;
        case 1:
          word = low + random() % (own.high + 64 - low);
          break;
        case 2:
          word = low + random() % sizeof words / 8 * 8;
          break;
        default:
          word = some_code() + random() % 65536;
      }
    }
    capture_all_ways(words[random() % words.size()], words[random() % words.size()]);
    capture_all_ways(low + 8 * (random() % 64), some_code() + random() % 65536);
  }
}

// ---- Other stacks than the thread's own

// Pages with none beyond them: a read past their end is a fault.
class SmallStack {
 public:
  explicit SmallStack(std::size_t bytes) : bytes_(bytes) {
    auto* const all = static_cast<std::byte*>(
        mmap(nullptr, bytes + 2 * kGuard, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    data_ = all + kGuard;
    EXPECT_EQ(mprotect(data_, bytes, PROT_READ | PROT_WRITE), 0);
  }
  SmallStack(const SmallStack&) = delete;
  SmallStack& operator=(const SmallStack&) = delete;
  ~SmallStack() { munmap(data_ - kGuard, bytes_ + 2 * kGuard); }
  std::byte* data() const { return data_; }
  std::size_t size() const { return bytes_; }

 private:
  static constexpr std::size_t kGuard = 65536;
  std::size_t bytes_;
  std::byte* data_ = nullptr;
};

ucontext_t g_outside;
ucontext_t g_fiber;
std::uint32_t g_least_depth = 0;
int g_fiber_depth = 0;

void in_fiber() {
  g_least_depth = ~0U;
  for (const StackMethod method : kMethods) {
    Capture capture{method};
    recurse_with_frames(g_fiber_depth, &Capture::make, &capture);
    g_least_depth = std::min(g_least_depth, capture.stack.depth);
  }
}

std::uint32_t least_depth_in_fiber(std::size_t stack_bytes, int depth) {
  const SmallStack stack{stack_bytes};
  EXPECT_EQ(getcontext(&g_fiber), 0);
  g_fiber.uc_stack.ss_sp = stack.data();
  g_fiber.uc_stack.ss_size = stack.size();
  g_fiber.uc_link = &g_outside;
  g_fiber_depth = depth;
  makecontext(&g_fiber, &in_fiber, 0);
  EXPECT_EQ(swapcontext(&g_outside, &g_fiber), 0);
  return g_least_depth;
}

TEST(StackOfAFiber, HasFramesOfThePageInUseAndNothingBeyond) {
  if (kUnderTsan) GTEST_SKIP();
  detail::know_this_threads_stack();
  EXPECT_GE(least_depth_in_fiber(16384, 0), 1U);
  EXPECT_GE(least_depth_in_fiber(65536, 3), 1U);
  EXPECT_GE(least_depth_in_fiber(65536, 200), 2U);
}

struct InHandler {
  std::array<Stack, kMethods.size()> stacks;
  int errno_after = 0;
};
InHandler* g_in_handler = nullptr;

void handle(int) {
  for (std::size_t i = 0; i < kMethods.size(); ++i) {
    detail::capture(g_in_handler->stacks[i], kMethods[i], nullptr);
    detail::intern(g_in_handler->stacks[i]);
  }
}

void raise_signal(void*) {
  errno = 4711;
  raise(SIGUSR1);
  g_in_handler->errno_after = errno;
}

// Captures in a handler that interrupts a recursion 12 deep.
InHandler captured_in_handler(int flags) {
  detail::know_this_threads_stack();
  InHandler in_handler{};
  g_in_handler = &in_handler;
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = &handle;
  action.sa_flags = flags;
  EXPECT_EQ(sigaction(SIGUSR1, &action, &before), 0);
  recurse_without_frames(12, &raise_signal, nullptr);
  sigaction(SIGUSR1, &before, nullptr);
  return in_handler;
}

void expect_whole_stacks(const InHandler& in_handler) {
  EXPECT_EQ(in_handler.errno_after, 4711);
  for (const Stack& stack : in_handler.stacks) EXPECT_GE(stack.depth, 1U);
  if (!detail::has_unwind_tables() || kUnderTsan) return;
  EXPECT_EQ(most_repeated(in_handler.stacks[1]), 12U);
  EXPECT_EQ(most_repeated(in_handler.stacks[2]), 12U);
}

TEST(StackInAHandler, ReachesTheCodeThatWasInterrupted) {
  expect_whole_stacks(captured_in_handler(0));
}

TEST(StackInAHandler, ReachesItFromAStackForSignalsToo) {
  const SmallStack small{65536};
  stack_t before{};
  const stack_t stack{small.data(), 0, small.size()};
  ASSERT_EQ(sigaltstack(&stack, &before), 0);
  expect_whole_stacks(captured_in_handler(SA_ONSTACK));
  sigaltstack(&before, nullptr);
}

TEST(StackInAHandler, IsFoundOnAThreadWithoutKnownBounds) {
  std::thread thread{[] {
    const SmallStack small{65536};
    stack_t before{};
    const stack_t stack{small.data(), 0, small.size()};
    ASSERT_EQ(sigaltstack(&stack, &before), 0);
    InHandler in_handler{};
    g_in_handler = &in_handler;
    struct sigaction action {};
    struct sigaction action_before {};
    action.sa_handler = &handle;
    action.sa_flags = SA_ONSTACK;
    EXPECT_EQ(sigaction(SIGUSR1, &action, &action_before), 0);
    raise_signal(nullptr);
    sigaction(SIGUSR1, &action_before, nullptr);
    for (const Stack& found : in_handler.stacks) EXPECT_GE(found.depth, 1U);
    sigaltstack(&before, nullptr);
  }};
  thread.join();
}

}  // namespace
}  // namespace forebay::testing
