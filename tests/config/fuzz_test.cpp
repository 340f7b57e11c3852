// Mutated configurations: whatever the bytes, a Config or one line that says why not.
#include <gtest/gtest.h>

#include <random>

#include "forebay/config.hpp"

namespace forebay {
namespace {

const std::vector<std::string> kSeeds{
    "max_memory_gb: 2.5\nseed: 7\nprompt: \"a: b\"\nchat: true\nkv_type: q8_0\n",
    "{\"line\": \"80%\", \"max_tokens\": 3, \"model\": null}",
    "# c\nprompt: |\n  one\n  two\nselection_threshold: 0.5 # c\nmax_cache_tokens: auto\n",
    "? seed\n: 1\nprompt: >-\n  folded\n  text\n",
    "%YAML 1.2\n---\nseed: !!int 1\nmodel: &a x\nprompt: *a\n...\n",
};
const std::vector<std::string> kTokens{
    ": ",    "\n", "- ", "[", "]", "{",     "}",  "&a ",  "*a", "!!x",  "? ", "|",
    ">",     "\"", "'",  "#", "%", "---\n", "\t", "\xff", "~",  "<<: ", "\\", "\xef\xbb\xbf",
    "1e999", "..."};

std::string mutated(std::mt19937& random) {
  const auto below = [&](std::size_t n) {
    return std::uniform_int_distribution<std::size_t>{0, n - 1}(random);
  };
  std::string text = kSeeds[below(kSeeds.size())];
  for (std::size_t left = 1 + below(6); left > 0; --left) {
    const std::size_t at = below(text.size() + 1);
    switch (below(4)) {
      case 0:
        text.insert(at, kTokens[below(kTokens.size())]);
        break;
      case 1:
        text.erase(at, below(5));
        break;
      case 2:
        if (at < text.size()) text[at] = static_cast<char>(below(256));
        break;
      default:
        text.insert(at, text.substr(below(text.size() + 1), below(20)));
        break;
    }
  }
  return text;
}

TEST(ConfigFuzz, MutatedTextsAreReadOrRefusedInOneLine) {
  std::mt19937 random{20240229};
  int read = 0;
  constexpr int kRounds = 20'000;
  for (int i = 0; i < kRounds; ++i) {
    const std::string text = mutated(random);
    const Result<Config> config = parse_config(text, "f.yaml");
    if (config.ok()) {
      ++read;
      EXPECT_GT(config->selection_threshold, 0) << text;
      EXPECT_LE(config->selection_threshold, 1) << text;
      EXPECT_LE(config->soft, config->critical) << text;
      continue;
    }
    const std::string& message = config.status().message();
    EXPECT_EQ(config.status().code(), Code::invalid_argument) << text;
    EXPECT_TRUE(message.starts_with("f.yaml:")) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    EXPECT_TRUE(is_valid_utf8_text(message)) << message;
  }
  // Mutations that all fail (or all pass) would test one path only.
  EXPECT_GT(read, kRounds / 100);
  EXPECT_LT(read, kRounds / 2);
}

}  // namespace
}  // namespace forebay
