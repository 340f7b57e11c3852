// Bytes on their way to a file and from one, compressed or not.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/atomic_file.hpp"
#include "forebay/status.hpp"

namespace forebay::detail {

class ByteSink {
 public:
  virtual ~ByteSink() = default;
  virtual Status write(std::string_view bytes) = 0;
  // After the last bytes: what is still held goes on.
  virtual Status finish() { return {}; }
};

class StringSink final : public ByteSink {
 public:
  Status write(std::string_view bytes) override;
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

class FileSink final : public ByteSink {
 public:
  explicit FileSink(AtomicFile& file) : file_(file) {}
  Status write(std::string_view bytes) override { return file_.write(bytes); }

 private:
  AtomicFile& file_;
};

// Compresses with zstd before `next`, which must outlive it. Throws std::bad_alloc.
std::unique_ptr<ByteSink> compress_into(ByteSink& next);

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Some bytes, valid until the next call; none at the end.
  virtual Result<std::string_view> next() = 0;
  // Of all that there is to come, when it was opened; 0: not known.
  virtual std::uint64_t size() const { return 0; }
};

// `bytes` must outlive it.
std::unique_ptr<ByteSource> source_over(std::string_view bytes);
// Errors: not_found, io_error; invalid_argument (no regular file).
Result<std::unique_ptr<ByteSource>> open_source(const std::string& path);
// The same bytes; decompressed if they begin as zstd's do. Errors of next(): corrupt_data for
// what zstd cannot read, or wants a window above 8 MiB. `name` stands in messages.
Result<std::unique_ptr<ByteSource>> decompressed(std::unique_ptr<ByteSource> source,
                                                 std::string name);

}  // namespace forebay::detail
