// FailingNew: makes operator new fail on purpose, so that tests can walk a failure through
// every allocation of an operation. Link forebay_test_support; it replaces the global
// operators new and delete of the test program.
#pragma once

#include <cstddef>
#include <cstdint>

namespace forebay::testing {

// While it lives, this thread's allocations fail after the next `n` of them: one only, or
// all from there on. Other threads are not touched. Do not nest.
class FailingNew {
 public:
  enum class Failing { once, from_there_on };

  explicit FailingNew(std::uint64_t n, Failing failing = Failing::once) noexcept;
  FailingNew(const FailingNew&) = delete;
  FailingNew& operator=(const FailingNew&) = delete;
  ~FailingNew();

  // Whether an allocation has been made to fail; if not, `n` was past the last one.
  static bool has_failed() noexcept;
};

// Calls operation() with its 1st, 2nd, ... allocation failing, and check() after each, with
// nothing failing; ends when an operation got through untouched. Returns how many
// allocations were made to fail: zero means that the walk proved nothing.
template <typename Operation, typename Check>
std::size_t walk_allocation_failures(Operation operation, Check check,
                                     FailingNew::Failing failing = FailingNew::Failing::once) {
  for (std::size_t n = 0;; ++n) {
    bool failed = false;
    {
      const FailingNew failure{n, failing};
      operation();
      failed = FailingNew::has_failed();
    }
    check();
    if (!failed) return n;
  }
}

}  // namespace forebay::testing
