// Sums of sources that are gone.
#pragma once

#include <vector>

#include "track/hooks.hpp"

namespace forebay::detail {

void retire_tag(ContextId context, const TagSum& sum) noexcept;
void add_retired_tags(std::vector<TagSum>& sums);

}  // namespace forebay::detail
