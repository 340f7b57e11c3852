#include "kv/gguf_shape.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

#include "kv/gguf_header.hpp"

namespace forebay::gguf {
namespace {

// Upper bounds far above any model, low enough that a layer's numbers multiply without
// overflow. llama.cpp itself stops at 512 layers.
constexpr std::uint64_t kMaxLayers = 4096;
constexpr std::uint64_t kMaxHeads = 65536;
constexpr std::uint64_t kMaxWidth = 1 << 24;
constexpr std::uint64_t kMaxVocabulary = 1 << 28;
constexpr std::uint64_t kMaxContext = UINT32_MAX;
constexpr std::uint64_t kMaxArchitecture = 64;
constexpr std::uint64_t kMaxName = 4096;
constexpr std::uint64_t kDefaultAlignment = 32;  // the format's

// One integer key that decides the shape; in some models an array with a number a layer,
// of which the largest counts.
struct IntegerKey {
  std::string key;
  std::uint64_t most = 0;
  std::uint64_t least = 1;
  bool per_layer = false;
  std::optional<std::uint64_t> value;
  std::optional<std::uint64_t> elements;  // of an array
};

// Index into the keys.
struct Slot {
  enum Id : std::size_t {
    layers,
    context,
    embedding,
    feed_forward,
    expert_feed_forward,
    heads,
    kv_heads,
    key_length,
    value_length,
    vocabulary,
    alignment,
    splits,
    count
  };
};

class ShapeReader {
 public:
  explicit ShapeReader(Cursor& in) : in_(in) {}

  Result<ModelShape> read() {
    const Preamble preamble = read_preamble(in_);
    const std::uint64_t values_at = in_.position();
    find_architecture(preamble.values);
    if (in_.ok()) {
      name_keys();
      in_.rewind(values_at);
      for (std::uint64_t i = 0; i < preamble.values && in_.ok(); ++i) read_value();
    }
    if (in_.ok()) check_keys();
    if (in_.ok()) read_tensors(preamble.tensors);
    if (in_.ok()) fill_shape();
    if (!in_.ok()) return in_.status();
    return std::move(shape_);
  }

 private:
  // Key names start with the architecture's, which may come after them: hence two passes.
  void find_architecture(std::uint64_t values) {
    for (std::uint64_t i = 0; i < values && in_.ok(); ++i) {
      const std::string key = read_key(in_);
      const ValueType type = read_value_type(in_, key);
      if (key != "general.architecture") {
        skip_value(in_, type, key);
        continue;
      }
      read_text(key, type, kMaxArchitecture, shape_.architecture);
      check_architecture();
      return;
    }
    missing("general.architecture");
  }

  void check_architecture() {
    if (!in_.ok()) return;
    const std::string& text = shape_.architecture;
    const bool plain =
        text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_-.") == std::string::npos;
    if (!text.empty() && plain) return;
    in_.fail(Code::corrupt_data,
             fmt::format("key 'general.architecture' is '{}'; allowed: a name of a-z 0-9 _ - .",
                         printable(text)));
  }

  void name_keys() {
    const auto set = [&](Slot::Id slot, std::string_view suffix, std::uint64_t most, bool per_layer,
                         std::uint64_t least = 1) {
      keys_[slot].key = fmt::format("{}.{}", shape_.architecture, suffix);
      keys_[slot].most = most;
      keys_[slot].least = least;
      keys_[slot].per_layer = per_layer;
    };
    set(Slot::layers, "block_count", kMaxLayers, false);
    set(Slot::context, "context_length", kMaxContext, false);
    set(Slot::embedding, "embedding_length", kMaxWidth, false);
    set(Slot::feed_forward, "feed_forward_length", kMaxWidth, true);
    set(Slot::expert_feed_forward, "expert_feed_forward_length", kMaxWidth, true);
    set(Slot::heads, "attention.head_count", kMaxHeads, true);
    set(Slot::kv_heads, "attention.head_count_kv", kMaxHeads, true);
    set(Slot::key_length, "attention.key_length", kMaxHeads, false);
    set(Slot::value_length, "attention.value_length", kMaxHeads, false);
    set(Slot::vocabulary, "vocab_size", kMaxVocabulary, false);
    set(Slot::alignment, "", kMaxAlignment, false);
    keys_[Slot::alignment].key = "general.alignment";
    set(Slot::splits, "", 65535, false, 0);
    keys_[Slot::splits].key = "split.count";
  }

