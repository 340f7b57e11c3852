#include "trace/pool_setup.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>

#include "forebay/config.hpp"
#include "trace/record.hpp"

namespace forebay::trace {
namespace {

struct BuiltIn {
  std::string_view name;
  std::string_view spec;
  bool host_only = false;
};
constexpr std::array kBuiltIn{
    BuiltIn{"default", ""},
    BuiltIn{"tight", "max_retained=64MiB"},
    BuiltIn{"no-retention", "max_retained=0"},
    BuiltIn{"huge-pages", "huge_pages=always", true},
    BuiltIn{"direct", "direct=true"},
};

constexpr std::array<std::string_view, 8> kKeys{"ttl",          "cleanup_interval", "min_retained",
                                                "max_retained", "huge_pages",       "min_alignment",
                                                "guard_every",  "checked"};
constexpr std::string_view kNames = "letters, digits, '-', '_' and '.', at most 32";
constexpr std::string_view kDurations = "a time as 500ms, 10s, 5m, 2h or 0, at most 10000h";

Status bad(std::string why) { return {Code::invalid_argument, std::move(why)}; }

bool is_name(std::string_view text) {
  constexpr std::string_view kAllowed =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
  return !text.empty() && text.size() <= 32 &&
         text.find_first_not_of(kAllowed) == std::string_view::npos;
}

std::optional<double> unit_in_seconds(std::string_view unit) {
  constexpr std::array<std::pair<std::string_view, double>, 6> kUnits{
      {{"us", 1e-6}, {"ms", 1e-3}, {"s", 1}, {"m", 60}, {"min", 60}, {"h", 3600}}};
  const auto* const found =
      std::ranges::find(kUnits, unit, &std::pair<std::string_view, double>::first);
  return found == kUnits.end() ? std::nullopt : std::optional{found->second};
}

std::optional<Duration> read_duration(std::string_view text) {
  constexpr double kMostSeconds = 10000.0 * 3600;
  double number = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc{} || !(number >= 0)) return std::nullopt;
  if (number == 0 && stop == end) return Duration{};
  const auto unit = unit_in_seconds({stop, static_cast<std::size_t>(end - stop)});
  if (!unit || number * *unit > kMostSeconds) return std::nullopt;
  return Duration{std::llround(number * *unit * 1e9)};
}

std::optional<Bytes> read_bytes(std::string_view text) {
  if (text == "unlimited") return Bytes::unlimited();
  const auto bytes = parse_bytes(text);
  return bytes.ok() ? std::optional{*bytes} : std::nullopt;
}

std::optional<HugePages> read_huge_pages(std::string_view text) {
  if (text == "never") return HugePages::never;
  if (text == "advise") return HugePages::advise;
  if (text == "always") return HugePages::always;
  return std::nullopt;
}

std::optional<bool> read_toggle(std::string_view text) {
  if (text == "true") return true;
  if (text == "false") return false;
  return std::nullopt;
}

std::optional<std::uint32_t> read_count(std::string_view text) {
  std::uint32_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  return error == std::errc{} && stop == end ? std::optional{number} : std::nullopt;
}

template <typename Field, typename Value>
Status put(Field& field, const std::optional<Value>& value, std::string_view key,
           std::string_view text, std::string_view allowed) {
  if (!value) return not_allowed(key, text, allowed);
  field = *value;
  return {};
}

std::optional<Bytes> read_alignment(std::string_view text) {
  const auto bytes = read_bytes(text);
  const bool allowed = bytes && *bytes <= kMaxAlignment && !bytes->is_zero() &&
                       (bytes->count() & (bytes->count() - 1)) == 0;
  return allowed ? bytes : std::nullopt;
}

Status unknown_key(std::string_view key) {
  std::vector<std::string_view> keys{kKeys.begin(), kKeys.end()};
  keys.push_back("direct");
  if (const auto match = closest_match(key, keys)) {
    return bad(fmt::format("{}: unknown key; did you mean '{}'?", printable(key), *match));
  }
  return bad(fmt::format("{}: unknown key; allowed: {}", printable(key), fmt::join(keys, ", ")));
}

// One setting. A size may be given in any unit; "unlimited" is one.
Status set(PoolSetup& setup, std::string_view key, std::string_view text) {
  constexpr std::string_view kSizes = "a size as 64MiB, 0 or unlimited";
  PoolOptions& options = setup.options;
  if (key == "ttl") return put(options.ttl, read_duration(text), key, text, kDurations);
  if (key == "cleanup_interval") {
    return put(options.cleanup_interval, read_duration(text), key, text, kDurations);
  }
  if (key == "min_retained") {
    return put(options.min_retained, read_bytes(text), key, text, kSizes);
  }
  if (key == "max_retained") {
    return put(options.max_retained, read_bytes(text), key, text, kSizes);
  }
  if (key == "huge_pages") {
    return put(options.huge_pages, read_huge_pages(text), key, text, "never, advise, always");
  }
  if (key == "min_alignment") {
    setup.alignment_given = true;
    return put(options.min_alignment, read_alignment(text), key, text,
               "a power of two from 1 to 2MiB");
  }
  if (key == "guard_every") {
    return put(options.guard_every, read_count(text), key, text, "a whole number; 0: none");
  }
  if (key == "checked") {
    return put(options.checked, read_toggle(text), key, text, "true or false");
  }
  if (key == "direct") return put(setup.direct, read_toggle(text), key, text, "true or false");
  return unknown_key(key);
}

// "key=value,key=value" onto what is there; each key once.
Status apply(PoolSetup& setup, std::string_view spec) {
  std::vector<std::string_view> seen;
  while (!spec.empty()) {
    const std::string_view part = spec.substr(0, spec.find(','));
    if (part.empty() || part.size() + 1 == spec.size()) {
      return bad("an empty setting beside a comma; allowed: key=value,key=value");
    }
    spec.remove_prefix(std::min(part.size() + 1, spec.size()));
    const auto equals = part.find('=');
    const std::string_view key = part.substr(0, equals);
    if (equals == std::string_view::npos) {
      return bad(fmt::format("{}: no value given; allowed: key=value", printable(part)));
    }
    if (std::ranges::find(seen, key) != seen.end()) {
      return bad(fmt::format("{}: given twice; allowed: once", printable(key)));
    }
    seen.push_back(key);
    if (Status status = set(setup, key, part.substr(equals + 1)); !status.ok()) return status;
  }
  return {};
}

Status check(const PoolSetup& setup) {
  if (setup.options.min_retained > setup.options.max_retained) {
    return bad(fmt::format("min_retained: {} is not allowed; allowed: at most max_retained ({})",
                           to_string(setup.options.min_retained),
                           to_string(setup.options.max_retained)));
  }
  if (setup.direct && setup.spec.find(',') != std::string::npos) {
    return bad("direct: has no pool, so that no other setting is allowed");
  }
  return {};
}

// Whether "key=value,…" sets the key that `setting` begins with.
bool overrides(std::string_view spec, std::string_view setting) {
  const std::string key{setting.substr(0, setting.find('=') + 1)};
  return spec.starts_with(key) || spec.find("," + key) != std::string_view::npos;
}

const BuiltIn* built_in(std::string_view name) {
  const auto* const found = std::ranges::find(kBuiltIn, name, &BuiltIn::name);
  return found == kBuiltIn.end() ? nullptr : found;
}

Status unknown_pool(std::string_view name) {
  std::vector<std::string_view> names;
  names.reserve(kBuiltIn.size());
  for (const BuiltIn& pool : kBuiltIn) names.push_back(pool.name);
  const auto match = closest_match(name, names);
  return bad(fmt::format("{}: unknown configuration; {}", printable(name),
                         match ? fmt::format("did you mean '{}'?", *match)
                               : fmt::format("allowed: {}, or NAME:key=value,... for a new one",
                                             fmt::join(names, ", "))));
}

}  // namespace

