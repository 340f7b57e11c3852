// Small readers for the text files under /proc and /sys.
//
// All of them take what the system says as hostile input: a missing, oversized or
// malformed file reads as "not there".
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "forebay/bytes.hpp"

namespace forebay::detail {

// The whole file, or nothing if it cannot be read or is larger than 4 MiB (a mountinfo
// with 20 000 mounts).
std::optional<std::string> read_text(const std::filesystem::path& file);

// The decimal number that `text` is, surrounding white space aside.
std::optional<std::uint64_t> parse_number(std::string_view text) noexcept;

// The text between separators, empty fields left out.
std::vector<std::string_view> fields_of(std::string_view text, std::string_view separators);

// The value of a line such as "MemTotal:       24684084 kB".
std::optional<Bytes> kilobyte_field(std::string_view text, std::string_view key);

}  // namespace forebay::detail
