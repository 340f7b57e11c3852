// One operation a line, as a flat JSON object.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "forebay/config.hpp"
#include "trace/json_object.hpp"
#include "trace/record.hpp"

namespace forebay::trace {
namespace {

constexpr std::array<std::string_view, 6> kKeys{"t", "op", "id", "bytes", "stream", "tag"};
constexpr double kMaxSeconds = 9e9;  // as nanoseconds this is below 2^63
constexpr std::string_view kWhole = "a whole number from 0 to 18446744073709551615";

Status bad(std::string why) { return {Code::invalid_argument, std::move(why)}; }

std::optional<Duration> seconds(const JsonToken& token) {
  const auto value = number(token);
  if (!value || !(*value >= 0 && *value <= kMaxSeconds)) return std::nullopt;
  return Duration{std::llround(*value * 1e9)};
}

// Fills a record key by key, and remembers which were there.
class Filler {
 public:
  Status put(std::string_view key, const JsonToken& value) {
    const auto* const known = std::ranges::find(kKeys, key);
    if (known == kKeys.end()) return unknown_key(key, kKeys);
    const auto index = static_cast<std::size_t>(known - kKeys.begin());
    if (seen_[index]) return bad(fmt::format("{}: given twice; allowed: once", key));
    seen_[index] = true;
    using Setter = Status (Filler::*)(const JsonToken&);
    static constexpr std::array<Setter, kKeys.size()> kSetters{
        &Filler::put_time,  &Filler::put_operation, &Filler::put_id,
        &Filler::put_bytes, &Filler::put_stream,    &Filler::put_tag};
    return (this->*kSetters[index])(value);
  }

  Result<Record> finish() const {
    if (!seen_[1]) return bad("op: not given; allowed: alloc, free");
    if (!seen_[2]) return bad(fmt::format("id: not given; allowed: {}", kWhole));
    if (record_.kind == Record::Kind::allocate && !seen_[3]) {
      return bad("bytes: not given; an alloc needs its size in bytes");
    }
    return record_;
  }

 private:
  Status put_time(const JsonToken& value) {
    const auto time = seconds(value);
    if (!time) return not_allowed("t", value, "seconds from 0 to 9e9");
    record_.time = *time;
    record_.has_time = true;
    return {};
  }
  Status put_operation(const JsonToken& value) {
    if (!value.is_string || (value.text != "alloc" && value.text != "free")) {
      return not_allowed("op", value, "\"alloc\", \"free\"");
    }
    record_.kind = value.text == "alloc" ? Record::Kind::allocate : Record::Kind::free;
    return {};
  }
  Status put_id(const JsonToken& value) {
    const auto id = whole_number(value);
    if (!id) return not_allowed("id", value, kWhole);
    record_.id = *id;
    return {};
  }
  Status put_bytes(const JsonToken& value) {
    const auto bytes = whole_number(value);
    if (!bytes || *bytes > kMaxBlock.count()) {
      return not_allowed("bytes", value,
                         fmt::format("a whole number from 0 to {}", kMaxBlock.count()));
    }
    record_.bytes = Bytes{*bytes};
    record_.has_bytes = true;
    return {};
  }
  Status put_stream(const JsonToken& value) {
    const auto stream = whole_number(value);
    if (!stream) return not_allowed("stream", value, kWhole);
    record_.stream = *stream;
    record_.has_stream = true;
    return {};
  }
  Status put_tag(const JsonToken& value) {
    if (!value.is_string || !is_valid_utf8_text(value.text)) {
      return not_allowed("tag", value, "a string of UTF-8 text");
    }
    record_.tag = value.text;
    return {};
  }

  Record record_;
  std::array<bool, kKeys.size()> seen_{};
};

}  // namespace

Result<Record> parse_json_line(std::string_view line) {
  Filler filler;
  Status status = read_flat_object(
      line, R"({"t":0.5,"op":"alloc","id":7,"bytes":4096})",
      [&](std::string_view key, const JsonToken& value) { return filler.put(key, value); });
  if (!status.ok()) return status;
  return filler.finish();
}

}  // namespace forebay::trace
