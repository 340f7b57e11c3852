// What one line of a trace of cache requests says.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "cache/simulated_cache.hpp"
#include "forebay/status.hpp"

namespace forebay::trace {

using detail::CacheRequest;

// How a trace is written; told apart by its beginning, or by the file's name.
enum class CacheFormat {
  csv,             // time,key,size[,cost]
  oracle_general,  // libCacheSim's: 24 bytes a request
  json_lines,      // {"t":0.5,"key":"a","bytes":4096,"cost":120}
};
std::string_view to_string(CacheFormat format) noexcept;

// No object is larger; a larger size in a trace is damage.
inline constexpr std::uint64_t kMaxObject = 1ULL << 48;
inline constexpr double kMaxCost = 1e15;  // microseconds: 31 years
inline constexpr double kMaxTime = 1e19;  // in whatever unit: above nanoseconds since 1970

// A text as a key: 64 bits of MurmurHash64A (Austin Appleby, in the public domain). A key of
// digits alone is the number itself.
std::uint64_t key_of(std::string_view text) noexcept;

// Which column of a CSV is what.
class CsvColumns {
 public:
  // Without a header: three columns, or four.
  CsvColumns() = default;
  // Error: invalid_argument (unknown column, twice, no key).
  static Result<CsvColumns> of_header(std::string_view line);
  // Whether a first line is to be read as a header: it does not begin with a time.
  static bool is_header(std::string_view line);

  // Error: invalid_argument "key: value is not allowed; allowed: …".
  Result<CacheRequest> parse(std::string_view line) const;

 private:
  enum class Column : std::size_t { time, key, size, cost };
  static constexpr std::size_t kColumns = 4;
  static constexpr std::size_t kNone = ~std::size_t{0};
  using Fields = std::array<std::string_view, kColumns>;

  std::size_t& place_of(Column column) { return place_.at(static_cast<std::size_t>(column)); }

  // How many there are; more than kColumns if they are too many.
  static std::size_t split(std::string_view line, Fields& fields);

  std::array<std::size_t, kColumns> place_{0, 1, 2, 3};
  std::size_t least_ = 3, most_ = 4;
};

Result<CacheRequest> parse_cache_json_line(std::string_view line);

// One record of libCacheSim's oracleGeneral: little endian, packed: uint32 time, uint64 key,
// uint32 size, int64 number of the object's next request or -1. What it says of the future is
// checked and not used: a part of a trace has it wrong.
struct OracleRecord {
  static constexpr std::size_t kBytes = 24;
  std::uint64_t key;
  std::uint32_t bytes;
  std::int64_t next;

  // REQUIRES: kBytes there.
  static OracleRecord at(const char* place) noexcept {
    static_assert(std::endian::native == std::endian::little);
    constexpr std::size_t kKeyAt = 4, kSizeAt = 12, kNextAt = 16;
    OracleRecord record{};
    std::memcpy(&record.key, place + kKeyAt, sizeof record.key);
    std::memcpy(&record.bytes, place + kSizeAt, sizeof record.bytes);
    std::memcpy(&record.next, place + kNextAt, sizeof record.next);
    return record;
  }
  bool is_valid() const noexcept { return next >= -1; }
  // Error: why it is not valid. REQUIRES: it is not.
  Status refusal() const;
};

}  // namespace forebay::trace
