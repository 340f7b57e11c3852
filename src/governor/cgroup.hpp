// Which memory limits the cgroup sets on this process: v1, v2, both mounted (hybrid) or
// none.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "forebay/bytes.hpp"

namespace forebay::detail {

// A directory that may limit us: our cgroup or one above it.
struct CgroupLevel {
  enum class Version { v1, v2 };
  Version version;
  std::filesystem::path directory;  // under the monitor's root
};

struct CgroupLimit {
  Bytes limit;
  std::optional<Bytes> used;
  std::filesystem::path source;  // the file that says so
};

// The levels from our cgroup up to what is mounted, for each hierarchy that can limit
// memory, from the text of /proc/self/cgroup and /proc/self/mountinfo. Empty if there is
// none.
std::vector<CgroupLevel> cgroup_levels(std::string_view cgroup, std::string_view mountinfo,
                                       const std::filesystem::path& root);

// The least limit among the levels; nothing if none of them limits.
std::optional<CgroupLimit> least_limit(const std::vector<CgroupLevel>& levels);

}  // namespace forebay::detail
