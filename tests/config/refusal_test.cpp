// Each refusal, in its exact words: they are part of the interface.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "forebay/config.hpp"

namespace forebay {
namespace {

struct Case {
  std::string name;
  std::string yaml;
  std::vector<FlagValue> flags;
  std::string message;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class ConfigRefusal : public testing::TestWithParam<Case> {};

TEST_P(ConfigRefusal, SaysWhereWhatAndWhatIsAllowed) {
  const Result<Config> config = parse_config(GetParam().yaml, "config.yaml", GetParam().flags);
  ASSERT_FALSE(config.ok());
  EXPECT_EQ(config.status().code(), Code::invalid_argument);
  EXPECT_EQ(config.status().message(), GetParam().message);
}

const std::vector<Case> kCases{
    {"UnknownKeyNearAnother",
     "seed: 1\nmax_memroy_gb: 3\n",
     {},
     "config.yaml:2: max_memroy_gb: unknown key; did you mean 'max_memory_gb'?"},
    {"ThresholdAboveOne",
     "\n\nselection_threshold: 1.7\n",
     {},
     "config.yaml:3: selection_threshold: 1.7 is not allowed; "
     "allowed: a number above 0 and at most 1"},
    {"ThresholdZero",
     "selection_threshold: 0",
     {},
     "config.yaml:1: selection_threshold: 0 is not allowed; "
     "allowed: a number above 0 and at most 1"},
    {"ThresholdNotANumber",
     "selection_threshold: .nan",
     {},
     "config.yaml:1: selection_threshold: .nan is not allowed; "
     "allowed: a number above 0 and at most 1"},
    {"FlagOutOfRange",
     "",
     {{"selection_threshold", "nan"}},
     "--selection-threshold: nan is not allowed; allowed: a number above 0 and at most 1"},
    {"CountWithText",
     "",
     {{"max_tokens", "12x"}},
     "--max-tokens: 12x is not allowed; allowed: a whole number from 1 to 16777216"},
    {"CountNegative",
     "max_tokens: -1",
     {},
     "config.yaml:1: max_tokens: -1 is not allowed; allowed: a whole number from 1 to 16777216"},
    {"CountFraction",
     "max_tokens: 1.5",
     {},
     "config.yaml:1: max_tokens: 1.5 is not allowed; allowed: a whole number from 1 to 16777216"},
    {"CountAboveItsRange",
     "max_parallel_tokens: 256",
     {},
     "config.yaml:1: max_parallel_tokens: 256 is not allowed; "
     "allowed: a whole number from 1 to 255, or auto"},
    {"CountBeyondSixtyFourBits",
     "seed: 18446744073709551616",
     {},
     "config.yaml:1: seed: 18446744073709551616 is not allowed; "
     "allowed: a whole number from 0 to 18446744073709551615"},
    {"NumberInQuotes",
     "seed: \"7\"",
     {},
     "config.yaml:1: seed: \"7\" in quotes is not allowed; "
     "allowed: a whole number from 0 to 18446744073709551615"},
    {"EmptyNumber",
     "seed:\n",
     {},
     "config.yaml:1: seed: an empty value is not allowed; "
     "allowed: a whole number from 0 to 18446744073709551615"},
    {"EmptyText",
     "prompt: ''",
     {},
     "config.yaml:1: prompt: an empty value is not allowed; allowed: text that is not empty"},
    {"EmptyFlag",
     "",
     {{"model", ""}},
     "--model: an empty value is not allowed; allowed: the path of a file"},
    {"GigabytesWithUnit",
     "max_memory_gb: 36GiB",
     {},
     "config.yaml:1: max_memory_gb: 36GiB is not allowed; "
     "allowed: a number above 0 and at most 1048576, in GB of 2^30 bytes"},
    {"GigabytesZero",
     "max_memory_gb: 0",
     {},
     "config.yaml:1: max_memory_gb: 0 is not allowed; "
     "allowed: a number above 0 and at most 1048576, in GB of 2^30 bytes"},
    {"GigabytesBeyondReason",
     "",
     {{"max_memory_gb", "1e9"}},
     "--max-memory-gb: 1e9 is not allowed; "
     "allowed: a number above 0 and at most 1048576, in GB of 2^30 bytes"},
    {"LineWithoutSense",
     "line: big",
     {},
     "config.yaml:1: line: big is not allowed; "
     "allowed: a size as 36GiB, or a share of what machine or cgroup allows as 80%"},
    {"LineAboveAllThereIs",
     "line: 101%",
     {},
     "config.yaml:1: line: 101% is not allowed; "
     "allowed: a size as 36GiB, or a share of what machine or cgroup allows as 80%"},
    {"Choice",
     "kv_type: q5_0",
     {},
     "config.yaml:1: kv_type: q5_0 is not allowed; allowed: f16, bf16, q8_0, q4_0"},
    {"Toggle", "json: yes", {}, "config.yaml:1: json: yes is not allowed; allowed: true or false"},
    {"Size",
     "",
     {{"weights", "many"}},
     "--weights: many is not allowed; allowed: a size above 0 as 512MiB or 1.5GiB"},
    {"AutoWhereThereIsNone",
     "max_tokens: auto",
     {},
     "config.yaml:1: max_tokens: auto is not allowed; allowed: a whole number from 1 to 16777216"},
    {"KeyTwice",
     "seed: 1\nsoft: 0.5\nseed: 2\n",
     {},
     "config.yaml:3: seed: given twice; first on line 1"},
    {"FlagTwice", "", {{"seed", "1"}, {"seed", "2"}}, "--seed: given twice; allowed: once"},
    {"LineUnderBothNames",
     "line: 1GiB\nmax_memory_gb: 1\n",
     {},
     "config.yaml:2: max_memory_gb: is the same setting as line, which is given too; "
     "allowed: one of them"},
    {"LineFlagUnderBothNames",
     "",
     {{"max_memory_gb", "1"}, {"line", "1GiB"}},
     "--line: is the same setting as --max-memory-gb, which is given too; allowed: one of them"},
    {"SoftAboveCritical",
     "soft: 0.96\n",
     {},
     "config.yaml:1: soft: 0.96 is not allowed; allowed: soft (0.96) at most critical (0.95)"},
    {"CriticalBelowSoft",
     "soft: 0.5\n",
     {{"critical", "0.4"}},
     "--critical: 0.4 is not allowed; allowed: soft (0.5) at most critical (0.4)"},
    {"NestedMap",
     "seed:\n  inner: 1\n",
     {},
     "config.yaml:2: seed: a map is not allowed here; allowed: one value"},
    {"NestedList",
     "seed: [1, 2]\n",
     {},
     "config.yaml:1: seed: a list is not allowed here; allowed: one value"},
    {"MapAsKey",
     "? {a: 1}\n: 2\n",
     {},
     "config.yaml:1: a map as a key, or a bracket that is not closed; allowed: a name"},
    {"KeyWithoutValue",
     "seed: 1\nmodel\n",
     {},
     "config.yaml:2: model: no value; allowed: key: value"},
    {"OpenQuote",
     "seed: 1\nprompt: \"open\n",
     {},
     "config.yaml:2: YAML syntax: a quote that is not closed"},
    {"OpenSingleQuote",
     "prompt: 'it''s\n",
     {},
     "config.yaml:1: YAML syntax: a quote that is not closed"},
    {"OpenQuoteAfterEscape",
     "# \xc3\xbc\nprompt: \"a\\\"\n",
     {},
     "config.yaml:2: YAML syntax: a quote that is not closed"},
    {"ListAtTheTop",
     "- seed\n",
     {},
     "config.yaml:1: a list is no map of settings; allowed: key: value"},
    {"ScalarAtTheTop",
     "hello\n",
     {},
     "config.yaml:1: 'hello' is no map of settings; allowed: key: value"},
    {"SecondDocument",
     "seed: 1\n---\nseed: 2\n",
     {},
     "config.yaml:2: a second document; allowed: one"},
    {"Alias",
     "prompt: &a text\nmodel: *a\n",
     {},
     "config.yaml:1: an anchor (&name); allowed: plain values"},
    {"Tag",
     "seed: !!python/object 1\n",
     {},
     "config.yaml:1: the tag 'tag:yaml.org,2002:python/object'; allowed: plain values"},
    {"EmptyKey", ": 1\n", {}, "config.yaml:1: an empty key; allowed: a name"},
    {"NotUtf8", "seed: 1\nprompt: \xff\n", {}, "config.yaml:2: not UTF-8 text"},
    {"NulByte", std::string{"seed: 1\n\0", 9}, {}, "config.yaml:2: not UTF-8 text"},
    {"FlagNotUtf8", "", {{"prompt", "\xff"}}, "--prompt: \\xff is not UTF-8 text"},
    {"KeyWithLineBreak",
     "\"a\\nb\": 1\n",
     {},
     "config.yaml:1: a\\nb: unknown key; allowed: "},  // the list is checked below
};

std::string name_of(const testing::TestParamInfo<Case>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(Each, ConfigRefusal, testing::ValuesIn(kCases.begin(), kCases.end() - 1),
                         name_of);

TEST(ConfigRefusals, ListAllKeysWhenNoneIsNear) {
  const Status status = parse_config(kCases.back().yaml, "config.yaml").status();
  EXPECT_THAT(status.message(), testing::StartsWith(kCases.back().message));
  for (const ConfigOption& option : config_schema()) {
    EXPECT_THAT(status.message(), testing::HasSubstr(std::string{option.key}));
  }
}

TEST(ConfigRefusals, NameTheLineOfASyntaxError) {
  const Status status = parse_config("seed: 1\n\tsoft: 1\n", "config.yaml").status();
  EXPECT_EQ(status.code(), Code::invalid_argument);
  EXPECT_THAT(status.message(), testing::MatchesRegex("config\\.yaml:2: YAML syntax: .+"));
}

TEST(ConfigRefusals, CutLongValues) {
  const std::string yaml = "seed: " + std::string(100'000, '9');
  EXPECT_LT(parse_config(yaml, "config.yaml").status().message().size(), 200U);
}

TEST(ConfigRefusals, ComeBeforeDeepNestingIsFollowed) {
  const std::string deep = "seed: " + std::string(200'000, '[');
  EXPECT_EQ(parse_config(deep, "config.yaml").status().message(),
            "config.yaml:1: seed: a list is not allowed here; allowed: one value");
  const std::string keys = std::string(200'000, '{');
  EXPECT_FALSE(parse_config(keys, "config.yaml").ok());
}

TEST(ConfigRefusals, ComeBeforeAliasesAreExpanded) {
  const std::string bomb = "a: &a [x, x, x, x]\nb: &b [*a, *a, *a, *a]\nc: &c [*b, *b, *b, *b]\n";
  EXPECT_THAT(parse_config(bomb, "config.yaml").status().message(),
              testing::StartsWith("config.yaml:1: "));
}

}  // namespace
}  // namespace forebay
