// Calls into user code (reclaimers, listeners): made with no lock held, by a thread that
// may not reserve meanwhile, and counted, so that whoever unregisters can wait for them.
#pragma once

#include "budget/node.hpp"

namespace forebay::detail {

// What can be called. Guarded by the tree's mutex.
struct Callback {
  int calls = 0;  // under way
};

// Makes this thread one that is inside `callback`, while it lives.
class InsideCallback {
 public:
  explicit InsideCallback(const Callback* callback, ReliefTally* tally = nullptr) noexcept
      : outer_(this_thread) {
    this_thread.slot = ThreadState::kNone;
    this_thread.callback = callback;
    this_thread.tally = tally;
  }
  InsideCallback(const InsideCallback&) = delete;
  InsideCallback& operator=(const InsideCallback&) = delete;
  ~InsideCallback() {
    this_thread.callback = outer_.callback;
    this_thread.tally = outer_.tally;
    this_thread.slot = outer_.callback == nullptr ? this_thread.own_slot : ThreadState::kNone;
  }

 private:
  const ThreadState outer_;
};

// Runs `call` without the lock. REQUIRES: `lock` is held, `callback` outlives the call.
template <typename Call>
void call_unlocked(Tree& tree, Lock& lock, Callback& callback, ReliefTally* tally, Call&& call) {
  struct Under {
    Tree& tree;
    Lock& lock;
    Callback& callback;
    ~Under() {
      lock.lock();
      --callback.calls;
      tree.call_ended.notify_all();
    }
  };
  ++callback.calls;
  lock.unlock();
  const Under under{tree, lock, callback};
  const InsideCallback inside{&callback, tally};
  call();
}

// Waits until no other thread is inside `callback`.
inline void wait_for_calls(Tree& tree, Lock& lock, const Callback& callback) noexcept {
  const int mine = this_thread.callback == &callback ? 1 : 0;
  while (callback.calls > mine) tree.call_ended.wait(lock);
}

}  // namespace forebay::detail
