// Subjects: what only the timeline itself needs of them.
#pragma once

#include <string_view>

#include "track/timeline.hpp"

namespace forebay::detail {

// As subject(), for a text of which there may be very many: 0 once half of all numbers are taken
// by such.
SubjectId subject_of_mark(std::string_view text) noexcept;

}  // namespace forebay::detail
