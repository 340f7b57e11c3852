// generate() and its engine against llama.cpp by itself: greedy decoding, interleaved in one
// process.
//
//   llama_bench --model FILE [--tokens 128] [--repetitions 7] [--context 2048] [--smoke]
//
// Wall time decides; processor time is shown beside it, for it hardly moves when other work
// shares the machine.
//
// Each repetition makes a new context of both, reads the same prompt and times the tokens after
// it; who goes first alternates. The plain contexts are made and run while no engine of ours is
// current, so that they use llama.cpp's own allocator.
#include <llama.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "forebay/generate.hpp"
#include "forebay/llama.hpp"

namespace {

using forebay::Budget;
namespace engine = forebay::llama;

struct Options {
  std::filesystem::path model;
  unsigned tokens = 128;
  unsigned repetitions = 7;
  unsigned context = 2048;
};

constexpr const char* kPrompt =
    "<|im_start|>user\nTell me about rivers, lakes and the sea.<|im_end|>\n<|im_start|>assistant\n";

struct Run {
  std::vector<std::int32_t> tokens;
  double tokens_per_second = 0;
  double tokens_per_cpu_second = 0;
};

double cpu_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

std::int32_t most_likely(const float* logits, std::size_t count) {
  return static_cast<std::int32_t>(std::max_element(logits, logits + count) - logits);
}

// Times `count` calls of `next`, which gives the next token.
template <typename Next>
Run timed(unsigned count, Next next) {
  Run run;
  const double cpu_start = cpu_seconds();
  const auto start = std::chrono::steady_clock::now();
  while (run.tokens.size() < count) run.tokens.push_back(next());
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  run.tokens_per_second = count / took.count();
  run.tokens_per_cpu_second = count / (cpu_seconds() - cpu_start);
  return run;
}

[[noreturn]] void fail(const std::string& why) {
  std::fprintf(stderr, "llama_bench: %s\n", why.c_str());
  std::exit(1);
}

Run run_ours(const Options& options) {
  Budget weights{"weights"};
  Budget kv{"kv"};
  Budget compute{"compute"};
  Budget output{"output"};
  engine::EngineOptions load;
  load.model = options.model;
  load.run.context_tokens = options.context;
  auto loaded = engine::Engine::load(load, {weights, kv, compute, output});
  if (!loaded) fail(loaded.status().message());
  engine::Engine& ours = **loaded;
  const auto prompt = ours.tokenize(kPrompt).value();
  std::vector<engine::Row> rows;
  rows.reserve(prompt.size());
  for (const engine::Token token : prompt)
    rows.push_back({.token = token,
                    .position = static_cast<std::int32_t>(rows.size()),
                    .wants_logits = rows.size() + 1 == prompt.size()});
  ours.decode(rows).throw_if_error();
  auto position = static_cast<std::int32_t>(prompt.size());
  return timed(options.tokens, [&] {
    const std::int32_t token = most_likely(ours.logits(0).data(), ours.vocabulary());
    const engine::Row row{.token = token, .position = position++, .wants_logits = true};
    ours.decode({&row, 1}).throw_if_error();
    return token;
  });
}

// All of generate(), with budgets, softmax and stage log: timed from the prompt's end to the
// decode of the last token that the others decode too.
Run run_generate(const Options& options) {
  using Clock = std::chrono::steady_clock;
  forebay::GenerateOptions generate;
  generate.model = options.model;
  generate.prompt = kPrompt;
  generate.max_tokens = options.tokens + 1;  // the last one is not decoded
  generate.selection_threshold = 1.0;
  Clock::time_point start;
  Clock::time_point end;
  double cpu_start = 0;
  double cpu_end = 0;
  forebay::GenerateHooks hooks;
  hooks.on_stage = [&](const forebay::Stage& stage) {
    if (stage.name != "prompt done") return;
    cpu_start = cpu_seconds();
    start = Clock::now();
  };
  hooks.on_step = [&](const forebay::GenerateStep& step) {
    if (step.position + 1 != options.tokens) return;
    end = Clock::now();
    cpu_end = cpu_seconds();
  };
  const forebay::GenerateReport report = forebay::generate(generate, hooks).value();
  if (report.steps.size() <= options.tokens) fail("the model ended its text; give fewer --tokens");
  Run run;
  for (unsigned i = 0; i < options.tokens; ++i) {
    run.tokens.push_back(report.steps[i].tokens[0].token);
  }
  run.tokens_per_second = options.tokens / std::chrono::duration<double>(end - start).count();
  run.tokens_per_cpu_second = options.tokens / (cpu_end - cpu_start);
  return run;
}

Run run_plain(const Options& options) {
  const std::unique_ptr<llama_model, decltype(&llama_model_free)> model(
      llama_model_load_from_file(options.model.c_str(), llama_model_default_params()),
      &llama_model_free);
  if (model == nullptr) fail("llama.cpp cannot load the model");
  llama_context_params params = llama_context_default_params();
  params.n_ctx = options.context;
  params.n_threads = 1;
  params.n_threads_batch = 1;
  const std::unique_ptr<llama_context, decltype(&llama_free)> context(
      llama_init_from_model(model.get(), params), &llama_free);
  if (context == nullptr) fail("llama.cpp cannot make a context");
  const llama_vocab* vocab = llama_model_get_vocab(model.get());
  const auto words = static_cast<std::size_t>(llama_vocab_n_tokens(vocab));
  std::vector<llama_token> prompt(256);
  prompt.resize(static_cast<std::size_t>(
      llama_tokenize(vocab, kPrompt, static_cast<std::int32_t>(std::strlen(kPrompt)), prompt.data(),
                     static_cast<std::int32_t>(prompt.size()), true, true)));
  llama_decode(context.get(),
               llama_batch_get_one(prompt.data(), static_cast<std::int32_t>(prompt.size())));
  return timed(options.tokens, [&] {
    llama_token token = most_likely(llama_get_logits_ith(context.get(), -1), words);
    llama_decode(context.get(), llama_batch_get_one(&token, 1));
    return token;
  });
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

void print(const char* name, const std::vector<double>& values) {
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  std::printf("%-16s median %8.3f   least %8.3f   most %8.3f\n", name, median(values), *least,
              *most);
}

void compare(const char* name, const std::vector<Run>& ours, const std::vector<Run>& plain,
             double Run::*value) {
  std::vector<double> our_values;
  std::vector<double> plain_values;
  std::vector<double> ratios;
  our_values.reserve(ours.size());
  plain_values.reserve(ours.size());
  ratios.reserve(ours.size());
  for (std::size_t i = 0; i < ours.size(); ++i) {
    our_values.push_back(ours[i].*value);
    plain_values.push_back(plain[i].*value);
    ratios.push_back(our_values[i] / plain_values[i]);
  }
  print(name, our_values);
  print("    of a pair's", ratios);
  std::printf("    ratio of medians %.4f\n", median(our_values) / median(plain_values));
}

unsigned number(const char* text) {
  unsigned value = 0;
  const char* end = text + std::strlen(text);
  if (std::from_chars(text, end, value).ptr != end || value == 0)
    fail(std::string(text) + ": expected a whole number above zero");
  return value;
}

Options parse(int argc, char** argv) {
  Options options;
  if (const char* model = std::getenv("FOREBAY_TEST_MODEL")) options.model = model;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--smoke") {
      options.tokens = 4;
      options.repetitions = 1;
      continue;
    }
    if (i + 1 == argc) fail(flag + ": a value is missing, or the flag is not known");
    const char* value = argv[++i];
    if (flag == "--model") {
      options.model = value;
    } else if (flag == "--tokens") {
      options.tokens = number(value);
    } else if (flag == "--repetitions") {
      options.repetitions = number(value);
    } else if (flag == "--context") {
      options.context = number(value);
    } else {
      fail(flag + ": allowed are --model, --tokens, --repetitions, --context, --smoke");
    }
  }
  if (options.model.empty()) {
    const char* cache = std::getenv("FOREBAY_CACHE");
    const char* home = std::getenv("HOME");
    options.model = cache != nullptr
                        ? std::filesystem::path(cache)
                        : std::filesystem::path(home != nullptr ? home : "/") / ".cache/forebay";
    options.model /= "models/SmolLM2-135M-Instruct.Q4_1.gguf";
  }
  return options;
}

