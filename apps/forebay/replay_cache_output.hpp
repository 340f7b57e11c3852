// What `forebay replay cache` says of a replay.
#pragma once

#include <string>

#include "json_output.hpp"
#include "terminal.hpp"
#include "trace/cache_replay.hpp"

namespace forebay::app {

// What a replay was made for.
struct CacheReplayContext {
  std::string trace;  // its file; "-": standard input
  bool ignore_size = false;
  std::string chart;  // empty: none
};

std::string cache_replay_report(const trace::CacheReplay& replay, const CacheReplayContext& context,
                                const Painter& paint);
Json json_of(const trace::CacheReplay& replay, const CacheReplayContext& context);

}  // namespace forebay::app
