#include "config/value.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace forebay {
namespace {

constexpr double kMaxGigabytes = 1 << 20;  // a pebibyte; more is a typing error
constexpr double kBytesPerGigabyte = 1ULL << 30;

// The whole text as a number; empty if any of it is left over. NaN and infinity are no
// numbers here.
template <typename Number>
std::optional<Number> read_number(std::string_view text) {
  if (text.starts_with('+')) return std::nullopt;
  Number number{};
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc{} || stop != end) return std::nullopt;
  if constexpr (std::is_floating_point_v<Number>) {
    if (!std::isfinite(number)) return std::nullopt;
  }
  return number;
}

std::optional<double> read_fraction(std::string_view text) {
  const auto number = read_number<double>(text);
  return number && *number > 0 && *number <= 1 ? number : std::nullopt;
}

std::optional<Bytes> read_size(std::string_view text) {
  const Result<Bytes> size = parse_bytes(text);
  return size.ok() && !(*size).is_zero() ? std::optional{*size} : std::nullopt;
}

std::optional<Bytes> read_gigabytes(std::string_view text) {
  const auto number = read_number<double>(text);
  if (!number || *number > kMaxGigabytes) return std::nullopt;
  const double bytes = std::floor(*number * kBytesPerGigabyte);
  return bytes >= 1 ? std::optional{Bytes{static_cast<std::uint64_t>(bytes)}} : std::nullopt;
}

std::optional<LineSetting> read_line(std::string_view text) {
  if (text.ends_with('%')) {
    const auto percent = read_number<double>(text.substr(0, text.size() - 1));
    if (!percent || !(*percent > 0 && *percent <= 100)) return std::nullopt;
    return LineSetting{.bytes = Bytes::unlimited(), .fraction = *percent / 100};
  }
  const auto size = read_size(text);
  return size ? std::optional{LineSetting{.bytes = *size, .fraction = {}}} : std::nullopt;
}

std::optional<std::vector<LineSetting>> read_sizes(std::string_view text) {
  std::vector<LineSetting> sizes;
  for (;;) {
    const auto comma = text.find(',');
    const auto size = read_line(text.substr(0, comma));
    if (!size) return std::nullopt;
    sizes.push_back(*size);
    if (comma == std::string_view::npos) return sizes;
    text.remove_prefix(comma + 1);
  }
}

std::optional<std::uint64_t> read_count(const ConfigOption& option, std::string_view text) {
  const auto number = read_number<std::uint64_t>(text);
  return number && *number >= option.least && *number <= option.most ? number : std::nullopt;
}

std::optional<bool> read_toggle(std::string_view text) {
  if (text == "true") return true;
  if (text == "false") return false;
  return std::nullopt;
}

// Kinds whose values YAML must not write in quotes.
bool is_bare(OptionKind kind) {
  return kind == OptionKind::gigabytes || kind == OptionKind::fraction ||
         kind == OptionKind::count || kind == OptionKind::toggle;
}

// Reads a value into a field of each type; says whether it could.
class Assigner {
 public:
  Assigner(Config& config, const ConfigOption& option, std::string_view text)
      : config_(config), option_(option), text_(text) {}

  bool operator()(LineSetting Config::*field) const {
    if (option_.kind == OptionKind::line) return put(field, read_line(text_));
    const auto bytes = read_gigabytes(text_);
    return bytes && put(field, std::optional{LineSetting{.bytes = *bytes, .fraction = {}}});
  }
  bool operator()(double Config::*field) const { return put(field, read_fraction(text_)); }
  bool operator()(std::uint32_t Config::*field) const { return put_count(field); }
  bool operator()(std::uint64_t Config::*field) const { return put_count(field); }
  bool operator()(std::optional<std::uint32_t> Config::*field) const {
    if (is_auto()) return clear(field);
    return put_count(field);
  }
  bool operator()(std::optional<Bytes> Config::*field) const {
    if (is_auto()) return clear(field);
    return put(field, read_size(text_));
  }
  bool operator()(std::vector<LineSetting> Config::*field) const {
    if (is_auto()) return put(field, std::optional{std::vector<LineSetting>{}});
    return put(field, read_sizes(text_));
  }
  bool operator()(std::string Config::*field) const {
    if (option_.kind == OptionKind::choice && !is_choice()) return false;
    config_.*field = text_;
    return true;
  }
  bool operator()(std::vector<std::string> Config::*field) const {
    (config_.*field).emplace_back(text_);
    return true;
  }
  bool operator()(bool Config::*field) const { return put(field, read_toggle(text_)); }
  bool operator()(KvType Config::*field) const {
    if (!is_choice()) return false;
    const Result<KvType> type = parse_kv_type(text_);
    if (!type.ok()) return false;
    config_.*field = *type;
    return true;
  }

 private:
  bool is_choice() const {
    return std::ranges::find(option_.choices, text_) != option_.choices.end();
  }
  bool is_auto() const { return text_ == "auto" && option_.default_text == "auto"; }

  template <typename Field>
  bool clear(Field field) const {
    (config_.*field).reset();
    return true;
  }
  template <typename Field, typename Value>
  bool put(Field field, const std::optional<Value>& value) const {
    if (!value) return false;
    config_.*field = *value;
    return true;
  }
  template <typename Field>
  bool put_count(Field field) const {
    using Target = std::remove_reference_t<decltype(config_.*field)>;
    const auto count = read_count(option_, text_);
    if (!count) return false;
    if constexpr (std::is_same_v<Target, std::uint64_t>) {
      config_.*field = *count;
    } else {
      config_.*field = static_cast<std::uint32_t>(*count);  // the schema's range fits it
    }
    return true;
  }

  Config& config_;
  const ConfigOption& option_;
  const std::string_view text_;
};

Status not_allowed(const ConfigOption& option, std::string_view value) {
  return {Code::invalid_argument,
          fmt::format("{} is not allowed; allowed: {}", value, allowed_values(option))};
}

}  // namespace

std::string allowed_values(const ConfigOption& option) {
  std::string text;
  switch (option.kind) {
    case OptionKind::line:
      return "a size as 36GiB, or a share of what machine or cgroup allows as 80%";
    case OptionKind::gigabytes:
      return fmt::format("a number above 0 and at most {:.0f}, in GB of 2^30 bytes", kMaxGigabytes);
    case OptionKind::size:
      text = "a size above 0 as 512MiB or 1.5GiB";
      break;
    case OptionKind::sizes:
      text = "sizes above 0 as 512MiB, or shares as 10%, several with commas";
      break;
    case OptionKind::fraction:
      text = "a number above 0 and at most 1";
      break;
    case OptionKind::count:
      text = fmt::format("a whole number from {} to {}", option.least, option.most);
      break;
    case OptionKind::text:
    case OptionKind::list:
      text = "text that is not empty";
      break;
    case OptionKind::path:
      text = "the path of a file";
      break;
    case OptionKind::choice:
      text = fmt::format("{}", fmt::join(option.choices, ", "));
      break;
    case OptionKind::toggle:
      text = "true or false";
      break;
  }
  return option.default_text == "auto" ? text + ", or auto" : text;
}

namespace detail {

Status assign(Config& config, const ConfigOption& option, const RawValue& value) {
  if (value.text.empty() || value.null) return not_allowed(option, "an empty value");
  if (value.quoted && is_bare(option.kind) && value.text != "auto") {
    return not_allowed(option, fmt::format("\"{}\" in quotes", printable(value.text)));
  }
  if (std::visit(Assigner{config, option, value.text}, option.field)) return {};
  return not_allowed(option, printable(value.text));
}

}  // namespace detail
}  // namespace forebay
