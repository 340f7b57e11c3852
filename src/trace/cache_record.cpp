#include "trace/cache_record.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <optional>

#include "forebay/config.hpp"
#include "trace/json_object.hpp"
#include "trace/record.hpp"

namespace forebay::trace {
namespace {

constexpr std::array<std::string_view, 4> kColumnNames{"time", "key", "size", "cost"};
constexpr std::array<std::string_view, 4> kJsonKeys{"t", "key", "bytes", "cost"};
constexpr std::string_view kTimes = "a number from 0 to 1e19";
constexpr std::string_view kSizes = "a whole number from 0 to 281474976710656";
constexpr std::string_view kCosts = "microseconds from 0 to 1e15";
constexpr std::string_view kExample = R"({"t":0.5,"key":"a","bytes":4096,"cost":120})";

Status bad(std::string why) { return {Code::invalid_argument, std::move(why)}; }

template <typename Number>
std::optional<Number> read_number(std::string_view text) {
  Number value{};
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  return error == std::errc{} && stop == end ? std::optional{value} : std::nullopt;
}

bool is_time(double value) { return value >= 0 && value <= kMaxTime; }
bool is_cost(double value) { return value >= 0 && value <= kMaxCost; }

// Times are mostly whole, and reading those is several times as fast.
bool is_time(std::string_view text) {
  if (read_number<std::uint64_t>(text)) return true;
  const auto value = read_number<double>(text);
  return value && is_time(*value);
}

std::string_view trimmed(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

std::uint64_t word_at(const char* bytes) {
  std::uint64_t word = 0;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}

}  // namespace

std::string_view to_string(CacheFormat format) noexcept {
  switch (format) {
    case CacheFormat::csv:
      return "CSV";
    case CacheFormat::oracle_general:
      return "oracleGeneral";
    case CacheFormat::json_lines:
      break;
  }
  return "JSON lines";
}

std::uint64_t key_of(std::string_view text) noexcept {
  constexpr std::uint64_t kFactor = 0xC6A4A7935BD1E995;
  constexpr int kShift = 47;
  if (const auto value = read_number<std::uint64_t>(text)) return *value;
  std::uint64_t hash = text.size() * kFactor;
  const auto mix = [](std::uint64_t word) {
    word *= kFactor;
    return (word ^ (word >> kShift)) * kFactor;
  };
  for (; text.size() >= sizeof hash; text.remove_prefix(sizeof hash)) {
    hash = (hash ^ mix(word_at(text.data()))) * kFactor;
  }
  if (!text.empty()) {
    std::uint64_t tail = 0;
    std::memcpy(&tail, text.data(), text.size());
    hash = (hash ^ tail) * kFactor;
  }
  hash = (hash ^ (hash >> kShift)) * kFactor;
  return hash ^ (hash >> kShift);
}

std::size_t CsvColumns::split(std::string_view line, Fields& fields) {
  for (std::size_t count = 0;; ++count) {
    const auto comma = line.find(',');
    if (count < fields.size()) fields[count] = trimmed(line.substr(0, comma));
    if (comma == std::string_view::npos) return count + 1;
    if (count == fields.size()) return count + 1;
    line.remove_prefix(comma + 1);
  }
}

bool CsvColumns::is_header(std::string_view line) {
  Fields fields;
  split(line, fields);
  return std::ranges::find(kColumnNames, fields[0]) != kColumnNames.end();
}

Result<CsvColumns> CsvColumns::of_header(std::string_view line) {
  Fields fields;
  const std::size_t count = split(line, fields);
  CsvColumns columns;
  columns.place_.fill(kNone);
  columns.least_ = columns.most_ = count;
  for (std::size_t i = 0; i < std::min(count, fields.size()); ++i) {
    const auto* const known = std::ranges::find(kColumnNames, fields[i]);
    if (known == kColumnNames.end()) return unknown_key(fields[i], kColumnNames);
    std::size_t& place = columns.place_.at(static_cast<std::size_t>(known - kColumnNames.begin()));
    if (place != kNone) return bad(fmt::format("{}: a column given twice", fields[i]));
    place = i;
  }
  if (count > fields.size()) {
    return bad(fmt::format("{} has more than {} columns; allowed: {}", printable(line),
                           fields.size(), fmt::join(kColumnNames, ", ")));
  }
  if (columns.place_of(Column::key) == kNone) {
    return bad(fmt::format("{} has no column key; allowed: time,key,size[,cost]", printable(line)));
  }
  return columns;
}

Result<CacheRequest> CsvColumns::parse(std::string_view line) const {
  Fields fields;
  const std::size_t count = split(line, fields);
  if (count < least_ || count > most_) {
    return bad(fmt::format(
        "{} has {} columns; allowed: {}", printable(line),
        count > kColumns ? "too many" : std::to_string(count),
        least_ == most_ ? fmt::format("{} as in the header", most_) : "time,key,size[,cost]"));
  }
  const auto place = [&](Column column) { return place_.at(static_cast<std::size_t>(column)); };
  const auto has = [&](Column column) { return place(column) < count; };
  // REQUIRES: has(column).
  const auto field = [&](Column column) { return fields.at(place(column)); };
  CacheRequest request;
  if (has(Column::time) && !is_time(field(Column::time)))
    return not_allowed("time", field(Column::time), kTimes);
  if (field(Column::key).empty())
    return not_allowed("key", "", "a number, or a text without commas");
  request.key = key_of(field(Column::key));
  if (has(Column::size)) {
    const auto bytes = read_number<std::uint64_t>(field(Column::size));
    if (!bytes || *bytes > kMaxObject) return not_allowed("size", field(Column::size), kSizes);
    request.bytes = *bytes;
  }
  if (has(Column::cost)) {
    const auto cost = read_number<double>(field(Column::cost));
    if (!cost || !is_cost(*cost)) return not_allowed("cost", field(Column::cost), kCosts);
    request.cost = static_cast<float>(*cost);
  }
  return request;
}

namespace {

class RequestFiller {
 public:
  Status put(std::string_view key, const JsonToken& value) {
    const auto* const known = std::ranges::find(kJsonKeys, key);
    if (known == kJsonKeys.end()) return unknown_key(key, kJsonKeys);
    const auto index = static_cast<std::size_t>(known - kJsonKeys.begin());
    if (seen_.at(index)) return bad(fmt::format("{}: given twice; allowed: once", key));
    seen_.at(index) = true;
    using Setter = Status (RequestFiller::*)(const JsonToken&);
    static constexpr std::array<Setter, kJsonKeys.size()> kSetters{
        &RequestFiller::put_time, &RequestFiller::put_key, &RequestFiller::put_bytes,
        &RequestFiller::put_cost};
    return (this->*kSetters.at(index))(value);
  }

