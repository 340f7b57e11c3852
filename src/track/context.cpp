#include "track/context.hpp"

#include <pthread.h>

#include <array>
#include <atomic>
#include <mutex>
#include <new>
#include <string>
#include <unordered_map>
#include <unordered_set>

namespace forebay::detail {
namespace {

constexpr std::size_t kLongestTag = 200;    // of one scope, in bytes
constexpr std::size_t kLongestPath = 1000;  // of nested ones
constexpr std::string_view kOther = "(other)";

struct Key {
  const char* tag;  // kept texts: the same text is the same pointer
  const char* owner;
  bool operator==(const Key&) const = default;
};
struct KeyHash {
  std::size_t operator()(const Key& key) const noexcept {
    return std::hash<const void*>{}(key.tag) * 31 + std::hash<const void*>{}(key.owner);
  }
};

// Never destroyed: threads may end after static objects have.
struct Contexts {
  std::mutex mutex;
  std::unordered_set<std::string> texts;
  std::unordered_map<Key, ContextId, KeyHash> numbers;
  std::array<ContextName, kMaxContexts> names{};  // written once, before `used` says so
  std::atomic<std::uint32_t> used{1};
  std::atomic<std::uint64_t> refused{0};

  std::string_view keep(std::string_view text) {
    if (text.empty()) return {};
    return *texts.emplace(text).first;
  }
  bool is_full() const noexcept { return used.load(std::memory_order_relaxed) + 1 == kMaxContexts; }
  // The text if it is kept already, or if there is room for a name with it; else empty.
  std::string_view keep_for_name(std::string_view text) {
    if (!is_full()) return keep(text);
    const auto known = texts.find(std::string{text});
    return known == texts.end() ? std::string_view{} : std::string_view{*known};
  }
  // The last number is for what has none.
  ContextId number(std::string_view tag, std::string_view owner, bool known_texts) {
    const Key key{tag.data(), owner.data()};
    if (known_texts && key == Key{nullptr, nullptr}) return 0;
    if (const auto known = numbers.find(key); known_texts && known != numbers.end()) {
      return known->second;
    }
    if (is_full() || !known_texts) {
      refused.fetch_add(1, std::memory_order_relaxed);
      return kMaxContexts - 1;
    }
    const std::uint32_t next = used.load(std::memory_order_relaxed);
    numbers.emplace(key, static_cast<ContextId>(next));
    names[next] = {tag, owner};
    used.store(next + 1, std::memory_order_release);
    return static_cast<ContextId>(next);
  }
};

Contexts& contexts() noexcept {
  alignas(Contexts) static std::byte place[sizeof(Contexts)];
  static auto* const the = [] {
    auto* const made = new (place) Contexts;
    ::pthread_atfork(lock_contexts, unlock_contexts, unlock_contexts);
    return made;
  }();
  return *the;
}

// Longer than is kept: its front.
std::string path_of(std::string_view outer, std::string_view tag) {
  std::string path{outer};
  if (!path.empty()) path += '/';
  path += tag.substr(0, kLongestTag);
  if (path.size() > kLongestPath) path.resize(kLongestPath);
  return path;
}

template <typename Number>
ContextId numbered(Number number) noexcept {
  Contexts& all = contexts();
  try {
    const std::lock_guard lock{all.mutex};
    return number(all);
  } catch (const std::bad_alloc&) {
    all.refused.fetch_add(1, std::memory_order_relaxed);
    return kMaxContexts - 1;
  }
}

}  // namespace

ContextId context_in(ContextId outer, std::string_view tag) noexcept {
  if (tag.empty()) return outer;
  return numbered([&](Contexts& all) {
    const ContextName name = name_of(outer);
    const std::string_view path = all.keep_for_name(path_of(name.tag, tag));
    return all.number(path, name.owner, !path.empty());
  });
}

ContextId context_for_owner(ContextId outer, std::string_view owner) noexcept {
  return numbered([&](Contexts& all) {
    const std::string_view name = all.keep_for_name(owner.substr(0, kLongestTag));
    return all.number(name_of(outer).tag, name, owner.empty() || !name.empty());
  });
}

ContextName name_of(ContextId id) noexcept {
  if (id == kMaxContexts - 1) return {kOther, {}};
  const bool known = id < contexts().used.load(std::memory_order_acquire);
  return known ? contexts().names[id] : ContextName{};
}

ContextId contexts_used() noexcept {
  return static_cast<ContextId>(contexts().used.load(std::memory_order_acquire));
}

std::uint64_t contexts_refused() noexcept {
  return contexts().refused.load(std::memory_order_relaxed);
}

std::string_view keep_text(std::string_view text) noexcept {
  Contexts& all = contexts();
  try {
    const std::lock_guard lock{all.mutex};
    return all.keep(text);
  } catch (const std::bad_alloc&) {
    return {};
  }
}

void prepare_contexts() noexcept { static_cast<void>(contexts()); }
void lock_contexts() noexcept { contexts().mutex.lock(); }
void unlock_contexts() noexcept { contexts().mutex.unlock(); }

}  // namespace forebay::detail
