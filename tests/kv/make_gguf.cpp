#include "kv/make_gguf.hpp"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <random>
#include <stdexcept>

namespace forebay::test {
namespace {

constexpr std::uint64_t kAlignment = 32;

struct Tensor {
  std::string name;
  std::vector<std::uint64_t> dimensions;
  std::uint32_t type = kTensorF32;
  std::uint64_t elements() const {
    std::uint64_t n = 1;
    for (const std::uint64_t d : dimensions) n *= d;
    return n;
  }
};

std::uint64_t bytes_of(const Tensor& tensor) {
  switch (tensor.type) {
    case kTensorF32:
      return tensor.elements() * 4;
    case kTensorF16:
      return tensor.elements() * 2;
    case kTensorQ8_0:
      return tensor.elements() / 32 * 34;
    case kTensorQ4_0:
      return tensor.elements() / 32 * 18;
    default:
      throw std::runtime_error(fmt::format("tensor type {} cannot be made", tensor.type));
  }
}

std::uint64_t padded(std::uint64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

std::vector<Tensor> tensors_of(const ModelRecipe& r) {
  const auto kv_heads = [&](std::uint32_t layer) {
    return r.kv_heads_by_layer.empty() ? r.kv_heads : r.kv_heads_by_layer[layer];
  };
  const std::uint64_t width = r.embedding;
  const std::uint64_t query = std::uint64_t{r.heads} * r.head_dim;
  std::vector<Tensor> all;
  all.push_back({"token_embd.weight", {width, r.vocabulary}, r.matrix_type});
  all.push_back({"output_norm.weight", {width}});
  if (!r.tied_embeddings) all.push_back({"output.weight", {width, r.vocabulary}, r.matrix_type});
  for (std::uint32_t layer = 0; layer < r.layers; ++layer) {
    const auto add = [&](const char* what, std::vector<std::uint64_t> dimensions) {
      const std::uint32_t type = dimensions.size() == 1 ? kTensorF32 : r.matrix_type;
      all.push_back({fmt::format("blk.{}.{}.weight", layer, what), std::move(dimensions), type});
    };
    const std::uint64_t kv = std::uint64_t{kv_heads(layer)} * r.head_dim;
    add("attn_norm", {width});
    add("attn_q", {width, query});
    add("attn_k", {width, kv});
    add("attn_v", {width, kv});
    add("attn_output", {query, width});
    add("ffn_norm", {width});
    add("ffn_gate", {width, r.feed_forward});
    add("ffn_up", {width, r.feed_forward});
    add("ffn_down", {r.feed_forward, width});
  }
  return all;
}

// A made-up word for a token id; distinct for distinct ids.
std::string word(std::uint32_t id) {
  std::string letters;
  for (std::uint32_t n = id; n > 0; n /= 26) letters += static_cast<char>('a' + n % 26);
  return letters;
}

std::string utf8(std::uint32_t code) {
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xc0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3f))};
}

// GPT-2's letter for a byte: printable bytes are themselves, the others follow from 256 on.
std::vector<std::string> byte_letters() {
  std::vector<std::string> letters;
  std::uint32_t next = 256;
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    const bool itself = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte != 0xad);
    letters.push_back(utf8(itself ? byte : next++));
  }
  return letters;
}

constexpr std::int32_t kNormal = 1, kUnknown = 2, kControl = 3, kByte = 6;

struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<std::int32_t> types;
  std::vector<std::string> merges;
  void add(std::string token, std::int32_t type) {
    tokens.push_back(std::move(token));
    types.push_back(type);
  }
};

Vocabulary sentencepiece(std::uint32_t size) {
  Vocabulary v;
  v.add("<unk>", kUnknown);
  v.add("<s>", kControl);
  v.add("</s>", kControl);
  for (int byte = 0; byte < 256; ++byte) v.add(fmt::format("<0x{:02X}>", byte), kByte);
  while (v.tokens.size() < size) {
    v.add("\xe2\x96\x81" + word(static_cast<std::uint32_t>(v.tokens.size())), kNormal);
  }
  return v;
}

Vocabulary bpe(std::uint32_t size) {
  Vocabulary v;
  v.add("<|endoftext|>", kControl);
  v.add("<|im_start|>", kControl);
  v.add("<|im_end|>", kControl);
  for (std::string& letter : byte_letters()) v.add(std::move(letter), kNormal);
  while (v.tokens.size() < size) {  // words of two pieces, so that each has a merge
    const std::string text = word(static_cast<std::uint32_t>(v.tokens.size()) + 26 * 26);
    v.merges.push_back(text.substr(0, 1) + " " + text.substr(1));
    v.add(text, kNormal);
  }
  return v;
}

