// Pressure listeners: told after the operation that crossed a mark, with no lock held.
#pragma once

#include "budget/callback.hpp"

namespace forebay::detail {

struct ListenerEntry : Callback {
  ListenerEntry(BudgetNode* a_node, PressureListener a_listener)
      : node(a_node), listener(std::move(a_listener)) {}
  BudgetNode* node;  // whose listener it is; null once it is replaced
  const PressureListener listener;
};

// REQUIRES for all: the tree's mutex is held.

// Notes that the node's pressure is not what its listener knows.
void note_changed(BudgetNode* node) noexcept;
void forget_changed(BudgetNode* node) noexcept;
// Tells every listener that is owed a call. Inside a callback nothing is told: the
// operation around the callback does it, so that listeners never nest. A listener that
// memory is too short to call is owed its call until the next operation.
void tell_listeners(Tree& tree, Lock& lock) noexcept;
// Waits for calls of the old one to end, and returns it: it must die without the lock.
[[nodiscard]] std::shared_ptr<ListenerEntry> replace_listener(
    BudgetNode* node, Lock& lock, std::shared_ptr<ListenerEntry> entry) noexcept;

}  // namespace forebay::detail
