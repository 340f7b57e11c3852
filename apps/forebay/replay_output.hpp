// What `forebay replay alloc` says of a replay.
#pragma once

#include <string>

#include "json_output.hpp"
#include "terminal.hpp"
#include "trace/replay.hpp"

namespace forebay::app {

// What a replay was made for.
struct ReplayContext {
  std::string trace;  // its file
  std::string device;
  Bytes capacity;  // unlimited: the host's
  bool touch = false;
  std::uint32_t repeat = 0;
  std::string chart;  // empty: none
};

std::string replay_report(const trace::Replay& replay, const ReplayContext& context,
                          const Painter& paint);
Json json_of(const trace::Replay& replay, const ReplayContext& context);
// The refusal of a replay in which each configuration refused something.
Status refusal_of(const trace::Replay& replay, const ReplayContext& context);

// The trace's file without its folders.
std::string name_of_trace(const std::string& file);

}  // namespace forebay::app