Result<PoolSetup> parse_pool(std::string_view text) {
  const auto colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  if (!is_name(name)) return not_allowed("name", name, kNames);
  const BuiltIn* const base = built_in(name);
  if (base == nullptr && colon == std::string_view::npos) return unknown_pool(name);
  PoolSetup setup;
  setup.name = name;
  setup.options.name = name;
  const std::string_view own = colon == std::string_view::npos ? "" : text.substr(colon + 1);
  const bool inherits = base != nullptr && !overrides(own, base->spec);
  const std::string_view inherited = inherits ? base->spec : "";
  setup.spec = fmt::format("{}{}{}", inherited, inherited.empty() || own.empty() ? "" : ",", own);
  for (const std::string_view spec : {inherited, own}) {
    Status status = apply(setup, spec);
    if (status.ok()) continue;
    return status.with_context(name);
  }
  if (Status status = check(setup); !status.ok()) return status.with_context(name);
  return setup;
}

Result<std::vector<PoolSetup>> parse_pools(std::span<const std::string> texts, bool on_host) {
  std::vector<PoolSetup> setups;
  if (texts.empty()) {
    for (const BuiltIn& pool : kBuiltIn) {
      if (on_host || !pool.host_only) setups.push_back(parse_pool(pool.name).value());
    }
    return setups;
  }
  for (const std::string& text : texts) {
    auto setup = parse_pool(text);
    if (!setup.ok()) return setup.status();
    if (std::ranges::find(setups, setup->name, &PoolSetup::name) != setups.end()) {
      return bad(fmt::format("{}: given twice; allowed: once", setup->name));
    }
    if (setups.size() == kMaxPools) {
      return bad(fmt::format("{}: one more than allowed; allowed: at most {} configurations",
                             setup->name, kMaxPools));
    }
    setups.push_back(std::move(*setup));
  }
  return setups;
}

}  // namespace forebay::trace
