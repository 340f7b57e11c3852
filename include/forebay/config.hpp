// Component forebay::config: every setting, in one table.
//
// config_schema() is the only place where a setting is declared. YAML keys, command-line
// flags, help texts, defaults and the wording of refusals all come from it, so that they
// cannot drift apart; Python keywords are to come from it too.
//
//   auto config = forebay::load_config("config.yaml", {{"seed", "7"}});
//   if (!config) return config.status();   // "config.yaml:3: selection_threshold: 1.7 is …"
//   config->seed;                          // 7: a flag wins over the file
//   config->origin("seed").where;          // "--seed"
//
// A configuration file is a flat map in YAML (or JSON, which is YAML): no nesting, no
// aliases, no key twice, UTF-8, at most 1 MiB. One file serves all commands, so that a
// plan and the run it is for read the same one.
//
// Thread safety: values and pure functions; load_config reads a file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "forebay/bytes.hpp"
#include "forebay/model.hpp"
#include "forebay/status.hpp"

#pragma GCC visibility push(default)
namespace forebay {

// The line as a user writes it: a size, or a share of what machine or cgroup allows.
struct LineSetting {
  Bytes bytes;
  std::optional<double> fraction;  // if set, bytes does not count
};

// Where a value came from.
struct ConfigOrigin {
  enum class Source { built_in, file, flag };
  Source source = Source::built_in;
  std::string where = "default";  // "default", "config.yaml:7", "--seed"
};

// Every setting, typed and checked. A new Config holds the schema's defaults; what a
// setting means, its unit and its range stand in the schema.
struct Config {
  Config();

  LineSetting line;  // keys line and max_memory_gb
  double soft = 0;
  double critical = 0;
  std::string model;  // empty: the default model
  KvType kv_type = KvType::f16;
  std::uint32_t batch_tokens = 0;
  std::optional<std::uint32_t> max_cache_tokens;
  std::optional<std::uint32_t> max_parallel_tokens;

  std::string prompt, prompt_file;  // empty: not given
  std::uint32_t max_tokens = 0;
  double selection_threshold = 0;
  std::uint64_t seed = 0;
  std::optional<std::uint32_t> threads;
  bool chat = false;
  std::uint32_t log_every = 0;

  std::optional<std::uint32_t> context_tokens, parallel;
  std::optional<std::uint32_t> layers, heads, kv_heads, head_dim, embedding, feed_forward;
  std::optional<std::uint32_t> vocabulary;
  std::optional<Bytes> weights;

  std::string trace, chart;  // empty: not given
  std::vector<std::string> pools;
  std::string device;
  std::vector<LineSetting> capacities;  // of the device, or of the caches; empty: not given
  bool touch = false;
  std::uint32_t repeat = 0;
  std::vector<std::string> policies;
  std::string objective;
  bool ignore_size = false;
  bool curve = false;

  std::optional<std::uint32_t> pid;
  bool publish = false;
  std::string publish_directory;  // empty: the one of PublishOptions
  std::uint32_t interval = 0;     // milliseconds
  bool once = false;

  std::string recording;  // empty: not given
  std::uint32_t top = 0;
  std::string snapshot_source, out, suppressions;  // empty: not given
  std::uint32_t older_than = 0;                    // seconds
  std::vector<std::string> snapshots, exports;

  bool json = false;
  bool verbose = false;

  // Where the value of a key came from. "line" and "max_memory_gb" are one setting.
  const ConfigOrigin& origin(std::string_view key) const;
  bool given(std::string_view key) const {
    return origin(key).source != ConfigOrigin::Source::built_in;
  }

 private:
  friend class ConfigBuilder;
  std::map<std::string, ConfigOrigin, std::less<>> origins_;  // of keys that were given
};

// How the text of a value is read. Ranges are part of the kind, but for count.
enum class OptionKind {
  line,       // a size, or a share as "80%"
  gigabytes,  // a number; 1 GB = 2^30 bytes here, as in TEMPO
  size,       // "91.7MiB"
  sizes,      // sizes, or shares as "10%"; several with commas
  fraction,   // a number above 0 and at most 1
  count,      // a whole number in [least, most]
  text,
  list,  // a text that may be given several times on the command line, once in a file
  path,
  choice,  // one of `choices`
  toggle,  // true or false; as a flag, without a value
};

// Commands that a setting belongs to, as a set of bits.
using CommandSet = unsigned;
inline constexpr CommandSet kGenerate = 1;
inline constexpr CommandSet kPlan = 2;
inline constexpr CommandSet kReplayAlloc = 4;
inline constexpr CommandSet kTop = 8;
inline constexpr CommandSet kReport = 128;
inline constexpr CommandSet kSnapshot = 16;
inline constexpr CommandSet kLeaks = 32;
inline constexpr CommandSet kDiff = 64;
inline constexpr CommandSet kReplayCache = 256;

using ConfigField =
    std::variant<LineSetting Config::*, double Config::*, std::uint32_t Config::*,
                 std::uint64_t Config::*, std::optional<std::uint32_t> Config::*,
                 std::optional<Bytes> Config::*, std::string Config::*, bool Config::*,
                 KvType Config::*, std::vector<std::string> Config::*,
                 std::vector<LineSetting> Config::*>;

// One setting.
struct ConfigOption {
  std::string_view key;   // in YAML: "max_memory_gb"
  std::string_view flag;  // on the command line: "--max-memory-gb"
  OptionKind kind;
  CommandSet commands;
  ConfigField field;
  std::string_view section;           // of the help where it stands: "memory"
  std::string_view default_text;      // as a user would write it; "auto" or "" = not set
  std::string_view help;              // one line, with the unit
  std::string_view argument;          // what help calls the value: "TOKENS"; empty for a toggle
  std::uint64_t least = 0, most = 0;  // of a count
  std::span<const std::string_view> choices{};  // of a choice
};

// The table, in the order of the help.
std::span<const ConfigOption> config_schema() noexcept;
// The setting of that key; null if there is none.
const ConfigOption* find_option(std::string_view key) noexcept;
// What a value may be, in words: "a number above 0 and at most 1".
std::string allowed_values(const ConfigOption& option);

// A flag as it was given: the key of its setting and the text of its value.
struct FlagValue {
  std::string key;
  std::string text;
};

inline constexpr Bytes kMaxConfigFile{1ULL << 20};

// Defaults, then the file (empty path: none), then the flags.
// Errors: not_found, io_error (the file); invalid_argument, in one line that names file
// and line or the flag, the key, the value and what is allowed.
Result<Config> load_config(const std::filesystem::path& file, std::span<const FlagValue> flags);
// The same from a text in memory; `source` is its name in errors.
Result<Config> parse_config(std::string_view yaml, const std::string& source,
                            std::span<const FlagValue> flags = {});

// The candidate that `word` is most likely a misspelling of: the least edit distance, if
// it is at most a third of the word's length. For "did you mean".
std::optional<std::string_view> closest_match(std::string_view word,
                                              std::span<const std::string_view> candidates);

// Text from outside as it may stand in a one-line message: control characters escaped,
// cut after 60 characters.
std::string printable(std::string_view text);

// Whether `text` is UTF-8 without overlong forms, surrogates or NUL.
bool is_valid_utf8_text(std::string_view text) noexcept;

}  // namespace forebay
#pragma GCC visibility pop
