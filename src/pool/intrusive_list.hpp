// IntrusiveList: a doubly linked list through members of its elements. Putting an element in
// and taking it out allocates nothing, so that giving back cannot fail.
#pragma once

#include "forebay/check.hpp"

namespace forebay::detail {

template <typename T>
struct ListHook {
  T* before = nullptr;
  T* after = nullptr;
};

// Owns nothing. An element is in at most one list of each of its hooks.
// Thread safety: not thread-safe.
template <typename T, ListHook<T> T::*kHook>
class IntrusiveList {
 public:
  bool empty() const noexcept { return front_ == nullptr; }
  T* front() const noexcept { return front_; }
  T* back() const noexcept { return back_; }
  static T* after(const T& element) noexcept { return (element.*kHook).after; }

  void push_front(T& element) noexcept {
    (element.*kHook) = {nullptr, front_};
    (front_ == nullptr ? back_ : (front_->*kHook).before) = &element;
    front_ = &element;
  }

  void remove(T& element) noexcept {
    const ListHook<T> hook = element.*kHook;
    (hook.before == nullptr ? front_ : (hook.before->*kHook).after) = hook.after;
    (hook.after == nullptr ? back_ : (hook.after->*kHook).before) = hook.before;
    element.*kHook = {};
  }

  T* pop_back() noexcept {
    FOREBAY_DCHECK(!empty(), "taken from an empty list");
    T* const element = back_;
    remove(*element);
    return element;
  }

 private:
  T* front_ = nullptr;
  T* back_ = nullptr;
};

}  // namespace forebay::detail
