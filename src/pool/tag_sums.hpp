// The sums that a pool keeps by the tracker's contexts.
#pragma once

#include "pool/core.hpp"

namespace forebay::detail {

// All that have a name, but for the one that is none.
template <typename Visit>
void visit_contexts(Visit visit) {
  const ContextId used = contexts_used();
  for (ContextId context = 1; context < used; ++context) visit(context);
  visit(static_cast<ContextId>(kMaxContexts - 1));  // what found no name
}

// Expects the mutex. What is of no context is the rest of all.
template <typename Visit>
void PoolCore::visit_tags(Visit visit) const {
  TagSum named;
  visit_contexts([&](ContextId context) {
    TagSum sum;
    for (const ThreadCache* c = caches_; c != nullptr; c = c->next) sum += c->tags[context].read();
    if (sum.taken != 0) visit(context, sum);
    named += sum;
  });
  TagSum rest = total();
  rest -= named;
  visit(ContextId{0}, rest);
}

}  // namespace forebay::detail
