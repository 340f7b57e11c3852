// Upkeep: a thread of the process that looks after objects, each when it is due.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <new>
#include <vector>

namespace forebay::detail {

// The thread is there as long as anything is to be looked after, and sleeps until something is due.
// Thread safety: thread-safe. No lock is held while an object is looked at.
class Upkeep {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  static constexpr TimePoint kNever = TimePoint::max();

  class Charge {
   public:
    // What there is to do; when to come again.
    virtual TimePoint look() noexcept = 0;

   protected:
    ~Charge() = default;
  };

  // Of at most 15 letters.
  explicit Upkeep(const char* thread_name) noexcept : thread_name_(thread_name) {}

  // Throws std::bad_alloc, or std::system_error if the process can have no more threads.
  void add(Charge& charge, TimePoint due);
  // On return it is not being looked at, and will not be.
  void remove(const Charge& charge) noexcept;
  // It is to be looked at by then; also if it is being looked at now.
  void wake(const Charge& charge, TimePoint due) noexcept;

  // Around a fork. The child has no such thread until it adds something.
  void hold() noexcept { mutex_.lock(); }
  void release(bool in_child) noexcept;

 private:
  struct Place {
    Charge* charge;
    TimePoint due;
  };

  void run();
  Place* find(const Charge* charge) noexcept;

  const char* const thread_name_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Place> places_;
  const Charge* busy_with_ = nullptr;
  bool running_ = false;
};

// Made once and never destroyed, as what it looks after may end after static objects have.
template <const char* kThreadName>
Upkeep& the_upkeep() noexcept {
  alignas(Upkeep) static std::byte place[sizeof(Upkeep)];
  static auto* const the = new (place) Upkeep{kThreadName};
  return *the;
}

}  // namespace forebay::detail
