// The log of RMM's logging_resource_adaptor, as of its version 24.
#include <fmt/format.h>

#include <array>
#include <charconv>
#include <optional>

#include "forebay/config.hpp"
#include "trace/record.hpp"

namespace forebay::trace {
namespace {

constexpr std::size_t kFields = 6;

std::optional<std::uint64_t> whole(std::string_view text, int base = 10) {
  std::uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number, base);
  return error == std::errc{} && stop == end ? std::optional{number} : std::nullopt;
}

// What printf's %p and fmt's ptr() write: 0x7f12ab, (nil).
std::optional<std::uint64_t> address(std::string_view text) {
  if (text == "(nil)") return 0;
  if (!text.starts_with("0x") && !text.starts_with("0X")) return std::nullopt;
  return whole(text.substr(2), 16);
}

std::optional<std::uint64_t> address_or_whole(std::string_view text) {
  const auto number = address(text);
  return number ? number : whole(text);
}

// HH:MM:SS.uuuuuu, which RMM writes by its pattern "%t,%H:%M:%S.%f,%v"; also HH:MM:SS:uuuuuu.
std::optional<Duration> time_of_day(std::string_view text) {
  if (text.size() != 15 || text[2] != ':' || text[5] != ':') return std::nullopt;
  if (text[8] != '.' && text[8] != ':') return std::nullopt;
  const auto hours = whole(text.substr(0, 2));
  const auto minutes = whole(text.substr(3, 2));
  const auto seconds = whole(text.substr(6, 2));
  const auto micros = whole(text.substr(9));
  if (!hours || !minutes || !seconds || !micros) return std::nullopt;
  if (*hours > 23 || *minutes > 59 || *seconds > 60) return std::nullopt;  // 60: a leap second
  return std::chrono::seconds{*hours * 3600 + *minutes * 60 + *seconds} +
         std::chrono::microseconds{*micros};
}

std::optional<Record::Kind> kind_of(std::string_view action) {
  if (action == "allocate") return Record::Kind::allocate;
  if (action == "free") return Record::Kind::free;
  if (action == "allocate failure") return Record::Kind::failed;
  return std::nullopt;
}

// The fields between commas; empty unless there are as many as must be.
std::optional<std::array<std::string_view, kFields>> split(std::string_view line) {
  std::array<std::string_view, kFields> fields;
  for (std::size_t i = 0; i < kFields; ++i) {
    const auto comma = line.find(',');
    const bool last = i + 1 == kFields;
    if (last != (comma == std::string_view::npos)) return std::nullopt;
    fields[i] = line.substr(0, comma);
    if (!last) line.remove_prefix(comma + 1);
  }
  return fields;
}

}  // namespace

Result<Record> parse_rmm_line(std::string_view line) {
  const auto fields = split(line);
  if (!fields) {
    return Status{Code::invalid_argument,
                  fmt::format("{} is no line of a log; allowed: {}", printable(line), kRmmHeader)};
  }
  const auto& [thread, time, action, pointer, size, stream] = *fields;
  if (!whole(thread)) return not_allowed("Thread", thread, "a whole number");
  const auto when = time_of_day(time);
  if (!when) return not_allowed("Time", time, "HH:MM:SS.uuuuuu");
  const auto kind = kind_of(action);
  if (!kind) return not_allowed("Action", action, "allocate, free, allocate failure");
  const auto where = address(pointer);
  if (!where) return not_allowed("Pointer", pointer, "an address as 0x7f12ab, or (nil)");
  const auto bytes = whole(size);
  if (!bytes || *bytes > kMaxBlock.count()) {
    return not_allowed("Size", size, fmt::format("bytes, at most {}", kMaxBlock.count()));
  }
  const auto queue = address_or_whole(stream);
  if (!queue) return not_allowed("Stream", stream, "an address as 0x7f12ab, (nil) or a number");
  return Record{.kind = *kind,
                .has_time = true,
                .has_bytes = true,
                .has_stream = true,
                .id = *where,
                .bytes = Bytes{*bytes},
                .stream = *queue,
                .time = *when,
                .tag = {}};
}

}  // namespace forebay::trace