int run(int argc, char** argv) {
  const Options options = parse(argc, argv);
  if (!std::filesystem::exists(options.model)) {
    std::printf("no model at %s; run scripts/setup.sh or give --model\n", options.model.c_str());
    return 0;
  }
  engine::set_log_sink(nullptr);
  std::vector<Run> whole;
  std::vector<Run> ours;
  std::vector<Run> plain;
  const std::array<std::pair<Run (*)(const Options&), std::vector<Run>*>, 3> arms{
      {{run_generate, &whole}, {run_ours, &ours}, {run_plain, &plain}}};
  for (unsigned i = 0; i < options.repetitions; ++i) {
    for (unsigned arm = 0; arm < arms.size(); ++arm) {
      const auto& [run_one, results] = arms[(arm + i) % arms.size()];
      results->push_back(run_one(options));
    }
    if (ours.back().tokens != plain.back().tokens || whole.back().tokens != plain.back().tokens)
      fail("they gave different tokens");
  }
  std::printf("%s, %u tokens after the prompt, %u repetitions, 1 thread, the same tokens\n",
              engine::version().c_str(), options.tokens, options.repetitions);
  for (const auto& [unit, value] :
       {std::pair{"tokens/s", &Run::tokens_per_second},
        std::pair{"tokens/s of processor time", &Run::tokens_per_cpu_second}}) {
    std::printf("%s\n", unit);
    compare("  llama.cpp", plain, plain, value);
    compare("  engine", ours, plain, value);
    compare("  generate()", whole, plain, value);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "llama_bench: %s\n", error.what());
    return 1;
  }
}
