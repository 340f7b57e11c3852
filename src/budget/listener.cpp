#include "budget/listener.hpp"

#include <new>

namespace forebay::detail {

void note_changed(BudgetNode* node) noexcept {
  if (node->listener == nullptr) {
    node->announced = node->pressure;
    return;
  }
  if (node->in_changed) return;
  node->in_changed = true;
  node->next_changed = node->tree->changed;
  node->tree->changed = node;
}

void forget_changed(BudgetNode* node) noexcept {
  if (!node->in_changed) return;
  BudgetNode** link = &node->tree->changed;
  while (*link != node) link = &(*link)->next_changed;
  *link = node->next_changed;
  node->in_changed = false;
}

namespace {

// What a listener captured may give back memory as it dies.
void drop_unlocked(Lock& lock, std::shared_ptr<ListenerEntry> entry) noexcept {
  lock.unlock();
  entry.reset();
  lock.lock();
}

}  // namespace

void tell_listeners(Tree& tree, Lock& lock) noexcept {
  if (this_thread.callback != nullptr) return;
  while (tree.changed != nullptr) {
    BudgetNode* node = tree.changed;
    if (node->listener == nullptr || node->pressure == node->announced) {
      forget_changed(node);
      node->announced = node->pressure;
      continue;
    }
    // A call under way sees to the news itself when it returns: calls of one listener then
    // never run at once, and never end with old news.
    if (node->listener->calls > 0) {
      forget_changed(node);
      continue;
    }
    std::shared_ptr<ListenerEntry> entry = node->listener;
    BudgetStats stats;
    try {
      stats = stats_of(node);
    } catch (const std::bad_alloc&) {
      return;
    }
    forget_changed(node);
    node->announced = node->pressure;
    call_unlocked(tree, lock, *entry, nullptr, [&] { entry->listener(stats); });
    // The node may be gone by now, and is not if it still has this listener.
    if (entry->node != nullptr) note_changed(entry->node);
    drop_unlocked(lock, std::move(entry));
  }
}

std::shared_ptr<ListenerEntry> replace_listener(BudgetNode* node, Lock& lock,
                                                std::shared_ptr<ListenerEntry> entry) noexcept {
  std::shared_ptr<ListenerEntry> old = std::exchange(node->listener, std::move(entry));
  node->announced = node->pressure;
  forget_changed(node);
  if (old != nullptr) {
    old->node = nullptr;
    wait_for_calls(*node->tree, lock, *old);
  }
  return old;
}

}  // namespace forebay::detail
