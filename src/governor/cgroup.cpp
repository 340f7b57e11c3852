#include "governor/cgroup.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <system_error>

#include "governor/proc_files.hpp"

namespace forebay::detail {
namespace {

using Version = CgroupLevel::Version;

// v1 writes "no limit" as the largest page-aligned signed number (9223372036854771712
// with 4 KiB pages); nothing real comes near.
constexpr std::uint64_t kNoLimitFrom = 1ULL << 62;

// A cgroup file system, as one line of mountinfo shows it.
struct Mount {
  Version version;
  std::string root;   // the cgroup that is visible at `point`
  std::string point;  // where it is mounted
};

// Mountinfo writes space, tab, newline and backslash as \ooo.
std::string unescape(std::string_view text) {
  const auto octal = [](char c) { return c >= '0' && c <= '7'; };
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && octal(text[i + 1]) && octal(text[i + 2]) &&
        octal(text[i + 3])) {
      plain += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                                 (text[i + 3] - '0'));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

bool lists(std::string_view comma_separated, std::string_view word) {
  const auto words = fields_of(comma_separated, ",");
  return std::find(words.begin(), words.end(), word) != words.end();
}

// "36 25 0:30 ROOT POINT options [more ...] - TYPE source SUPER-OPTIONS"
std::optional<Mount> parse_mount(std::string_view line) {
  const auto fields = fields_of(line, " ");
  const auto dash = std::find(fields.begin(), fields.end(), "-");
  if (dash - fields.begin() < 6 || fields.end() - dash < 4) return std::nullopt;
  const bool v2 = dash[1] == "cgroup2";
  const bool v1 = dash[1] == "cgroup" && lists(dash[3], "memory");
  if (!v1 && !v2) return std::nullopt;
  return Mount{v2 ? Version::v2 : Version::v1, unescape(fields[3]), unescape(fields[4])};
}

// The path of our cgroup in the hierarchy that `version` names: "N:...,memory,...:PATH"
// or "0::PATH".
std::optional<std::string> own_path(std::string_view cgroup, Version version) {
  for (const std::string_view line : fields_of(cgroup, "\n")) {
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (first == std::string_view::npos || second == std::string_view::npos) continue;
    const auto controllers = line.substr(first + 1, second - first - 1);
    const bool ours = version == Version::v2 ? controllers.empty() && line.substr(0, first) == "0"
                                             : lists(controllers, "memory");
    if (ours) return std::string{line.substr(second + 1)};
  }
  return std::nullopt;
}

// `path` below `root`, both absolute in the hierarchy; nothing if it is not below it, as
// when the process was moved out of its namespace's root ("/../elsewhere").
std::optional<std::filesystem::path> below(const std::string& path, const std::string& root) {
  const auto relative = std::filesystem::path{path}.lexically_relative(root);
  const bool outside =
      std::any_of(relative.begin(), relative.end(), [](const auto& part) { return part == ".."; });
  if (relative.empty() || outside) return std::nullopt;
  return relative == "." ? std::filesystem::path{} : relative;
}

// From the deepest level up to the mount itself.
void append_levels(std::vector<CgroupLevel>& levels, const Mount& mount,
                   std::filesystem::path relative, const std::filesystem::path& root) {
  const auto top = root / std::filesystem::path{mount.point}.relative_path();
  for (; !relative.empty(); relative = relative.parent_path()) {
    levels.push_back({mount.version, top / relative});
  }
  levels.push_back({mount.version, top});
}

std::optional<CgroupLimit> limit_of(const std::filesystem::path& file) {
  const auto text = read_text(file);
  const auto number = text ? parse_number(*text) : std::nullopt;  // "max" is no number
  if (!number || *number >= kNoLimitFrom) return std::nullopt;
  return CgroupLimit{Bytes{*number}, std::nullopt, file};
}

std::optional<CgroupLimit> lesser(std::optional<CgroupLimit> a, std::optional<CgroupLimit> b) {
  if (!a || !b) return a ? std::move(a) : std::move(b);
  return b->limit < a->limit ? std::move(b) : std::move(a);
}

// Above memory.high the kernel stalls the process rather than kill it: also a line not to
// cross.
std::optional<CgroupLimit> limit_at(const CgroupLevel& level) {
  if (level.version == Version::v1) return limit_of(level.directory / "memory.limit_in_bytes");
  return lesser(limit_of(level.directory / "memory.max"),
                limit_of(level.directory / "memory.high"));
}

std::optional<Bytes> used_at(const CgroupLevel& level) {
  const auto text =
      read_text(level.directory /
                (level.version == Version::v1 ? "memory.usage_in_bytes" : "memory.current"));
  const auto number = text ? parse_number(*text) : std::nullopt;
  return number ? std::optional{Bytes{*number}} : std::nullopt;
}

}  // namespace

std::vector<CgroupLevel> cgroup_levels(std::string_view cgroup, std::string_view mountinfo,
                                       const std::filesystem::path& root) {
  std::vector<Mount> mounts;
  for (const std::string_view line : fields_of(mountinfo, "\n")) {
    if (auto mount = parse_mount(line)) mounts.push_back(*std::move(mount));
  }
  std::vector<CgroupLevel> levels;
  for (const Version version : {Version::v1, Version::v2}) {
    const auto path = own_path(cgroup, version);
    const auto of_version = [&](const Mount& m) { return m.version == version; };
    const auto any = std::find_if(mounts.begin(), mounts.end(), of_version);
    if (!path || any == mounts.end()) continue;
    const auto shows_us = std::find_if(mounts.begin(), mounts.end(), [&](const Mount& m) {
      return of_version(m) && below(*path, m.root);
    });
    // In a container our path may be one of the host, which is not visible from here: the
    // mount then shows the container's own cgroup, or one above it.
    const bool visible = shows_us != mounts.end();
    append_levels(levels, visible ? *shows_us : *any,
                  visible ? *below(*path, shows_us->root) : std::filesystem::path{}, root);
  }
  return levels;
}

std::optional<CgroupLimit> least_limit(const std::vector<CgroupLevel>& levels) {
  std::optional<CgroupLimit> least;
  const CgroupLevel* where = nullptr;
  for (const CgroupLevel& level : levels) {
    auto limit = limit_at(level);
    if (!limit || (least && least->limit <= limit->limit)) continue;
    least = std::move(limit);
    where = &level;
  }
  if (least) least->used = used_at(*where);
  return least;
}

}  // namespace forebay::detail
