#include "pool/janitor.hpp"

#include <pthread.h>

#include <algorithm>
#include <condition_variable>
#include <csignal>
#include <cstddef>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "pool/core.hpp"

namespace forebay::detail {
namespace {

using SteadyClock = std::chrono::steady_clock;

struct Customer {
  PoolCore* core;
  Duration interval;
  SteadyClock::time_point due;
};

class Janitor {
 public:
  void add(PoolCore* core, Duration interval) {
    const std::lock_guard lock{mutex_};
    interval = std::min<Duration>(interval, std::chrono::hours{24});
    customers_.push_back({core, interval, SteadyClock::now() + interval});
    if (!running_) {
      try {
        std::thread{[this] { run(); }}.detach();
      } catch (...) {
        customers_.pop_back();
        throw;
      }
      running_ = true;
    }
    changed_.notify_all();
  }

  void remove(const PoolCore* core) noexcept {
    std::unique_lock lock{mutex_};
    std::erase_if(customers_, [core](const Customer& customer) { return customer.core == core; });
    changed_.notify_all();
    changed_.wait(lock, [&] { return busy_with_ != core; });
  }

  void lock() noexcept { mutex_.lock(); }
  void unlock(bool in_child) noexcept {
    if (in_child) {
      running_ = false;
      busy_with_ = nullptr;
      new (&changed_) std::condition_variable;  // threads that the child lacks wait on the old one
    }
    mutex_.unlock();
  }

 private:
  void run() {
    // Signals are for the program's own threads.
    sigset_t all;
    sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
    ::pthread_setname_np(::pthread_self(), "forebay-pools");
    std::unique_lock lock{mutex_};
    while (!customers_.empty()) {
      const auto next =
          std::min_element(customers_.begin(), customers_.end(),
                           [](const Customer& a, const Customer& b) { return a.due < b.due; });
      const auto due = next->due;
      if (SteadyClock::now() < due) {
        changed_.wait_until(lock, due);
        continue;
      }
      next->due = SteadyClock::now() + next->interval;
      PoolCore* const core = next->core;
      busy_with_ = core;
      lock.unlock();
      core->tick();
      lock.lock();
      busy_with_ = nullptr;
      changed_.notify_all();
    }
    running_ = false;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Customer> customers_;
  const PoolCore* busy_with_ = nullptr;
  bool running_ = false;
};

// Never destroyed: pools may end after static objects have. Made in place: that cannot fail.
Janitor& janitor() noexcept {
  alignas(Janitor) static std::byte place[sizeof(Janitor)];
  static auto* const the = new (place) Janitor;
  return *the;
}

}  // namespace

void start_cleaning(PoolCore* core, Duration interval) { janitor().add(core, interval); }
void stop_cleaning(PoolCore* core) noexcept { janitor().remove(core); }
void hold_cleaning() noexcept { janitor().lock(); }
void release_cleaning(bool in_child) noexcept { janitor().unlock(in_child); }

}  // namespace forebay::detail
