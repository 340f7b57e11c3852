// Feeds arbitrary bytes to the GGUF reader: it must answer with a shape that makes sense or
// with one clear line, and nothing else.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "forebay/model.hpp"

namespace {

void demand(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "gguf_fuzz: %s\n", what);
  std::abort();
}

bool is_one_line(const std::string& text) {
  for (const char c : text) {
    if (c < ' ' || c > '~') return false;
  }
  return !text.empty();
}

void check(const forebay::Result<forebay::ModelShape>& shape, std::uint64_t file_size) {
  using forebay::Code;
  if (!shape) {
    const Code code = shape.status().code();
    demand(
        code == Code::corrupt_data || code == Code::unsupported || code == Code::invalid_argument,
        "an error of an unexpected kind");
    demand(is_one_line(shape.status().message()), "an error that is not one printable line");
    demand(shape.status().message().starts_with("fuzz: "), "an error without the file's name");
    demand(shape.status().message().size() < 512, "an error that goes on and on");
    return;
  }
  demand(shape->layers > 0 && shape->heads > 0 && shape->kv_heads > 0, "a shape with zeros");
  demand(shape->head_dim_k > 0 && shape->head_dim_v > 0, "heads without elements");
  demand(shape->embedding > 0 && shape->vocabulary > 0, "a shape with zeros");
  demand(shape->weights.count() <= file_size, "more weights than file");
  demand(!forebay::kv_bytes_per_token(*shape, forebay::KvType::f16, forebay::KvType::f16)
              .is_unlimited(),
         "KV bytes that overflow");
  forebay::PlanRequest request;
  request.shape = *shape;
  request.line = forebay::Bytes{1ULL << 30};
  const auto plan = forebay::plan_tokens(request);  // any answer, but no crash
  if (plan) demand(plan->fits == (plan->need.total() <= request.line), "a plan that lies");
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer calls it by this name
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes{reinterpret_cast<const char*>(data), size};
  check(forebay::parse_gguf_shape(bytes, size, "fuzz"), size);
  // The same header in front of weights that are not there to be read.
  const std::uint64_t larger = size + (1ULL << 33);
  check(forebay::parse_gguf_shape(bytes, larger, "fuzz"), larger);
  return 0;
}
