// Objects that come and go while their code is on stacks.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "track/captured.hpp"
#include "track/recursion.hpp"
#include "track/stack.hpp"
#include "track/unwind_table.hpp"

namespace forebay::testing {
namespace {

class Plugin {
 public:
  explicit Plugin(const char* path) : handle_(dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
    EXPECT_NE(handle_, nullptr) << dlerror();
  }
  ~Plugin() { dlclose(handle_); }
  Plugin(const Plugin&) = delete;
  Plugin& operator=(const Plugin&) = delete;
  std::uintptr_t address() const {
    return reinterpret_cast<std::uintptr_t>(dlsym(handle_, "plugin_recurse"));
  }
  // The stack under a recursion that deep.
  detail::Stack capture(int depth) const {
    Capture capture{StackMethod::unwind_tables};
    reinterpret_cast<int (*)(int, Innermost, void*)>(address())(depth, &Capture::make, &capture);
    return capture.stack;
  }

 private:
  void* handle_;
};

TEST(UnloadedObjects, DoNotLeaveTheirRulesToTheNextOneThere) {
  if (!detail::has_unwind_tables()) GTEST_SKIP() << "no unwind tables on this system";
  detail::know_this_threads_stack();
  int same_place = 0;
  std::uintptr_t before = 0;
  for (int round = 0; round < 200; ++round) {
    const Plugin plugin{round % 2 == 0 ? FOREBAY_PLUGIN_SMALL : FOREBAY_PLUGIN_LARGE};
    if (plugin.address() == before) ++same_place;
    before = plugin.address();
    // It may take some walks that fail before one looks, if many did for no reason before.
    detail::Stack stack;
    for (int walks = 0; walks < 1100 && most_repeated(stack) != 7; ++walks) {
      stack = plugin.capture(7);
    }
    ASSERT_EQ(most_repeated(stack), 7U) << "round " << round;
  }
  // Else nothing was put to the test.
  EXPECT_GT(same_place, 0);
}

TEST(UnloadedObjects, AreNoDangerToThreadsThatCapture) {
  std::atomic<bool> done{false};
  std::atomic<std::uint64_t> wrong{0};
  std::atomic<std::uint64_t> captures{0};
  std::thread other{[&] {
    detail::know_this_threads_stack();
    do {
      Capture capture{StackMethod::automatic};
      recurse_without_frames(9, &Capture::make, &capture);
      if (detail::has_unwind_tables() && most_repeated(capture.stack) != 9) ++wrong;
      detail::intern(capture.stack);
      ++captures;
    } while (!done);
  }};
  detail::know_this_threads_stack();
  for (int round = 0; round < 300; ++round) {
    const Plugin small{FOREBAY_PLUGIN_SMALL};
    small.capture(3);
    const Plugin large{FOREBAY_PLUGIN_LARGE};
    large.capture(3);
    if (round % 16 == 0) detail::notice_unloaded_objects();
  }
  done = true;
  other.join();
  EXPECT_EQ(wrong, 0U);
  EXPECT_GT(captures, 0U);
}

}  // namespace
}  // namespace forebay::testing
