#include "telemetry/formats.hpp"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <chrono>
#include <cmath>

namespace forebay::detail {
namespace {

constexpr double kNanos = 1e9;
// About 292 years: what 64 bits of nanoseconds hold.
constexpr double kMostSeconds = 9.2e9;

std::optional<int> digits(std::string_view text, std::size_t at, std::size_t count) {
  if (text.size() < at + count) return std::nullopt;
  int number = 0;
  const char* const end = text.data() + at + count;
  const auto [stop, error] = std::from_chars(text.data() + at, end, number);
  return error == std::errc{} && stop == end && number >= 0 ? std::optional{number} : std::nullopt;
}

// Of ".123": 123 000 000.
std::int64_t fraction_nanos(std::string_view digits) {
  std::int64_t nanos = 0;
  std::int64_t unit = 100'000'000;
  for (const char c : digits) {
    if (c < '0' || c > '9') break;
    nanos += (c - '0') * unit;
    unit /= 10;
  }
  return nanos;
}

std::int64_t nanos_of(double seconds) {
  if (!(std::abs(seconds) < kMostSeconds)) return 0;
  return std::llround(seconds * kNanos);
}

}  // namespace

const TagStats& tag_at(const Snapshot& snapshot, std::size_t index) {
  static const TagStats none{};
  return index < snapshot.tags.size() ? snapshot.tags[index] : none;
}

std::string_view source_at(const Snapshot& snapshot, std::size_t index) {
  return index < snapshot.sources.size() ? std::string_view{snapshot.sources[index]} : "";
}

const std::vector<SnapshotFrame>& stack_at(const Snapshot& snapshot, std::uint32_t stack) {
  static const std::vector<SnapshotFrame> none;
  if (stack == 0 || stack > snapshot.stacks.size()) return none;
  return snapshot.stacks[stack - 1];
}

const SnapshotModule* module_of(const Snapshot& snapshot, const SnapshotFrame& frame) {
  if (frame.module == 0 || frame.module > snapshot.modules.size()) return nullptr;
  return &snapshot.modules[frame.module - 1];
}

std::string title_of(const TagStats& tag) {
  const std::string_view name = tag.tag.empty() ? std::string_view{"(no tag)"} : tag.tag;
  return tag.owner.empty() ? std::string{name} : fmt::format("{} ({})", name, tag.owner);
}

std::string name_of(const Snapshot& snapshot, const SnapshotFrame& frame) {
  if (!frame.function.empty()) return frame.function;
  const SnapshotModule* const module = module_of(snapshot, frame);
  if (module == nullptr) return fmt::format("{:#x}", frame.offset);
  const std::string_view path = module->path;
  return fmt::format("{}+{:#x}", path.substr(path.rfind('/') + 1), frame.offset);
}

std::optional<std::int64_t> parse_utc(std::string_view text) {
  constexpr std::array<std::pair<std::size_t, char>, 5> kMarks{
      {{4, '-'}, {7, '-'}, {10, 'T'}, {13, ':'}, {16, ':'}}};
  for (const auto& [at, mark] : kMarks) {
    if (text.size() <= at || text[at] != mark) return std::nullopt;
  }
  const auto year = digits(text, 0, 4);
  const auto month = digits(text, 5, 2);
  const auto day = digits(text, 8, 2);
  const auto hour = digits(text, 11, 2);
  const auto minute = digits(text, 14, 2);
  const auto second = digits(text, 17, 2);
  if (!year || !month || !day || !hour || !minute || !second || !text.ends_with('Z')) return {};
  const std::chrono::year_month_day date{std::chrono::year{*year},
                                         std::chrono::month{static_cast<unsigned>(*month)},
                                         std::chrono::day{static_cast<unsigned>(*day)}};
  if (!date.ok() || *year < 1970 || *year > 2200) return {};
  if (*hour > 23 || *minute > 59 || *second > 60) return {};
  const auto since = std::chrono::sys_days{date}.time_since_epoch() + std::chrono::hours{*hour} +
                     std::chrono::minutes{*minute} + std::chrono::seconds{*second};
  const std::string_view rest = text.substr(19);
  return std::chrono::nanoseconds{since}.count() +
         (rest.starts_with('.') ? fraction_nanos(rest.substr(1)) : 0);
}

std::int64_t utc_of(const Snapshot& snapshot, double clock_seconds) {
  const auto taken = parse_utc(snapshot.taken_at);
  if (!taken) return std::max<std::int64_t>(0, nanos_of(clock_seconds));
  return std::max<std::int64_t>(0, *taken - nanos_of(snapshot.clock_seconds - clock_seconds));
}

}  // namespace forebay::detail