  Result<CacheRequest> finish() const {
    if (!seen_[1]) return bad("key: not given; allowed: a whole number or a string");
    return request_;
  }

 private:
  Status put_time(const JsonToken& value) {
    const auto time = number(value);
    return time && is_time(*time) ? Status{} : not_allowed("t", value, kTimes);
  }
  Status put_key(const JsonToken& value) {
    if (!value.is_string && !whole_number(value)) {
      return not_allowed("key", value,
                         "a whole number from 0 to 18446744073709551615, or a string");
    }
    request_.key = key_of(value.text);
    return {};
  }
  Status put_bytes(const JsonToken& value) {
    const auto bytes = whole_number(value);
    if (!bytes || *bytes > kMaxObject) return not_allowed("bytes", value, kSizes);
    request_.bytes = *bytes;
    return {};
  }
  Status put_cost(const JsonToken& value) {
    const auto cost = number(value);
    if (!cost || !is_cost(*cost)) return not_allowed("cost", value, kCosts);
    request_.cost = static_cast<float>(*cost);
    return {};
  }

  CacheRequest request_;
  std::array<bool, kJsonKeys.size()> seen_{};
};

}  // namespace

Result<CacheRequest> parse_cache_json_line(std::string_view line) {
  RequestFiller filler;
  Status status = read_flat_object(
      line, kExample,
      [&](std::string_view key, const JsonToken& value) { return filler.put(key, value); });
  if (!status.ok()) return status;
  return filler.finish();
}

Status OracleRecord::refusal() const {
  return not_allowed("next", std::to_string(next), "the number of a request, or -1 for none");
}

}  // namespace forebay::trace
