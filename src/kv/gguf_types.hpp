// Numbers and names of the GGUF format: value types of metadata and types of tensors.
// Source: ggml.h and gguf.h of ggml 0.25.3.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace forebay::gguf {

enum class ValueType : std::uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  text = 8,
  array = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12,
};
inline constexpr std::uint32_t kValueTypes = 13;

// "u32", …; "unknown" past the last.
std::string_view name_of(ValueType type) noexcept;
// Bytes of a value; 0 for text and array, whose values say themselves.
std::uint64_t size_of(ValueType type) noexcept;

// Storage of a tensor: `bytes` for each `elements` along its first dimension.
struct TensorType {
  std::string_view name;
  std::uint32_t elements = 0;
  std::uint32_t bytes = 0;
};

// Empty for numbers that ggml does not know or has removed.
std::optional<TensorType> tensor_type(std::uint32_t number) noexcept;

}  // namespace forebay::gguf
