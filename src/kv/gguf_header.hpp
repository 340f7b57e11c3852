// The grammar of a GGUF header: preamble, metadata values, tensor table. Each function
// reads one piece at the cursor and leaves its error there.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "kv/gguf_cursor.hpp"
#include "kv/gguf_types.hpp"

namespace forebay::gguf {

inline constexpr std::uint64_t kMaxKeyLength = 65535;    // the format's own limit
inline constexpr std::uint64_t kMaxTensorName = 64;      // the format's own limit
inline constexpr std::uint32_t kMaxDimensions = 4;       // ggml's
inline constexpr int kMaxArrayDepth = 4;                 // known files nest none
inline constexpr std::uint64_t kMaxAlignment = 1 << 20;  // known files use 32 or 64

struct Preamble {
  std::uint32_t version = 0;
  std::uint64_t tensors = 0;
  std::uint64_t values = 0;
};

// Magic, version and counts; both counts are bounded by what the file could hold.
Preamble read_preamble(Cursor& in);

struct ArrayHead {
  ValueType element = ValueType::u8;
  std::uint64_t count = 0;  // what the rest of the file could hold, at most
};

std::string read_key(Cursor& in);
ValueType read_value_type(Cursor& in, std::string_view key);
ArrayHead read_array_head(Cursor& in, std::string_view key);
// Moves past a value (or an array's elements) without keeping anything of it.
void skip_value(Cursor& in, ValueType type, std::string_view key, int depth = 0);
void skip_elements(Cursor& in, const ArrayHead& head, std::string_view key, int depth = 0);

struct TensorInfo {
  std::string name;
  std::uint64_t offset = 0;  // from the start of the weights
  std::uint64_t bytes = 0;
};

TensorInfo read_tensor(Cursor& in);

}  // namespace forebay::gguf
