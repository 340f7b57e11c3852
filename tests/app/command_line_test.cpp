#include "command_line.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>

#include "help.hpp"

namespace forebay::app {
namespace {

using testing::HasSubstr;
using Wants = CommandLine::Wants;

CommandLine parsed(const std::vector<std::string>& arguments) {
  const Result<CommandLine> line = parse_command_line(arguments);
  EXPECT_TRUE(line.ok()) << line.status().message();
  return line.ok() ? *line : CommandLine{};
}

std::string refused(const std::vector<std::string>& arguments) {
  const Result<CommandLine> line = parse_command_line(arguments);
  EXPECT_EQ(line.status().code(), Code::invalid_argument);
  return line.status().message();
}

// The words of a command's name, as they are typed.
std::vector<std::string> words_of(const Command& command) {
  std::istringstream stream{std::string{command.name}};
  return {std::istream_iterator<std::string>{stream}, {}};
}

TEST(CommandLine, TakesEveryFlagOfEachCommand) {
  for (const Command& command : commands()) {
    for (const ConfigOption& option : config_schema()) {
      std::vector<std::string> arguments = words_of(command);
      arguments.emplace_back(option.flag);
      if (option.kind != OptionKind::toggle) arguments.emplace_back("value");
      if ((option.commands & command.bit) == 0) {
        EXPECT_THAT(refused(arguments), HasSubstr("not a flag of"));
        continue;
      }
      const CommandLine line = parsed(arguments);
      ASSERT_EQ(line.flags.size(), 1U) << option.flag;
      EXPECT_EQ(line.flags[0].key, option.key);
      EXPECT_EQ(line.flags[0].text, option.kind == OptionKind::toggle ? "true" : "value");
    }
  }
}

TEST(CommandLine, TakesValuesBehindAnEqualsSign) {
  const CommandLine line = parsed({"generate", "--prompt=a=b c", "--json=false"});
  ASSERT_EQ(line.flags.size(), 2U);
  EXPECT_EQ(line.flags[0].text, "a=b c");
  EXPECT_EQ(line.flags[1].text, "false");
}

TEST(CommandLine, TakesWhateverFollowsAFlagAsItsValue) {
  EXPECT_EQ(parsed({"generate", "--prompt", "--json"}).flags[0].text, "--json");
  EXPECT_EQ(parsed({"generate", "--prompt", "-"}).flags[0].text, "-");
  EXPECT_EQ(parsed({"generate", "--prompt", ""}).flags[0].text, "");
}

TEST(CommandLine, ReadsADashAsStandardInput) {
  const CommandLine line = parsed({"generate", "--seed", "1", "-"});
  ASSERT_EQ(line.flags.size(), 2U);
  EXPECT_EQ(line.flags[1].key, "prompt_file");
  EXPECT_EQ(line.flags[1].text, "-");
}

TEST(CommandLine, TakesAWordForTheOperandOfItsCommand) {
  const CommandLine line = parsed({"replay", "alloc", "a.csv", "--touch"});
  EXPECT_EQ(line.command->name, "replay alloc");
  ASSERT_EQ(line.flags.size(), 2U);
  EXPECT_EQ(line.flags[1].key, "trace");
  EXPECT_EQ(line.flags[1].text, "a.csv");
  EXPECT_EQ(parsed({"replay", "alloc", "plan"}).flags[0].text, "plan");
  EXPECT_THAT(refused({"plan", "a.csv"}), HasSubstr("a.csv: not expected"));
  EXPECT_THAT(refused({"replay", "alloc", "-"}), HasSubstr("-: unknown flag"));
}

TEST(CommandLine, KnowsGroupsOfCommands) {
  EXPECT_EQ(parsed({"replay", "--help"}).group, "replay");
  EXPECT_EQ(parsed({"replay", "--help"}).command, nullptr);
  EXPECT_EQ(parsed({"replay", "alloc", "--help"}).command->name, "replay alloc");
  EXPECT_EQ(refused({"replay"}), "replay: which one? See 'forebay replay --help'");
  EXPECT_EQ(refused({"replay", "cash"}),
            "replay cash: unknown command; did you mean 'replay cache'?");
  EXPECT_EQ(refused({"replay", "money"}), "replay money: unknown command; see 'forebay --help'");
  EXPECT_EQ(refused({"replya"}), "replya: unknown command; did you mean 'replay'?");
}

TEST(CommandLine, LeavesRepeatedFlagsToTheConfiguration) {
  EXPECT_EQ(parsed({"plan", "--line", "1GiB", "--line", "2GiB"}).flags.size(), 2U);
  EXPECT_EQ(parsed({"plan", "--json", "--json"}).flags.size(), 1U);  // says the same twice
}

TEST(CommandLine, FindsTheConfigurationFile) {
  EXPECT_EQ(parsed({"plan", "--config", "a b.yaml"}).config_file, "a b.yaml");
  EXPECT_EQ(refused({"plan", "--config", "a", "--config", "b"}),
            "--config: given twice; allowed: once");
  EXPECT_THAT(refused({"plan", "--config", ""}), HasSubstr("an empty value is not allowed"));
}

TEST(CommandLine, KnowsWhatIsWanted) {
  EXPECT_EQ(parsed({"--version"}).wants, Wants::version);
  EXPECT_EQ(parsed({"--help"}).wants, Wants::help);
  EXPECT_EQ(parsed({"--help"}).command, nullptr);
  EXPECT_EQ(parsed({"plan", "-h"}).wants, Wants::help);
  EXPECT_EQ(parsed({"plan", "-h"}).command->name, "plan");
  EXPECT_EQ(parsed({"plan"}).wants, Wants::run);
}

TEST(CommandLine, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(refused({}), "no command given; see 'forebay --help'");
  EXPECT_EQ(refused({"--versoin"}), "--versoin: unknown flag; did you mean '--version'?");
  EXPECT_EQ(refused({"pln"}), "pln: unknown command; did you mean 'plan'?");
  EXPECT_EQ(refused({"plan", "--seeed", "1"}), "--seeed: unknown flag; see 'forebay plan --help'");
  EXPECT_EQ(refused({"plan", "-x"}), "-x: unknown flag; see 'forebay plan --help'");
}

// docs/cli.md carries the table of the schema. FOREBAY_UPDATE_DOCS=1 writes it anew.
TEST(Documentation, CarriesTheTableOfTheSchema) {
  const char* const begin = "<!-- settings: begin -->\n";
  const char* const end = "<!-- settings: end -->";
  std::ifstream in{FOREBAY_CLI_DOCUMENT};
  std::string page{std::istreambuf_iterator<char>{in}, {}};
  const auto from = page.find(begin);
  const auto to = page.find(end);
  ASSERT_NE(from, std::string::npos);
  ASSERT_NE(to, std::string::npos);
  const auto start = from + std::string_view{begin}.size();
  if (std::getenv("FOREBAY_UPDATE_DOCS") != nullptr) {
    page.replace(start, to - start, settings_markdown());
    std::ofstream{FOREBAY_CLI_DOCUMENT} << page;
    return;
  }
  EXPECT_EQ(page.substr(start, to - start), settings_markdown())
      << "run app_test with FOREBAY_UPDATE_DOCS=1";
}

TEST(Help, BreaksLinesAtTheWidthAndKeepsEveryWord) {
  const Command& plan = commands()[1];
  const auto words = [](std::string text) {
    std::istringstream stream{std::move(text)};
    return std::vector<std::string>{std::istream_iterator<std::string>{stream}, {}};
  };
  EXPECT_EQ(words(command_help(plan, 60)), words(command_help(plan, 400)));
  const std::string narrow = command_help(plan, 60);
  std::istringstream rows{narrow.substr(narrow.find("\nmemory\n"))};
  for (std::string row; std::getline(rows, row);) {
    EXPECT_TRUE(row.size() <= 60U || row.starts_with("  0 done")) << row;
  }
}

}  // namespace
}  // namespace forebay::app
