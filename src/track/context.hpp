// Contexts: pairs of a tag and an owner, by number; and the one that each thread is in.
#pragma once

#include <cstdint>
#include <string_view>

// Used by component forebay::telemetry, which may be a library of its own.
#pragma GCC visibility push(default)
namespace forebay::detail {

// 0: neither tag nor owner. Numbers are given once and for good, in the order of first use.
using ContextId = std::uint16_t;
inline constexpr ContextId kMaxContexts = 1U << 13;

struct ContextName {
  std::string_view tag;  // valid for good
  std::string_view owner;
};

// The context within `outer` for a tag ("outer/tag") or owner. When there are no more numbers (or
// no memory), the context "(other)", and it is counted. Takes a lock; allocates what is new.
ContextId context_in(ContextId outer, std::string_view tag) noexcept;
ContextId context_for_owner(ContextId outer, std::string_view owner) noexcept;
ContextName name_of(ContextId id) noexcept;
// Contexts with a lower number have a name.
ContextId contexts_used() noexcept;
std::uint64_t contexts_refused() noexcept;

// Text that is kept for good: the same text is the same pointer. Empty if there is no memory.
std::string_view keep_text(std::string_view text) noexcept;

// Held over a fork. Whoever calls the above with a lock of its own that is held over forks, too,
// calls prepare_contexts() before it says so: what is prepared last is held first.
void prepare_contexts() noexcept;
void lock_contexts() noexcept;
void unlock_contexts() noexcept;

}  // namespace forebay::detail
#pragma GCC visibility pop
