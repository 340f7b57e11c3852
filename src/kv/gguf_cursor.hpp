// Reads a file of unknown honesty from front to back: every length is checked against what
// the file still holds before it is believed.
//
// Errors are sticky: after the first one every read gives zero or empty and moves nothing,
// so a parser may check once per record. The cursor holds one window of at most 64 KiB;
// files are read with pread, not mapped, because a mapped file that shrinks kills its reader.
//
// Thread safety: none; a cursor belongs to one thread.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "forebay/status.hpp"

namespace forebay::gguf {

// Where the bytes come from.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Copies up to `length` bytes at `offset` to `to`, fewer only where the bytes end.
  // Error: io_error.
  virtual Result<std::size_t> read(std::uint64_t offset, char* to, std::size_t length) = 0;
};

class MemorySource final : public ByteSource {
 public:
  explicit MemorySource(std::string_view bytes) : bytes_(bytes) {}
  Result<std::size_t> read(std::uint64_t offset, char* to, std::size_t length) override;

 private:
  std::string_view bytes_;
};

// No header goes on past this: the largest known are near 30 MB, and a sparse file of
// terabytes must not be walked string by string.
inline constexpr std::uint64_t kMaxHeader = 256 << 20;

class Cursor {
 public:
  // `size` is the whole file's; `name` stands in front of every error.
  Cursor(ByteSource& bytes, std::uint64_t size, std::string name);

  std::uint64_t position() const noexcept { return position_; }
  std::uint64_t size() const noexcept { return size_; }
  std::uint64_t remaining() const noexcept { return size_ - position_; }
  bool ok() const noexcept { return status_.ok(); }
  const Status& status() const noexcept { return status_; }

  // Records the error "name: message"; the first one stays.
  void fail(Code code, std::string_view message);
  // What is being read, for "file ends at 10, <what> needs 12".
  void reading(std::string what) { what_ = std::move(what); }

  // REQUIRES: position <= size().
  void rewind(std::uint64_t position) noexcept { position_ = position; }
  void skip(std::uint64_t bytes);
  // A little-endian number; 0 after an error.
  template <typename T>
  T number() {
    static_assert(std::is_arithmetic_v<T>);
    T value{};
    take(reinterpret_cast<char*>(&value), sizeof value);
    return value;
  }
  // A length (64 bits) and that many bytes. Error: more than `limit`.
  std::string text(std::uint64_t limit);

 private:
  void take(char* to, std::size_t length);
  bool fits(std::uint64_t bytes);
  bool refill();

  ByteSource& bytes_;
  std::uint64_t size_;
  std::uint64_t position_ = 0;
  std::string name_;
  std::string what_ = "the header";
  std::vector<char> window_;
  std::uint64_t window_start_ = 0;
  std::size_t window_used_ = 0;
  Status status_;
};

// Text from a file made safe for one line of a log: control and non-ASCII bytes become '?',
// long text is cut.
std::string printable(std::string_view text);

}  // namespace forebay::gguf