void write_texts(GgufWriter& out, std::string_view key, const std::vector<std::string>& texts) {
  out.array(key, kText, texts.size());
  for (const std::string& text : texts) out.text(text);
}

struct Counted {
  GgufWriter out;
  std::uint64_t values = 0;
};

void write_tokenizer(Counted& c, const ModelRecipe& r) {
  GgufWriter& out = c.out;
  if (r.tokenizer == Tokenizer::none) {
    out.string("tokenizer.ggml.model", "no_vocab");
    c.values += 1;
    return;
  }
  if (r.vocabulary < 259)
    throw std::runtime_error("a vocabulary needs 259 tokens: 256 bytes and 3");
  const bool pieces = r.tokenizer == Tokenizer::sentencepiece;
  const Vocabulary v = pieces ? sentencepiece(r.vocabulary) : bpe(r.vocabulary);
  out.string("tokenizer.ggml.model", pieces ? "llama" : "gpt2");
  out.string("tokenizer.ggml.pre", pieces ? "default" : "smollm");
  write_texts(out, "tokenizer.ggml.tokens", v.tokens);
  out.array("tokenizer.ggml.token_type", kI32, v.types.size());
  for (const std::int32_t type : v.types) out.number32(static_cast<std::uint32_t>(type));
  out.u32("tokenizer.ggml.bos_token_id", 1);
  out.u32("tokenizer.ggml.eos_token_id", 2);
  out.u32("tokenizer.ggml.unknown_token_id", 0);
  if (pieces) {
    out.array("tokenizer.ggml.scores", kF32, v.tokens.size());
    for (std::size_t i = 0; i < v.tokens.size(); ++i) out.real(-static_cast<float>(i));
  } else {
    write_texts(out, "tokenizer.ggml.merges", v.merges);
  }
  c.values += 8;
}

Counted write_values(const ModelRecipe& r) {
  Counted c;
  GgufWriter& out = c.out;
  const std::string a = r.architecture + ".";
  out.string("general.architecture", r.architecture);
  out.string("general.name", r.name);
  out.u32(a + "block_count", r.layers);
  out.u32(a + "context_length", r.context);
  out.u32(a + "embedding_length", r.embedding);
  out.u32(a + "feed_forward_length", r.feed_forward);
  out.u32(a + "attention.head_count", r.heads);
  out.u32(a + "attention.key_length", r.head_dim);
  out.u32(a + "attention.value_length", r.head_dim);
  out.u32(a + "rope.dimension_count", r.head_dim);
  out.f32(a + "attention.layer_norm_rms_epsilon", 1e-5F);
  out.u32(a + "vocab_size", r.vocabulary);
  c.values = 13;
  if (r.kv_heads_by_layer.empty()) {
    out.u32(a + "attention.head_count_kv", r.kv_heads);
  } else {
    out.array(a + "attention.head_count_kv", kU32, r.kv_heads_by_layer.size());
    for (const std::uint32_t heads : r.kv_heads_by_layer) out.number32(heads);
  }
  write_tokenizer(c, r);
  return c;
}

// IEEE half of a normal number in half's range; what weights around 0.01 need.
std::uint16_t half(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000U;
  const std::int32_t exponent = static_cast<std::int32_t>((bits >> 23) & 0xffU) - 127 + 15;
  if (exponent <= 0) return static_cast<std::uint16_t>(sign);  // too small: zero
  return static_cast<std::uint16_t>(sign | static_cast<std::uint32_t>(exponent) << 10 |
                                    ((bits >> 13) & 0x3ffU));
}

class WeightMaker {
 public:
  explicit WeightMaker(std::uint64_t seed) : random_(seed) {}

  // The tensor's bytes. Vectors are norms: ones. Matrices keep the variance of their input.
  std::string make(const Tensor& tensor) {
    std::string bytes(bytes_of(tensor), '\0');
    const float scale = 1.0F / std::sqrt(static_cast<float>(tensor.dimensions[0]));
    const bool norm = tensor.dimensions.size() == 1;
    switch (tensor.type) {
      case kTensorF32:
        return fill<float>(std::move(bytes), [&] { return norm ? 1.0F : scale * unit(); });
      case kTensorF16:
        return fill<std::uint16_t>(std::move(bytes), [&] { return half(scale * unit()); });
      default:
        return blocks(std::move(bytes), tensor.type, scale);
    }
  }

 private:
  float unit() {  // uniform with variance 1
    return (static_cast<float>(random_() >> 40) / static_cast<float>(1 << 24) - 0.5F) * 3.4641F;
  }

