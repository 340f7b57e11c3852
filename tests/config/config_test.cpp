#include "forebay/config.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>

namespace forebay {
namespace {

using namespace literals;
using Source = ConfigOrigin::Source;

Config parsed(std::string_view yaml, std::vector<FlagValue> flags = {}) {
  Result<Config> config = parse_config(yaml, "config.yaml", flags);
  EXPECT_TRUE(config.ok()) << config.status().message();
  return config.ok() ? *config : Config{};
}

TEST(ConfigSchema, NamesFlagsAfterKeys) {
  for (const ConfigOption& option : config_schema()) {
    std::string flag = "--" + std::string{option.key};
    std::replace(flag.begin(), flag.end(), '_', '-');
    EXPECT_EQ(option.flag, flag);
  }
}

TEST(ConfigSchema, NamesEachSettingOnceAndDescribesIt) {
  std::set<std::string_view> keys;
  for (const ConfigOption& option : config_schema()) {
    EXPECT_TRUE(keys.insert(option.key).second) << option.key;
    EXPECT_FALSE(option.help.empty()) << option.key;
    EXPECT_EQ(option.help.find('\n'), std::string_view::npos) << option.key;
    EXPECT_NE(option.commands, 0U) << option.key;
    EXPECT_FALSE(allowed_values(option).empty()) << option.key;
    EXPECT_EQ(option.argument.empty(), option.kind == OptionKind::toggle) << option.key;
    EXPECT_EQ(option.kind == OptionKind::count, option.least < option.most) << option.key;
    EXPECT_EQ(option.kind == OptionKind::choice, !option.choices.empty()) << option.key;
    EXPECT_EQ(find_option(option.key), &option);
  }
  EXPECT_EQ(find_option("no_such_key"), nullptr);
}

TEST(ConfigSchema, OffersEveryKvType) {
  for (const std::string_view name : find_option("kv_type")->choices) {
    const Config config = parsed("kv_type: " + std::string{name});
    EXPECT_EQ(to_string(config.kv_type), name);
  }
}

TEST(Config, StartsWithTheDefaultsOfTheSchema) {
  const Config config;
  EXPECT_EQ(config.line.bytes, 36_GiB);
  EXPECT_FALSE(config.line.fraction);
  EXPECT_EQ(config.soft, 0.85);
  EXPECT_EQ(config.critical, 0.95);
  EXPECT_EQ(config.max_tokens, 100U);
  EXPECT_EQ(config.selection_threshold, 0.25);
  EXPECT_EQ(config.seed, 42U);
  EXPECT_EQ(config.kv_type, KvType::f16);
  EXPECT_EQ(config.batch_tokens, 128U);
  EXPECT_FALSE(config.max_cache_tokens);
  EXPECT_FALSE(config.max_parallel_tokens);
  EXPECT_FALSE(config.json);
  EXPECT_EQ(config.origin("seed").source, Source::built_in);
  EXPECT_EQ(config.origin("seed").where, "default");
}

TEST(Config, ReadsATempoStyleFile) {
  const Config config = parsed(
      "# TEMPO\n"
      "max_memory_gb: 2.5\n"
      "max_parallel_tokens: 8\n"
      "max_cache_tokens: null\n"
      "selection_threshold: 0.1   # a comment\n"
      "prompt: \"Once upon: a time\"\n"
      "chat: true\n"
      "seed: 18446744073709551615\n");
  EXPECT_EQ(config.line.bytes, 2560_MiB);
  EXPECT_EQ(config.max_parallel_tokens, 8U);
  EXPECT_FALSE(config.max_cache_tokens);
  EXPECT_EQ(config.selection_threshold, 0.1);
  EXPECT_EQ(config.prompt, "Once upon: a time");
  EXPECT_TRUE(config.chat);
  EXPECT_EQ(config.seed, 18446744073709551615U);
  EXPECT_EQ(config.origin("prompt").where, "config.yaml:6");
  EXPECT_EQ(config.origin("prompt").source, Source::file);
  EXPECT_FALSE(config.given("max_cache_tokens"));
}

TEST(Config, ReadsJson) {
  const Config config =
      parsed("{\n\t\"max_tokens\": 7,\n\t\"verbose\": true, \"model\": \"a b.gguf\"\n}\n");
  EXPECT_EQ(config.max_tokens, 7U);
  EXPECT_TRUE(config.verbose);
  EXPECT_EQ(config.model, "a b.gguf");
  EXPECT_EQ(config.origin("max_tokens").where, "config.yaml:2");
}

TEST(Config, ReadsAnEmptyFileAsDefaults) {
  EXPECT_EQ(parsed("").seed, 42U);
  EXPECT_EQ(parsed("# nothing\n").seed, 42U);
  EXPECT_EQ(parsed("---\n").seed, 42U);
}

TEST(Config, ReadsQuotesOfEitherKind) {
  EXPECT_EQ(parsed("prompt: 'it''s \"ü\"'\n").prompt, "it's \"ü\"");
  EXPECT_EQ(parsed("{prompt: \"say \\\"hi\\\"\", seed: 3}").prompt, "say \"hi\"");
  EXPECT_EQ(parsed("prompt: \"two\n  lines\"").prompt, "two lines");
}

TEST(Config, ReadsAPromptOfSeveralLines) {
  EXPECT_EQ(parsed("prompt: |\n  one\n  two\n").prompt, "one\ntwo\n");
}

TEST(Config, ReadsTheLineAsASizeOrAShare) {
  EXPECT_EQ(parsed("line: 512MiB").line.bytes, 512_MiB);
  EXPECT_EQ(parsed("line: 80%").line.fraction, 0.8);
  EXPECT_EQ(parsed("line: \"12.5%\"").line.fraction, 0.125);
  EXPECT_EQ(parsed("", {{"line", "100%"}}).line.fraction, 1.0);
}

TEST(Config, LetsAFlagWinOverTheFile) {
  const Config config = parsed("seed: 1\nmax_tokens: 5\n", {{"seed", "2"}});
  EXPECT_EQ(config.seed, 2U);
  EXPECT_EQ(config.max_tokens, 5U);
  EXPECT_EQ(config.origin("seed").where, "--seed");
  EXPECT_EQ(config.origin("seed").source, Source::flag);
}

TEST(Config, CollectsAListAndLetsItsFlagsReplaceTheFile) {
  EXPECT_EQ(parsed("pool: tight").pools, (std::vector<std::string>{"tight"}));
  const Config config = parsed("pool: tight", {{"pool", "a:ttl=1s"}, {"pool", "default"}});
  EXPECT_EQ(config.pools, (std::vector<std::string>{"a:ttl=1s", "default"}));
  EXPECT_EQ(config.origin("pool").where, "--pool");
}

TEST(Config, LetsALineFlagWinOverTheOtherNameInTheFile) {
  const Config config = parsed("line: 50%\n", {{"max_memory_gb", "1"}});
  EXPECT_EQ(config.line.bytes, 1_GiB);
  EXPECT_FALSE(config.line.fraction);
  EXPECT_EQ(config.origin("line").where, "--max-memory-gb");
  EXPECT_EQ(config.origin("max_memory_gb").where, "--max-memory-gb");
}

TEST(Config, TakesAutoBackFromTheFile) {
  EXPECT_FALSE(parsed("max_cache_tokens: 9\n", {{"max_cache_tokens", "auto"}}).max_cache_tokens);
  EXPECT_FALSE(parsed("threads: \"auto\"\n").threads);
}

TEST(Config, LeavesASettingAloneThatTheFileLeavesEmpty) {
  const Config config = parsed("max_memory_gb: 2\nline:\nmodel: ~\n");
  EXPECT_EQ(config.line.bytes, 2_GiB);
  EXPECT_EQ(config.origin("line").where, "config.yaml:1");
}

class ConfigFile : public testing::Test {
 protected:
  ConfigFile() : path_(std::filesystem::path{testing::TempDir()} / "forebay_config_test.yaml") {}
  ~ConfigFile() override { std::filesystem::remove(path_); }
  void write(std::string_view text) { std::ofstream{path_} << text; }
  std::filesystem::path path_;
};

TEST_F(ConfigFile, IsReadFromDisk) {
  write("seed: 5\n");
  const Result<Config> config = load_config(path_, {});
  ASSERT_TRUE(config.ok()) << config.status().message();
  EXPECT_EQ(config->seed, 5U);
  EXPECT_EQ(config->origin("seed").where, path_.string() + ":1");
}

TEST_F(ConfigFile, NeedNotBeGiven) { EXPECT_TRUE(load_config({}, {}).ok()); }

TEST_F(ConfigFile, IsNamedWhenItIsMissing) {
  const Status status = load_config(path_, {}).status();
  EXPECT_EQ(status.code(), Code::not_found);
  EXPECT_EQ(status.message(), path_.string() + ": no such configuration file");
}

TEST_F(ConfigFile, MayNotBeADirectory) {
  const Status status = load_config(testing::TempDir(), {}).status();
  EXPECT_EQ(status.code(), Code::invalid_argument);
  EXPECT_THAT(status.message(), testing::HasSubstr("is a directory"));
}

TEST_F(ConfigFile, MayHoldOneMebibyteAndNoByteMore) {
  std::string text = "seed: 5\n#";
  text.resize(kMaxConfigFile.count(), 'x');
  write(text);
  EXPECT_TRUE(load_config(path_, {}).ok());
  write(text + "x");
  const Status status = load_config(path_, {}).status();
  EXPECT_EQ(status.message(),
            path_.string() + ": too large for a configuration; allowed: at most 1 MiB");
}

}  // namespace
}  // namespace forebay
