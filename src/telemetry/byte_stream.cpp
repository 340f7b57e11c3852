#include "telemetry/byte_stream.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <vector>

#include "base/text.hpp"

namespace forebay::detail {
namespace {

constexpr std::size_t kChunk = 256 << 10;
// Level 3 compresses a snapshot to about a fifth at the speed at which it is written.
constexpr int kLevel = 3;
constexpr int kMostWindowLog = 23;  // what level 19 needs; a header may ask for 2 GiB

struct FreeZstd {
  void operator()(ZSTD_CCtx* context) const noexcept { ZSTD_freeCCtx(context); }
  void operator()(ZSTD_DCtx* context) const noexcept { ZSTD_freeDCtx(context); }
};

class Compressor final : public ByteSink {
 public:
  explicit Compressor(ByteSink& next) : context_(ZSTD_createCCtx()), next_(next), out_(kChunk) {
    if (context_ == nullptr) throw std::bad_alloc{};
    ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_compressionLevel, kLevel);
    ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_checksumFlag, 1);
  }
  Status write(std::string_view bytes) override { return run(bytes, ZSTD_e_continue); }
  Status finish() override {
    if (Status status = run({}, ZSTD_e_end); !status.ok()) return status;
    return next_.finish();
  }

 private:
  Status run(std::string_view bytes, ZSTD_EndDirective directive) {
    ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
    for (;;) {
      ZSTD_outBuffer out{out_.data(), out_.size(), 0};
      const std::size_t left = ZSTD_compressStream2(context_.get(), &out, &in, directive);
      if (ZSTD_isError(left) != 0) {
        return {Code::io_error, fmt::format("zstd: {}", ZSTD_getErrorName(left))};
      }
      if (Status status = next_.write({out_.data(), out.pos}); !status.ok()) return status;
      if (directive == ZSTD_e_continue ? in.pos == in.size : left == 0) return {};
    }
  }

  std::unique_ptr<ZSTD_CCtx, FreeZstd> context_;
  ByteSink& next_;
  std::vector<char> out_;
};

class Memory final : public ByteSource {
 public:
  explicit Memory(std::string_view bytes) : bytes_(bytes) {}
  Result<std::string_view> next() override { return std::exchange(bytes_, {}); }
  std::uint64_t size() const override { return bytes_.size(); }

 private:
  std::string_view bytes_;
};

class File final : public ByteSource {
 public:
  File(int file, std::string path, std::uint64_t size)
      : file_(file), path_(std::move(path)), size_(size), buffer_(kChunk) {}
  ~File() override { ::close(file_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  Result<std::string_view> next() override {
    for (;;) {
      const ssize_t got = ::read(file_, buffer_.data(), buffer_.size());
      if (got >= 0) return std::string_view{buffer_.data(), static_cast<std::size_t>(got)};
      if (errno == EINTR) continue;
      return Status{Code::io_error, fmt::format("{}: cannot read: {}", printable_text(path_),
                                                std::strerror(errno))};
    }
  }
  std::uint64_t size() const override { return size_; }

 private:
  int file_;
  std::string path_;
  std::uint64_t size_;
  std::vector<char> buffer_;
};

// Gives the bytes that were read to look at, then the rest.
class Resumed final : public ByteSource {
 public:
  Resumed(std::string first, std::unique_ptr<ByteSource> rest)
      : first_(std::move(first)), rest_(std::move(rest)) {}
  Result<std::string_view> next() override {
    if (!given_ && !first_.empty()) {
      given_ = true;
      return std::string_view{first_};
    }
    return rest_->next();
  }

 private:
  std::string first_;
  std::unique_ptr<ByteSource> rest_;
  bool given_ = false;
};

class Decompressor final : public ByteSource {
 public:
  Decompressor(std::unique_ptr<ByteSource> source, std::string name)
      : context_(ZSTD_createDCtx()),
        source_(std::move(source)),
        name_(std::move(name)),
        out_(kChunk) {
    if (context_ == nullptr) throw std::bad_alloc{};
    ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, kMostWindowLog);
  }

  Result<std::string_view> next() override {
    for (;;) {
      if (in_.pos == in_.size && !full_) {
        Result<std::string_view> more = source_->next();
        if (!more.ok()) return more.status();
        if (more->empty()) return ended();
        in_ = {more->data(), more->size(), 0};
      }
      ZSTD_outBuffer out{out_.data(), out_.size(), 0};
      left_ = ZSTD_decompressStream(context_.get(), &out, &in_);
      if (ZSTD_isError(left_) != 0) return corrupt(ZSTD_getErrorName(left_));
      full_ = out.pos == out.size;  // there may be more of what was read
      if (out.pos > 0) return std::string_view{out_.data(), out.pos};
    }
  }

 private:
  Result<std::string_view> ended() const {
    if (left_ != 0) return corrupt("the file ends early");
    return std::string_view{};
  }
  Status corrupt(std::string_view what) const {
    return {Code::corrupt_data, fmt::format("{}: zstd: {}", printable_text(name_), what)};
  }

  std::unique_ptr<ZSTD_DCtx, FreeZstd> context_;
  std::unique_ptr<ByteSource> source_;
  std::string name_;
  std::vector<char> out_;
  ZSTD_inBuffer in_{nullptr, 0, 0};
  std::size_t left_ = 0;  // 0: at the end of a frame
  bool full_ = false;
};

}  // namespace

Status StringSink::write(std::string_view bytes) {
  text_ += bytes;
  return {};
}

std::unique_ptr<ByteSink> compress_into(ByteSink& next) {
  return std::make_unique<Compressor>(next);
}

std::unique_ptr<ByteSource> source_over(std::string_view bytes) {
  return std::make_unique<Memory>(bytes);
}

Result<std::unique_ptr<ByteSource>> open_source(const std::string& path) {
  // Without waiting for whoever writes to a FIFO of that name.
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) {
    const int error = errno;
    if (error == ENOENT || error == ENOTDIR) {
      return Status{Code::not_found, fmt::format("{}: no such file", printable_text(path))};
    }
    return Status{Code::io_error,
                  fmt::format("{}: cannot open: {}", printable_text(path), std::strerror(error))};
  }
  struct stat facts {};
  if (::fstat(file, &facts) != 0 || !S_ISREG(facts.st_mode)) {
    ::close(file);
    return Status{Code::invalid_argument,
                  fmt::format("{}: is no regular file", printable_text(path))};
  }
  return std::unique_ptr<ByteSource>{
      std::make_unique<File>(file, path, static_cast<std::uint64_t>(facts.st_size))};
}

Result<std::unique_ptr<ByteSource>> decompressed(std::unique_ptr<ByteSource> source,
                                                 std::string name) {
  constexpr std::string_view kMagic{"\x28\xB5\x2F\xFD", 4};
  std::string first;
  while (first.size() < kMagic.size()) {
    const Result<std::string_view> more = source->next();
    if (!more.ok()) return more.status();
    if (more->empty()) break;
    first += *more;
  }
  const bool compressed = first.starts_with(kMagic);
  source = std::make_unique<Resumed>(std::move(first), std::move(source));
  if (!compressed) return source;
  return std::unique_ptr<ByteSource>{
      std::make_unique<Decompressor>(std::move(source), std::move(name))};
}

}  // namespace forebay::detail
