#include "cache/expirer.hpp"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstddef>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "cache/core.hpp"

namespace forebay::detail {
namespace {

// Between two looks at the caches: what comes due meanwhile is freed together. With the tick and
// the coarse clock an entry goes at most 50 ms late, on a machine that is not overloaded.
constexpr std::chrono::milliseconds kPause{32};

class Expirer {
 public:
  void add(CacheImpl* cache) {
    const std::lock_guard lock{mutex_};
    caches_.push_back(cache);
    if (running_) return;
    try {
      std::thread{[this] { run(); }}.detach();
    } catch (...) {
      caches_.pop_back();
      throw;
    }
    running_ = true;
  }

  void remove(const CacheImpl* cache) noexcept {
    std::unique_lock lock{mutex_};
    std::erase(caches_, cache);
    woken_ = true;
    changed_.notify_all();
    changed_.wait(lock, [&] { return busy_with_ != cache; });
  }

  void wake() noexcept {
    const std::lock_guard lock{mutex_};
    woken_ = true;
    changed_.notify_all();
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
    ::pthread_setname_np(::pthread_self(), "forebay-caches");
    std::unique_lock lock{mutex_};
    while (!caches_.empty()) {
      woken_ = false;
      const auto until = look_at_all(lock);
      if (woken_ || caches_.empty()) continue;
      if (until == std::chrono::steady_clock::time_point::max()) {
        changed_.wait(lock, [&] { return woken_; });
      } else {
        changed_.wait_until(lock, until, [&] { return woken_; });
      }
      // A burst of new deadlines wakes it once a pause, not once each.
      if (!caches_.empty() && woken_) pause(lock);
    }
    running_ = false;
  }

  void pause(std::unique_lock<std::mutex>& lock) {
    const auto until = std::chrono::steady_clock::now() + kPause;
    changed_.wait_until(lock, until, [&] { return caches_.empty(); });
  }

  // Frees what is due everywhere; when to look again.
  std::chrono::steady_clock::time_point look_at_all(std::unique_lock<std::mutex>& lock) {
    auto until = std::chrono::steady_clock::time_point::max();
    for (std::size_t i = 0; i < caches_.size(); ++i) {
      CacheImpl* const cache = caches_[i];
      busy_with_ = cache;
      lock.unlock();
      // Before the look, so that a deadline which is linked meanwhile wakes this thread.
      cache->awaited.store(TimerWheel::kNever);
      if (cache->next_due() <= cache->ticks()) cache->expire_all();
      const std::uint64_t due = cache->next_due();
      std::uint64_t none = TimerWheel::kNever;
      cache->awaited.compare_exchange_strong(none, due);
      lock.lock();
      busy_with_ = nullptr;
      changed_.notify_all();
      if (due == TimerWheel::kNever) continue;
      const std::uint64_t now = cache->ticks();
      const auto ahead = std::chrono::nanoseconds{(due > now ? due - now : 0) << kTickShift};
      until = std::min(until, std::chrono::steady_clock::now() +
                                  std::max<std::chrono::nanoseconds>(ahead, kPause));
    }
    return until;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<CacheImpl*> caches_;
  const CacheImpl* busy_with_ = nullptr;
  bool running_ = false;
  bool woken_ = false;
};

// Never destroyed: caches may end after static objects have. Made in place: that cannot fail.
Expirer& expirer() noexcept {
  alignas(Expirer) static std::byte place[sizeof(Expirer)];
  static auto* const the = new (place) Expirer;
  return *the;
}

}  // namespace

void start_expiring(CacheImpl* cache) {
  static const int prepared = ::pthread_atfork(
      [] { expirer().lock(); }, [] { expirer().unlock(false); }, [] { expirer().unlock(true); });
  static_cast<void>(prepared);
  expirer().add(cache);
}
void stop_expiring(CacheImpl* cache) noexcept { expirer().remove(cache); }

void wake_expirer(CacheImpl* cache) noexcept {
  if (cache->in_background) expirer().wake();
}

}  // namespace forebay::detail
