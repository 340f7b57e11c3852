#include "kv/gguf_header.hpp"

#include <fmt/format.h>

#include <limits>

#include "forebay/bytes.hpp"

namespace forebay::gguf {
namespace {

constexpr std::uint32_t kMagic = 0x46554747;  // "GGUF", little-endian
// The least bytes a record can take: what turns a file's size into a bound on its counts.
constexpr std::uint64_t kLeastValue = 8 + 1 + 4 + 1;   // key of one letter, type, u8
constexpr std::uint64_t kLeastTensor = 8 + 4 + 4 + 8;  // no name, no dimensions
constexpr std::uint64_t kLeastText = 8;                // its length
constexpr std::uint64_t kLeastArray = 4 + 8;           // element type, count
constexpr std::uint64_t kMaxElements = INT64_MAX;      // ggml counts in int64

bool big_endian(std::uint32_t version) { return version != 0 && (version & 0xffff) == 0; }

void check_version(Cursor& in, std::uint32_t version) {
  if (!in.ok() || version == 2 || version == 3) return;
  if (big_endian(version)) {
    in.fail(Code::unsupported,
            fmt::format("version reads {:#x}, as a big-endian file's does; allowed: little-endian "
                        "GGUF of version 2 or 3",
                        version));
    return;
  }
  in.fail(Code::unsupported, fmt::format("GGUF version {}; allowed: 2 or 3", version));
}

// A count of records that the file's remaining bytes could hold.
std::uint64_t read_count(Cursor& in, std::string_view what, std::uint64_t least) {
  in.reading(fmt::format("{} count", what));
  const auto count = in.number<std::uint64_t>();
  const std::uint64_t most = in.ok() ? in.remaining() / least : 0;
  if (in.ok() && count > most) {
    in.fail(Code::corrupt_data,
            fmt::format("{} count is {}; allowed: at most {} in the {} bytes left", what, count,
                        most, in.remaining()));
  }
  return in.ok() ? count : 0;
}

std::uint64_t least_bytes(ValueType element) {
  if (element == ValueType::text) return kLeastText;
  if (element == ValueType::array) return kLeastArray;
  return size_of(element);
}

std::uint64_t read_dimension(Cursor& in, std::string_view tensor, std::uint32_t index) {
  const auto extent = in.number<std::uint64_t>();
  if (in.ok() && (extent == 0 || extent > kMaxElements)) {
    in.fail(Code::corrupt_data, fmt::format("tensor '{}': dimension {} is {}; allowed: 1 to {}",
                                            tensor, index, extent, kMaxElements));
  }
  return in.ok() ? extent : 1;
}

struct Extent {
  std::uint64_t first = 1;  // along the dimension that is stored in blocks
  std::uint64_t elements = 1;
};

Extent read_dimensions(Cursor& in, std::string_view tensor) {
  const auto count = in.number<std::uint32_t>();
  if (in.ok() && count > kMaxDimensions) {
    in.fail(Code::corrupt_data, fmt::format("tensor '{}': {} dimensions; allowed: at most {}",
                                            tensor, count, kMaxDimensions));
  }
  Extent extent;
  for (std::uint32_t i = 0; i < count && in.ok(); ++i) {
    const std::uint64_t n = read_dimension(in, tensor, i);
    if (i == 0) extent.first = n;
    if (extent.elements > kMaxElements / n) {
      in.fail(Code::corrupt_data,
              fmt::format("tensor '{}': dimensions multiply to more than {}; {} times {} so far",
                          tensor, kMaxElements, extent.elements, n));
      return extent;
    }
    extent.elements *= n;
  }
  return extent;
}

std::uint64_t bytes_of(Cursor& in, std::string_view tensor, const Extent& extent,
                       std::uint32_t number) {
  if (!in.ok()) return 0;
  const auto type = tensor_type(number);
  if (!type) {
    in.fail(Code::unsupported,
            fmt::format("tensor '{}' has type {}; allowed: the types of ggml 0.20, 0 to 42", tensor,
                        number));
    return 0;
  }
  if (extent.first % type->elements != 0) {
    in.fail(Code::corrupt_data,
            fmt::format("tensor '{}': rows of {} elements; allowed for type {}: multiples of {}",
                        tensor, extent.first, type->name, type->elements));
    return 0;
  }
  const auto bytes = checked_mul(Bytes{extent.elements / type->elements}, type->bytes);
  if (!bytes) {
    in.fail(Code::corrupt_data,
            fmt::format("tensor '{}': {} elements of type {} overflow 2^64 bytes", tensor,
                        extent.elements, type->name));
    return 0;
  }
  return bytes->count();
}

}  // namespace

Preamble read_preamble(Cursor& in) {
  in.reading("the magic");
  const auto magic = in.number<std::uint32_t>();
  if (in.ok() && magic != kMagic) {
    const std::string_view bytes{reinterpret_cast<const char*>(&magic), sizeof magic};
    in.fail(Code::corrupt_data,
            fmt::format("not a GGUF file: starts with '{}' ({:#010x}); allowed: 'GGUF'",
                        printable(bytes), magic));
  }
  Preamble preamble;
  in.reading("the version");
  preamble.version = in.number<std::uint32_t>();
  check_version(in, preamble.version);
  preamble.tensors = read_count(in, "tensor", kLeastTensor);
  preamble.values = read_count(in, "metadata", kLeastValue);
  return preamble;
}

std::string read_key(Cursor& in) {
  in.reading(fmt::format("a metadata key at {}", in.position()));
  std::string key = in.text(kMaxKeyLength);
  if (in.ok()) in.reading(fmt::format("key '{}'", printable(key)));
  return key;
}

ValueType read_value_type(Cursor& in, std::string_view key) {
  const auto number = in.number<std::uint32_t>();
  if (in.ok() && number >= kValueTypes) {
    in.fail(Code::corrupt_data, fmt::format("key '{}': value type {}; allowed: 0 to {}",
                                            printable(key), number, kValueTypes - 1));
  }
  return in.ok() ? static_cast<ValueType>(number) : ValueType::u8;
}

ArrayHead read_array_head(Cursor& in, std::string_view key) {
  const auto number = in.number<std::uint32_t>();
  if (in.ok() && number >= kValueTypes) {
    in.fail(Code::corrupt_data, fmt::format("key '{}': array of element type {}; allowed: 0 to {}",
                                            printable(key), number, kValueTypes - 1));
  }
  const auto count = in.number<std::uint64_t>();
  if (!in.ok()) return {};
  const auto element = static_cast<ValueType>(number);
  const std::uint64_t most = in.remaining() / least_bytes(element);
  if (count > most) {
    in.fail(Code::corrupt_data,
            fmt::format(
                "key '{}': array of {} elements of type {}; allowed: at most {} in the {} bytes "
                "left",
                printable(key), count, name_of(element), most, in.remaining()));
    return {};
  }
  return {element, count};
}

void skip_value(Cursor& in, ValueType type, std::string_view key, int depth) {
  if (type == ValueType::array) {
    skip_elements(in, read_array_head(in, key), key, depth);
  } else if (type == ValueType::text) {
    in.skip(in.number<std::uint64_t>());
  } else {
    in.skip(size_of(type));
  }
}

void skip_elements(Cursor& in, const ArrayHead& head, std::string_view key, int depth) {
  if (const std::uint64_t bytes = size_of(head.element); bytes != 0) {
    in.skip(head.count * bytes);  // cannot overflow: read_array_head bounded the count
    return;
  }
  if (depth + 1 >= kMaxArrayDepth && head.element == ValueType::array) {
    in.fail(Code::corrupt_data, fmt::format("key '{}': arrays nested {} deep; allowed: at most {}",
                                            printable(key), depth + 2, kMaxArrayDepth));
    return;
  }
  for (std::uint64_t i = 0; i < head.count && in.ok(); ++i) {
    skip_value(in, head.element, key, depth + 1);
  }
}

TensorInfo read_tensor(Cursor& in) {
  TensorInfo info;
  in.reading(fmt::format("a tensor's name at {}", in.position()));
  info.name = printable(in.text(kMaxTensorName));
  if (in.ok()) in.reading(fmt::format("the entry of tensor '{}'", info.name));
  const Extent extent = read_dimensions(in, info.name);
  const auto type = in.number<std::uint32_t>();
  info.bytes = bytes_of(in, info.name, extent, type);
  info.offset = in.number<std::uint64_t>();
  return info;
}

}  // namespace forebay::gguf
