// The doors to the GGUF reader: a file, or bytes in memory.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "forebay/model.hpp"
#include "kv/gguf_cursor.hpp"
#include "kv/gguf_shape.hpp"

namespace forebay {
namespace {

std::string words_of(int error) { return std::generic_category().message(error); }

class FileSource final : public gguf::ByteSource {
 public:
  explicit FileSource(int descriptor) : descriptor_(descriptor) {}
  FileSource(const FileSource&) = delete;
  FileSource& operator=(const FileSource&) = delete;
  ~FileSource() override { ::close(descriptor_); }

  Result<std::size_t> read(std::uint64_t offset, char* to, std::size_t length) override {
    ssize_t got = -1;
    do {
      got = ::pread(descriptor_, to, length, static_cast<off_t>(offset));
    } while (got < 0 && errno == EINTR);
    if (got < 0) return Status{Code::io_error, words_of(errno)};
    return static_cast<std::size_t>(got);
  }

 private:
  int descriptor_;
};

Status cannot_open(const std::string& name, int error) {
  const bool absent = error == ENOENT || error == ENOTDIR;
  return {absent ? Code::not_found : Code::io_error,
          fmt::format("{}: {}; allowed: a GGUF file that can be read", name, words_of(error))};
}

Result<ModelShape> read_open_file(int descriptor, const std::string& name) {
  FileSource file{descriptor};
  struct stat facts {};
  if (::fstat(descriptor, &facts) != 0) return cannot_open(name, errno);
  if (!S_ISREG(facts.st_mode)) {
    return Status{Code::io_error,
                  fmt::format("{}: not a regular file; allowed: a GGUF file", name)};
  }
  gguf::Cursor cursor{file, static_cast<std::uint64_t>(facts.st_size), name};
  return gguf::read_shape(cursor);
}

}  // namespace

Result<ModelShape> read_gguf_shape(const std::filesystem::path& file) {
  std::string name = file.string();
  std::replace_if(
      name.begin(), name.end(), [](char c) { return c >= 0 && c < ' '; }, '?');
  // O_NONBLOCK: opening a FIFO that nobody writes to must not hang.
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return cannot_open(name, errno);
  return read_open_file(descriptor, name);
}

Result<ModelShape> parse_gguf_shape(std::string_view header, std::uint64_t file_size,
                                    const std::string& source) {
  if (header.size() > file_size) {
    return Status{Code::invalid_argument,
                  fmt::format("{}: a header of {} bytes; allowed: at most the file's size, {}",
                              source, header.size(), file_size)};
  }
  if (file_size > INT64_MAX) {
    return Status{Code::invalid_argument, fmt::format("{}: a file of {} bytes; allowed: at most {}",
                                                      source, file_size, INT64_MAX)};
  }
  gguf::MemorySource bytes{header};
  gguf::Cursor cursor{bytes, file_size, source};
  return gguf::read_shape(cursor);
}

}  // namespace forebay