  template <typename T, typename F>
  std::string fill(std::string bytes, F next) {
    for (std::size_t at = 0; at < bytes.size(); at += sizeof(T)) {
      const T value = next();
      std::memcpy(bytes.data() + at, &value, sizeof value);
    }
    return bytes;
  }

  // Blocks of 32 quants behind a half-precision scale: random quants.
  std::string blocks(std::string bytes, std::uint32_t type, float scale) {
    const std::size_t block = type == kTensorQ8_0 ? 34 : 18;
    const std::uint16_t d = half(scale * 1.7F / (type == kTensorQ8_0 ? 127.0F : 8.0F));
    for (std::size_t at = 0; at < bytes.size(); at += block) {
      std::memcpy(bytes.data() + at, &d, sizeof d);
      for (std::size_t i = 2; i < block; ++i) bytes[at + i] = static_cast<char>(random_() >> 56);
    }
    return bytes;
  }

  std::mt19937_64 random_;
};

}  // namespace

GgufWriter& GgufWriter::raw(std::string_view bytes) {
  bytes_.append(bytes);
  return *this;
}
GgufWriter& GgufWriter::number32(std::uint32_t value) {
  return raw({reinterpret_cast<const char*>(&value), sizeof value});
}
GgufWriter& GgufWriter::number64(std::uint64_t value) {
  return raw({reinterpret_cast<const char*>(&value), sizeof value});
}
GgufWriter& GgufWriter::real(float value) {
  return raw({reinterpret_cast<const char*>(&value), sizeof value});
}
GgufWriter& GgufWriter::text(std::string_view text) { return number64(text.size()).raw(text); }
GgufWriter& GgufWriter::preamble(std::uint64_t tensors, std::uint64_t values,
                                 std::uint32_t version) {
  return raw("GGUF").number32(version).number64(tensors).number64(values);
}
GgufWriter& GgufWriter::key(std::string_view key, std::uint32_t type) {
  return text(key).number32(type);
}
GgufWriter& GgufWriter::u32(std::string_view name, std::uint32_t value) {
  return key(name, kU32).number32(value);
}
GgufWriter& GgufWriter::f32(std::string_view name, float value) {
  return key(name, kF32).real(value);
}
GgufWriter& GgufWriter::boolean(std::string_view name, bool value) {
  return key(name, kBool).raw(std::string_view{value ? "\1" : "\0", 1});
}
GgufWriter& GgufWriter::string(std::string_view name, std::string_view value) {
  return key(name, kText).text(value);
}
GgufWriter& GgufWriter::array(std::string_view name, std::uint32_t element, std::uint64_t count) {
  return key(name, kArray).number32(element).number64(count);
}
GgufWriter& GgufWriter::tensor(std::string_view name, const std::vector<std::uint64_t>& dimensions,
                               std::uint32_t type, std::uint64_t offset) {
  text(name).number32(static_cast<std::uint32_t>(dimensions.size()));
  for (const std::uint64_t n : dimensions) number64(n);
  return number32(type).number64(offset);
}
GgufWriter& GgufWriter::pad(std::uint64_t alignment) {
  bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment);
  return *this;
}

MadeGguf make_gguf(const ModelRecipe& recipe) {
  const std::vector<Tensor> tensors = tensors_of(recipe);
  const Counted values = write_values(recipe);
  GgufWriter out;
  out.preamble(tensors.size(), values.values).raw(values.out.bytes());
  MadeGguf made;
  std::uint64_t offset = 0;
  for (const Tensor& tensor : tensors) {
    out.tensor(tensor.name, tensor.dimensions, tensor.type, offset);
    offset += padded(bytes_of(tensor));
    made.weights += Bytes{bytes_of(tensor)};
  }
  out.pad(kAlignment);
  made.header = out.bytes();
  made.file_size = made.header.size() + offset;
  return made;
}

MadeGguf write_gguf(const ModelRecipe& recipe, const std::filesystem::path& file, Weights weights) {
  MadeGguf made = make_gguf(recipe);
  std::ofstream out{file, std::ios::binary};
  out << made.header;
  if (weights == Weights::random) {
    WeightMaker maker{recipe.seed};
    for (const Tensor& tensor : tensors_of(recipe)) {
      std::string bytes = maker.make(tensor);
      bytes.resize(padded(bytes.size()));
      out << bytes;
    }
  }
  out.close();
  if (!out) throw std::runtime_error(fmt::format("cannot write {}", file.string()));
  std::filesystem::resize_file(file, made.file_size);
  return made;
}

}  // namespace forebay::test