  void read_value() {
    const std::string key = read_key(in_);
    const ValueType type = read_value_type(in_, key);
    if (!in_.ok()) return;
    if (key == "general.name") return read_text(key, type, kMaxName, shape_.name);
    if (key == "tokenizer.ggml.tokens") return read_token_list(key, type);
    const auto wanted = std::find_if(keys_.begin(), keys_.end(),
                                     [&](const IntegerKey& known) { return known.key == key; });
    if (wanted == keys_.end()) return skip_value(in_, type, key);
    if (wanted->value) {
      in_.fail(Code::corrupt_data, fmt::format("key '{}' appears twice; allowed: once", key));
      return;
    }
    if (type == ValueType::array) return read_per_layer(*wanted);
    wanted->value = read_integer(key, type);
    check_range(*wanted);
  }

  void read_text(std::string_view key, ValueType type, std::uint64_t limit, std::string& to) {
    if (type != ValueType::text) return wrong_type(key, type, "string");
    to = in_.text(limit);
  }

  // The tokens are counted, not kept.
  void read_token_list(std::string_view key, ValueType type) {
    if (type != ValueType::array) return wrong_type(key, type, "array of strings");
    const ArrayHead head = read_array_head(in_, key);
    if (!in_.ok()) return;
    if (head.element != ValueType::text) return wrong_type(key, head.element, "array of strings");
    if (head.count == 0 || head.count > kMaxVocabulary) {
      in_.fail(Code::corrupt_data, fmt::format("key '{}' has {} tokens; allowed: 1 to {}", key,
                                               head.count, kMaxVocabulary));
      return;
    }
    tokens_ = head.count;
    skip_elements(in_, head, key);
  }

  void read_per_layer(IntegerKey& wanted) {
    if (!wanted.per_layer) return wrong_type(wanted.key, ValueType::array, "unsigned integer");
    const ArrayHead head = read_array_head(in_, wanted.key);
    std::uint64_t largest = 0;
    for (std::uint64_t i = 0; i < head.count && in_.ok(); ++i) {
      largest = std::max(largest, read_integer(wanted.key, head.element));
    }
    wanted.value = largest;
    wanted.elements = head.count;
    check_range(wanted);
  }

  std::uint64_t read_integer(std::string_view key, ValueType type) {
    switch (type) {
      case ValueType::u8:
        return in_.number<std::uint8_t>();
      case ValueType::u16:
        return in_.number<std::uint16_t>();
      case ValueType::u32:
        return in_.number<std::uint32_t>();
      case ValueType::u64:
        return in_.number<std::uint64_t>();
      case ValueType::i8:
        return not_negative(key, in_.number<std::int8_t>());
      case ValueType::i16:
        return not_negative(key, in_.number<std::int16_t>());
      case ValueType::i32:
        return not_negative(key, in_.number<std::int32_t>());
      case ValueType::i64:
        return not_negative(key, in_.number<std::int64_t>());
      default:
        wrong_type(key, type, "unsigned integer");
        return 0;
    }
  }

  std::uint64_t not_negative(std::string_view key, std::int64_t value) {
    if (value >= 0) return static_cast<std::uint64_t>(value);
    in_.fail(Code::corrupt_data, fmt::format("key '{}' is {}; allowed: 0 or more", key, value));
    return 0;
  }

  void check_range(const IntegerKey& wanted) {
    if (!in_.ok() || (*wanted.value >= wanted.least && *wanted.value <= wanted.most)) return;
    in_.fail(Code::corrupt_data, fmt::format("key '{}' is {}; allowed: {} to {}", wanted.key,
                                             *wanted.value, wanted.least, wanted.most));
  }

  void check_keys() {
    for (const Slot::Id slot : {Slot::layers, Slot::embedding, Slot::heads}) require(slot);
    if (!keys_[Slot::expert_feed_forward].value) require(Slot::feed_forward);
    if (!tokens_ && !keys_[Slot::vocabulary].value) missing("tokenizer.ggml.tokens");
    check_array_lengths();
    check_alignment();
    if (keys_[Slot::splits].value.value_or(1) > 1) {
      in_.fail(Code::unsupported,
               fmt::format("key 'split.count' is {}; allowed: 1, a model in one file",
                           *keys_[Slot::splits].value));
    }
  }

  void require(Slot::Id slot) {
    if (!keys_[slot].value) missing(keys_[slot].key);
  }

  void check_array_lengths() {
    for (const IntegerKey& known : keys_) {
      if (!in_.ok() || !known.elements || *known.elements == *keys_[Slot::layers].value) continue;
      in_.fail(Code::corrupt_data,
               fmt::format("key '{}' has {} elements; allowed: {}, one a layer", known.key,
                           *known.elements, *keys_[Slot::layers].value));
    }
  }

  void check_alignment() {
    alignment_ = keys_[Slot::alignment].value.value_or(kDefaultAlignment);
    if ((alignment_ & (alignment_ - 1)) == 0) return;
    in_.fail(Code::corrupt_data,
             fmt::format("key 'general.alignment' is {}; allowed: a power of two, 1 to {}",
                         alignment_, kMaxAlignment));
  }

