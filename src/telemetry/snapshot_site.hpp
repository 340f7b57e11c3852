// Names of what a snapshot holds, for reports.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "forebay/telemetry.hpp"

#pragma GCC visibility push(default)  // the command uses it
namespace forebay::detail {

// "grow_cache(int) (model+0x1000)"
std::string text_of(const Snapshot& snapshot, const SnapshotFrame& frame);
// The innermost function of a stack (index plus one) that is not Forebay's or the standard
// library's; without names, the place of the innermost call. "(not known)" of stack 0.
std::string site_of(const Snapshot& snapshot, std::uint32_t stack);
// "decoder/cache of tenant 1", "(no tag)"
std::string tag_text(std::string_view tag, std::string_view owner);
// A stack (index plus one) as Tracker::frames_of() gives those of this process.
std::vector<Frame> frames_of(const Snapshot& snapshot, std::uint32_t stack);

}  // namespace forebay::detail
#pragma GCC visibility pop
