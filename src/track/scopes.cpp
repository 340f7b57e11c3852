// The context that a thread is in, by scopes.

#include <array>
#include <functional>

#include "track/hooks.hpp"

namespace forebay {
namespace {

using detail::ContextId;

// The contexts that the thread opened lately: no lock for them.
struct Known {
  std::size_t hash = 0;
  ContextId outer = 0;
  ContextId id = 0;
};
constinit thread_local std::array<Known, 64> known_contexts{};

using Find = ContextId (*)(ContextId outer, std::string_view name) noexcept;
// Whether the context's name ends as it must, so that equal hashes are not taken for equal names.
using IsOf = bool (*)(const detail::ContextName& found, const detail::ContextName& outer,
                      std::string_view name) noexcept;

bool is_tag(const detail::ContextName& found, const detail::ContextName& outer,
            std::string_view name) noexcept {
  const std::size_t before = outer.tag.empty() ? 0 : outer.tag.size() + 1;
  return found.owner == outer.owner && found.tag.size() == before + name.size() &&
         found.tag.ends_with(name);
}

bool is_owner(const detail::ContextName& found, const detail::ContextName& outer,
              std::string_view name) noexcept {
  return found.owner == name && found.tag == outer.tag;
}

ContextId known_or(Find find, IsOf is_of, std::string_view name, std::size_t salt) noexcept {
  const ContextId outer = detail::this_tracking.context;
  const std::size_t hash = std::hash<std::string_view>{}(name) + salt;
  Known& known = known_contexts[(hash ^ outer) % known_contexts.size()];
  if (known.id != 0 && known.hash == hash && known.outer == outer &&
      (known.id == detail::kMaxContexts - 1 ||
       is_of(detail::name_of(known.id), detail::name_of(outer), name))) {
    return known.id;
  }
  known = {hash, outer, find(outer, name)};
  return known.id;
}

std::uint16_t enter(Find find, IsOf is_of, std::string_view name, std::size_t salt) noexcept {
  const ContextId outer = detail::this_tracking.context;
  if (detail::g_tracking.load(std::memory_order_relaxed) == 0) return outer;
  detail::this_tracking.context = known_or(find, is_of, name, salt);
  return outer;
}

}  // namespace

TagScope::TagScope(std::string_view tag) noexcept
    : outer_(enter(detail::context_in, is_tag, tag, 0)) {}
TagScope::~TagScope() { detail::this_tracking.context = outer_; }

OwnerScope::OwnerScope(std::string_view owner) noexcept
    : outer_(enter(detail::context_for_owner, is_owner, owner, 1)) {}
OwnerScope::~OwnerScope() { detail::this_tracking.context = outer_; }

TagContext TagContext::current() noexcept {
  TagContext context;
  context.id_ = detail::this_tracking.context;
  return context;
}

TagContext::Scope::Scope(TagContext context) noexcept : outer_(detail::this_tracking.context) {
  detail::this_tracking.context = context.id_;
}
TagContext::Scope::~Scope() { detail::this_tracking.context = outer_; }

}  // namespace forebay