  // Tensors must lie one after the other, as ggml demands: so none overlap, and their sum
  // is bounded by the file.
  void read_tensors(std::uint64_t count) {
    const std::uint64_t table = in_.position();
    Bytes next;
    Bytes end;
    for (std::uint64_t i = 0; i < count && in_.ok(); ++i) {
      const TensorInfo info = read_tensor(in_);
      if (!in_.ok()) return;
      if (info.offset != next.count()) return wrong_offset(info, next);
      const auto last = checked_add(next, Bytes{info.bytes});
      const auto padded = last ? align_up(*last, Bytes{alignment_}) : std::nullopt;
      if (!padded) {
        in_.fail(Code::corrupt_data, fmt::format("tensor '{}': {} bytes at {} pass 2^64", info.name,
                                                 info.bytes, info.offset));
        return;
      }
      shape_.weights += Bytes{info.bytes};  // at most `last`, which did not overflow
      next = *padded;
      end = *last;
    }
    if (count > 0 && in_.ok()) check_weights_end(table, count, end);
  }

  void wrong_offset(const TensorInfo& info, Bytes expected) {
    in_.fail(Code::corrupt_data,
             fmt::format("tensor '{}' is at offset {}; allowed: {}, right after the one before, "
                         "aligned to {}",
                         info.name, info.offset, expected.count(), alignment_));
  }

  // REQUIRES: the table was read once without error.
  void check_weights_end(std::uint64_t table, std::uint64_t count, Bytes end) {
    const Bytes start = *align_up(Bytes{in_.position()}, Bytes{alignment_});  // position <= 2^63
    const auto needed = checked_add(start, end);
    if (needed && needed->count() <= in_.size()) return;
    in_.rewind(table);
    for (std::uint64_t i = 0; i < count && in_.ok(); ++i) {
      const TensorInfo info = read_tensor(in_);
      const auto ends = checked_add(start, Bytes{info.offset} + Bytes{info.bytes});
      if (ends && ends->count() <= in_.size()) continue;
      in_.fail(Code::corrupt_data,
               fmt::format("file ends at {}, tensor '{}' needs {}", in_.size(), info.name,
                           ends.value_or(Bytes::unlimited()).count()));
    }
  }

  void fill_shape() {
    const auto number = [&](Slot::Id slot, std::uint64_t otherwise) {
      return static_cast<std::uint32_t>(keys_[slot].value.value_or(otherwise));
    };
    shape_.name = printable(shape_.name.empty() ? shape_.architecture : shape_.name);
    shape_.layers = number(Slot::layers, 0);
    shape_.heads = number(Slot::heads, 0);
    shape_.kv_heads = number(Slot::kv_heads, shape_.heads);
    shape_.embedding = number(Slot::embedding, 0);
    shape_.feed_forward =
        number(Slot::feed_forward, keys_[Slot::expert_feed_forward].value.value_or(0));
    shape_.context_trained = number(Slot::context, 0);
    shape_.vocabulary = static_cast<std::uint32_t>(tokens_.value_or(number(Slot::vocabulary, 0)));
    shape_.head_dim_k = number(Slot::key_length, shape_.embedding / shape_.heads);
    shape_.head_dim_v = number(Slot::value_length, shape_.embedding / shape_.heads);
    check_heads();
  }

  void check_heads() {
    if (shape_.kv_heads > shape_.heads) {
      in_.fail(Code::corrupt_data,
               fmt::format("key '{}' is {}; allowed: 1 to {}, the query heads",
                           keys_[Slot::kv_heads].key, shape_.kv_heads, shape_.heads));
    }
    if (shape_.head_dim_k == 0 || shape_.head_dim_v == 0) {
      in_.fail(Code::corrupt_data,
               fmt::format("key '{}' is {}; allowed: 1 to {}, the embedding length",
                           keys_[Slot::heads].key, shape_.heads, shape_.embedding));
    }
  }

  void missing(std::string_view key) {
    in_.fail(Code::corrupt_data,
             fmt::format("key '{}' is missing; a language model must have it", key));
  }
  void wrong_type(std::string_view key, ValueType type, std::string_view allowed) {
    in_.fail(Code::corrupt_data, fmt::format("key '{}' has type {}; allowed: {}", printable(key),
                                             name_of(type), allowed));
  }

  Cursor& in_;
  ModelShape shape_;
  std::array<IntegerKey, Slot::count> keys_;
  std::optional<std::uint64_t> tokens_;
  std::uint64_t alignment_ = kDefaultAlignment;
};

}  // namespace

Result<ModelShape> read_shape(Cursor& in) { return ShapeReader{in}.read(); }

}  // namespace forebay::gguf
