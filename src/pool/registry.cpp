// The pools of the process, and the threads that keep blocks of them.

#include <pthread.h>

#include <atomic>
#include <cstddef>
#include <mutex>
#include <new>

#include "pool/cleaning.hpp"
#include "pool/core.hpp"
#include "pool/shared_list.hpp"
#include "track/records.hpp"

namespace forebay::detail {
namespace {

struct Registry {
  std::mutex mutex;
  PoolCore* first = nullptr;
};

// Never destroyed: threads may end, and pools too, after static objects have. Made in place: that
// cannot fail.
Registry& registry() noexcept {
  alignas(Registry) static std::byte place[sizeof(Registry)];
  static auto* const the = new (place) Registry;
  return *the;
}

template <typename Visit>
void each_core(Visit visit) {
  for (PoolCore* core = registry().first; core != nullptr; core = core->next_core) visit(*core);
}

// A fork must find every structure whole: each pool's mutex is held over it, and no owner is
// inside a cache's lock. The child has one thread; the others' caches stay where they can be
// emptied.
void before_fork() noexcept {
  cleaning().hold();
  registry().mutex.lock();
  lock_shared_list();
  each_core([](PoolCore& core) { core.before_fork(); });
}

void after_fork(bool in_child) noexcept {
  unlock_shared_list();
  each_core([in_child](PoolCore& core) { core.after_fork(in_child); });
  registry().mutex.unlock();
  cleaning().release(in_child);
}
void after_fork_in_parent() noexcept { after_fork(false); }
void after_fork_in_child() noexcept { after_fork(true); }

// Its end is the thread's.
struct ThreadEnd {
  ~ThreadEnd() {
    this_threads_caches.ended = true;
    this_threads_caches.entries = {};
    const std::lock_guard lock{registry().mutex};
    each_core([](PoolCore& core) { core.retire_caches_of(&this_threads_caches); });
  }
};

}  // namespace

[[gnu::tls_model("initial-exec")]] constinit thread_local ThreadCaches this_threads_caches;

void visit_cores(const std::function<void(const PoolCore&)>& visit) {
  const std::lock_guard lock{registry().mutex};
  each_core(visit);
}

void show_pools(const CounterSink& sink) noexcept {
  if (!registry().mutex.try_lock()) return;
  each_core([&](const PoolCore& core) { core.try_show_counters(sink); });
  registry().mutex.unlock();
}

void register_core(PoolCore* core) {
  static const int prepared = [] {
    prepare_contexts();
    prepare_records();
    return ::pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
  }();
  static_cast<void>(prepared);
  add_counters_of(show_pools);
  add_sources([](const std::function<void(const BlockSource&)>& visit) { visit_cores(visit); });
  const std::lock_guard lock{registry().mutex};
  core->next_core = registry().first;
  if (core->next_core != nullptr) core->next_core->previous_core = core;
  registry().first = core;
}

void unregister_core(PoolCore* core) noexcept {
  const std::lock_guard lock{registry().mutex};
  if (core->next_core != nullptr) core->next_core->previous_core = core->previous_core;
  (core->previous_core != nullptr ? core->previous_core->next_core : registry().first) =
      core->next_core;
}

void retire_at_thread_exit() noexcept {
  static thread_local ThreadEnd end;
  static_cast<void>(&end);
}

std::uint64_t next_pool_serial() noexcept {
  static std::atomic<std::uint64_t> serial{0};
  return serial.fetch_add(1, std::memory_order_relaxed) + 1;
}

}  // namespace forebay::detail
