#include "forebay/config.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

#include "config/value.hpp"
#include "config/yaml_reader.hpp"

namespace forebay {
namespace {

// "line" and "max_memory_gb" write one field; this is the name of both in origins.
std::string_view setting_of(std::string_view key) { return key == "line" ? "max_memory_gb" : key; }

// Settings that may be not set at all.
bool is_optional(const ConfigOption& option) {
  return option.default_text.empty() || option.default_text == "auto";
}

Status at(const std::string& place, std::string_view why) {
  return {Code::invalid_argument, fmt::format("{}: {}", place, why)};
}

std::string unknown_key(std::string_view key) {
  std::vector<std::string_view> keys;
  for (const ConfigOption& option : config_schema()) keys.push_back(option.key);
  if (const auto match = closest_match(key, keys)) {
    return fmt::format("unknown key; did you mean '{}'?", *match);
  }
  return fmt::format("unknown key; allowed: {}", fmt::join(keys, ", "));
}

Result<std::string> read_config_file(const std::filesystem::path& file) {
  const std::string name = file.string();
  std::error_code error;
  const auto kind = std::filesystem::status(file, error).type();
  if (kind == std::filesystem::file_type::not_found) {
    return Status{Code::not_found, fmt::format("{}: no such configuration file", name)};
  }
  if (kind == std::filesystem::file_type::directory) {
    return at(name, "is a directory; allowed: a configuration file");
  }
  errno = 0;
  std::ifstream stream{file, std::ios::binary};
  if (!stream) {
    return Status{Code::io_error, fmt::format("{}: cannot open: {}", name, std::strerror(errno))};
  }
  std::string text(kMaxConfigFile.count() + 1, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (stream.bad()) {
    return Status{Code::io_error, fmt::format("{}: cannot read: {}", name, std::strerror(errno))};
  }
  text.resize(static_cast<std::size_t>(stream.gcount()));
  if (text.size() > kMaxConfigFile.count()) {
    return at(name, fmt::format("too large for a configuration; allowed: at most {}",
                                to_string(kMaxConfigFile)));
  }
  return text;
}

}  // namespace

// Applies sources in order, and remembers who set what.
class ConfigBuilder {
 public:
  Status apply_file(std::span<const detail::YamlEntry> entries, const std::string& source) {
    for (const detail::YamlEntry& entry : entries) {
      const std::string place = fmt::format("{}:{}", source, entry.line);
      const ConfigOption* option = find_option(entry.key);
      if (option == nullptr) {
        return at(fmt::format("{}: {}", place, printable(entry.key)), unknown_key(entry.key));
      }
      const detail::RawValue value{entry.text, entry.quoted, entry.null};
      const ConfigOrigin origin{ConfigOrigin::Source::file, place};
      if (Status set = apply(*option, value, origin); !set.ok()) {
        return set.with_context(fmt::format("{}: {}", place, entry.key));
      }
    }
    return {};
  }

  Status apply_flags(std::span<const FlagValue> flags) {
    for (const FlagValue& flag : flags) {
      const ConfigOption* option = find_option(flag.key);
      if (option == nullptr) return at(printable(flag.key), unknown_key(flag.key));
      const std::string name{option->flag};
      if (!is_valid_utf8_text(flag.text)) {
        return at(name, fmt::format("{} is not UTF-8 text", printable(flag.text)));
      }
      const ConfigOrigin origin{ConfigOrigin::Source::flag, name};
      if (Status set = apply(*option, {.text = flag.text}, origin); !set.ok()) {
        return set.with_context(name);
      }
    }
    return {};
  }

  // What one setting says about another.
  Result<Config> finish() && {
    if (config_.critical < config_.soft) {
      const bool soft_is_newer = !config_.given("critical");
      const std::string_view key = soft_is_newer ? "soft" : "critical";
      return at(place_of(key),
                fmt::format("{} is not allowed; allowed: soft ({}) at most critical ({})",
                            soft_is_newer ? config_.soft : config_.critical, config_.soft,
                            config_.critical));
    }
    return std::move(config_);
  }

 private:
  Status apply(const ConfigOption& option, const detail::RawValue& value,
               const ConfigOrigin& origin) {
    const std::string_view setting = setting_of(option.key);
    if (value.null && is_optional(option)) return {};  // as if the key were left out
    const auto before = config_.origins_.find(setting);
    const bool again = before != config_.origins_.end() && before->second.source == origin.source;
    if (again && option.kind != OptionKind::list) return given_again(option, origin.source);
    if (option.kind == OptionKind::list && !again) clear_list(option);  // flags win over the file
    if (Status set = detail::assign(config_, option, value); !set.ok()) return set;
    config_.origins_[std::string{setting}] = origin;
    last_key_[std::string{setting}] = option.key;
    return {};
  }

  void clear_list(const ConfigOption& option) {
    if (const auto* field = std::get_if<std::vector<std::string> Config::*>(&option.field)) {
      (config_.**field).clear();
    }
  }

  Status given_again(const ConfigOption& option, ConfigOrigin::Source source) const {
    const ConfigOption& other = *find_option(last_key_.find(setting_of(option.key))->second);
    if (other.key == option.key) return {Code::invalid_argument, "given twice; allowed: once"};
    const bool flags = source == ConfigOrigin::Source::flag;
    return {Code::invalid_argument,
            fmt::format("is the same setting as {}, which is given too; allowed: one of them",
                        flags ? other.flag : other.key)};
  }

  std::string place_of(std::string_view key) const {
    const ConfigOrigin& origin = config_.origin(key);
    if (origin.source == ConfigOrigin::Source::flag) return origin.where;
    return fmt::format("{}: {}", origin.where, key);
  }

  Config config_;
  std::map<std::string, std::string_view, std::less<>> last_key_;  // that set a setting
};

Config::Config() {
  for (const ConfigOption& option : config_schema()) {
    if (option.default_text.empty() || option.default_text == "auto") continue;
    const Status set = detail::assign(*this, option, {.text = option.default_text});
    FOREBAY_CHECK(set.ok(), "a default of the schema is not allowed by it");
  }
}

const ConfigOrigin& Config::origin(std::string_view key) const {
  static const ConfigOrigin built_in;
  const auto found = origins_.find(setting_of(key));
  return found == origins_.end() ? built_in : found->second;
}

Result<Config> parse_config(std::string_view yaml, const std::string& source,
                            std::span<const FlagValue> flags) {
  const Result<std::vector<detail::YamlEntry>> entries = detail::read_flat_yaml(yaml, source);
  if (!entries.ok()) return entries.status();
  ConfigBuilder builder;
  if (Status file = builder.apply_file(*entries, source); !file.ok()) return file;
  if (Status given = builder.apply_flags(flags); !given.ok()) return given;
  return std::move(builder).finish();
}

Result<Config> load_config(const std::filesystem::path& file, std::span<const FlagValue> flags) {
  if (file.empty()) return parse_config("", "", flags);
  const Result<std::string> text = read_config_file(file);
  if (!text.ok()) return text.status();
  return parse_config(*text, file.string(), flags);
}

}  // namespace forebay
