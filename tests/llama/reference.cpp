#include "llama/reference.hpp"

#include <llama.h>

#include <algorithm>
#include <memory>
#include <stdexcept>

namespace forebay::llama::testing {
namespace {

using ModelPtr = std::unique_ptr<llama_model, decltype(&llama_model_free)>;
using ContextPtr = std::unique_ptr<llama_context, decltype(&llama_free)>;

void decode_or_throw(llama_context* context, std::int32_t* tokens, std::int32_t count) {
  if (llama_decode(context, llama_batch_get_one(tokens, count)) != 0)
    throw std::runtime_error("llama_decode failed");
}

}  // namespace

Reference decode_greedily(const std::filesystem::path& file, const std::string& text,
                          std::size_t count, std::uint32_t context_tokens) {
  const ModelPtr model(llama_model_load_from_file(file.c_str(), llama_model_default_params()),
                       &llama_model_free);
  if (model == nullptr) throw std::runtime_error("no model");
  llama_context_params params = llama_context_default_params();
  params.n_ctx = context_tokens;
  params.n_threads = 1;
  params.n_threads_batch = 1;
  const ContextPtr context(llama_init_from_model(model.get(), params), &llama_free);
  if (context == nullptr) throw std::runtime_error("no context");
  const llama_vocab* vocab = llama_model_get_vocab(model.get());
  const auto words = static_cast<std::size_t>(llama_vocab_n_tokens(vocab));

  Reference result;
  result.prompt.resize(text.size() + 8);
  const std::int32_t length = llama_tokenize(
      vocab, text.data(), static_cast<std::int32_t>(text.size()), result.prompt.data(),
      static_cast<std::int32_t>(result.prompt.size()), true, true);
  result.prompt.resize(static_cast<std::size_t>(length));
  for (std::size_t done = 0; done < result.prompt.size(); done += 512)
    decode_or_throw(
        context.get(), result.prompt.data() + done,
        static_cast<std::int32_t>(std::min<std::size_t>(512, result.prompt.size() - done)));
  const float* logits = llama_get_logits_ith(context.get(), -1);
  result.logits.assign(logits, logits + words);
  while (result.generated.size() < count) {
    logits = llama_get_logits_ith(context.get(), -1);
    std::int32_t next =
        static_cast<std::int32_t>(std::max_element(logits, logits + words) - logits);
    result.generated.push_back(next);
    decode_or_throw(context.get(), &next, 1);
  }
  return result;
}

}  // namespace forebay::llama::testing
