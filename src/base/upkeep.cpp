#include "base/upkeep.hpp"

#include <pthread.h>

#include <algorithm>
#include <csignal>
#include <new>
#include <thread>

namespace forebay::detail {

void Upkeep::add(Charge& charge, TimePoint due) {
  const std::lock_guard lock{mutex_};
  places_.push_back({&charge, due});
  if (!running_) {
    try {
      std::thread{[this] { run(); }}.detach();
    } catch (...) {
      places_.pop_back();
      throw;
    }
    running_ = true;
  }
  changed_.notify_all();
}

void Upkeep::remove(const Charge& charge) noexcept {
  std::unique_lock lock{mutex_};
  std::erase_if(places_, [&](const Place& place) { return place.charge == &charge; });
  changed_.notify_all();
  changed_.wait(lock, [&] { return busy_with_ != &charge; });
}

void Upkeep::wake(const Charge& charge, TimePoint due) noexcept {
  const std::lock_guard lock{mutex_};
  Place* const place = find(&charge);
  if (place == nullptr || place->due <= due) return;
  place->due = due;
  changed_.notify_all();
}

void Upkeep::release(bool in_child) noexcept {
  if (in_child) {
    running_ = false;
    busy_with_ = nullptr;
    new (&changed_) std::condition_variable;  // threads that the child lacks wait on the old one
  }
  mutex_.unlock();
}

Upkeep::Place* Upkeep::find(const Charge* charge) noexcept {
  const auto at = std::find_if(places_.begin(), places_.end(),
                               [charge](const Place& place) { return place.charge == charge; });
  return at == places_.end() ? nullptr : &*at;
}

void Upkeep::run() {
  // Signals are for the program's own threads.
  sigset_t all;
  sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
  ::pthread_setname_np(::pthread_self(), thread_name_);
  std::unique_lock lock{mutex_};
  while (!places_.empty()) {
    const auto next =
        std::min_element(places_.begin(), places_.end(),
                         [](const Place& a, const Place& b) { return a.due < b.due; });
    const TimePoint due = next->due;
    if (due == kNever) {
      changed_.wait(lock);
      continue;
    }
    if (std::chrono::steady_clock::now() < due) {
      changed_.wait_until(lock, due);
      continue;
    }
    next->due = kNever;  // whoever wakes it meanwhile says when
    Charge* const charge = next->charge;
    busy_with_ = charge;
    lock.unlock();
    const TimePoint again = charge->look();
    lock.lock();
    busy_with_ = nullptr;
    if (Place* const place = find(charge)) place->due = std::min(place->due, again);
    changed_.notify_all();
  }
  running_ = false;
}

}  // namespace forebay::detail
