// What is said on a publisher's socket. Both sides are on one machine, so that numbers are as they
// lie in memory.
//
//   request: its length (32 bits), then that many bytes: "snapshot"
//   answer:  an AnswerHeader, then that many bytes: JSON, or what went wrong
#pragma once

#include <cstdint>
#include <string_view>

namespace forebay::detail {

inline constexpr std::uint32_t kMostRequest = 4096;
inline constexpr std::string_view kSnapshotRequest = "snapshot";
inline constexpr std::uint32_t kAnswerMagic = 0x31594246;  // "FBY1"

struct AnswerHeader {
  std::uint32_t magic = kAnswerMagic;
  std::uint32_t code = 0;  // as forebay::Code; 0: done
  std::uint64_t length = 0;
};

}  // namespace forebay::detail
