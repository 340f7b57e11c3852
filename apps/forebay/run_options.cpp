#include "run_options.hpp"

#include "environment.hpp"
#include "prompt.hpp"

namespace forebay::app {

Result<GenerateOptions> run_options(const Config& config) {
  auto model = model_of(config);
  if (!model.ok()) return model.status();
  auto prompt = read_prompt(config);
  if (!prompt.ok()) return prompt.status();
  GenerateOptions options;
  options.model = std::move(*model);
  options.prompt = std::move(*prompt);
  options.chat = config.chat;
  options.soft = config.soft;
  options.critical = config.critical;
  options.max_cache_tokens = config.max_cache_tokens;
  options.max_parallel_tokens = config.max_parallel_tokens;
  options.max_tokens = config.max_tokens;
  options.selection_threshold = config.selection_threshold;
  options.kv_type = config.kv_type;
  options.batch_tokens = config.batch_tokens;
  options.threads = threads_of(config);
  options.log_every = config.log_every;
  return options;
}

}  // namespace forebay::app
