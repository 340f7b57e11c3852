#include "base/atomic_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/text.hpp"

namespace forebay::detail {
namespace {

constexpr std::size_t kBuffer = 256 << 10;

Status bad_path(const std::string& path, std::string_view why) {
  return {Code::invalid_argument, fmt::format("'{}' {}; allowed: the path of a new or regular file",
                                              printable_text(path), why)};
}

struct PathParts {
  std::string directory;
  std::string name;
};

PathParts parts_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return {".", path};
  return {slash == 0 ? "/" : path.substr(0, slash), path.substr(slash + 1)};
}

std::string temporary_name() {
  std::uint64_t number = 0;
  if (::getrandom(&number, sizeof number, GRND_NONBLOCK) != sizeof number) {
    number = reinterpret_cast<std::uintptr_t>(&number);  // the next one is tried if it is taken
  }
  return fmt::format(".forebay-{}-{:016x}.tmp", ::getpid(), number);
}

}  // namespace

Result<AtomicFile> AtomicFile::create(const std::string& path, std::function<bool()> stop) {
  PathParts parts = parts_of(path);
  if (path.find('\0') != std::string::npos) return bad_path(path, "holds a zero byte");
  if (parts.name.empty() || parts.name == "." || parts.name == "..") {
    return bad_path(path, "names no file");
  }
  const int directory = ::open(parts.directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  AtomicFile file{path, directory};
  if (directory < 0) return file.failed("cannot open its folder");
  struct stat there {};
  if (::fstatat(directory, parts.name.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0) {
    if (S_ISLNK(there.st_mode)) return bad_path(path, "is a symbolic link");
    if (!S_ISREG(there.st_mode)) return bad_path(path, "is there, and is no regular file");
  }
  file.name_ = std::move(parts.name);
  file.stop_ = std::move(stop);
  if (Status status = file.open_temporary(); !status.ok()) return status;
  return file;
}

Status AtomicFile::open_temporary() {
  constexpr int kFlags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  constexpr int kTries = 16;
  buffer_.reserve(kBuffer);  // before there is something to take away again
  for (int i = 0; i < kTries; ++i) {
    std::string name = temporary_name();
    file_ = ::openat(directory_, name.c_str(), kFlags, 0600);
    if (file_ >= 0) {
      temporary_ = std::move(name);
      return {};
    }
    if (errno != EEXIST) break;
  }
  return failed("cannot create a file beside it");
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      name_(std::move(other.name_)),
      temporary_(std::exchange(other.temporary_, {})),
      buffer_(std::move(other.buffer_)),
      stop_(std::move(other.stop_)),
      directory_(std::exchange(other.directory_, -1)),
      file_(std::exchange(other.file_, -1)),
      status_(std::move(other.status_)) {}

AtomicFile& AtomicFile::operator=(AtomicFile&& other) noexcept {
  if (this == &other) return *this;
  discard();
  path_ = std::move(other.path_);
  name_ = std::move(other.name_);
  temporary_ = std::exchange(other.temporary_, {});
  buffer_ = std::move(other.buffer_);
  stop_ = std::move(other.stop_);
  directory_ = std::exchange(other.directory_, -1);
  file_ = std::exchange(other.file_, -1);
  status_ = std::move(other.status_);
  return *this;
}

Status AtomicFile::write(std::string_view bytes) {
  if (!status_.ok()) return status_;
  while (!bytes.empty()) {
    const std::size_t part = std::min(bytes.size(), kBuffer - buffer_.size());
    buffer_.append(bytes.substr(0, part));
    bytes.remove_prefix(part);
    if (buffer_.size() < kBuffer) break;
    if (Status status = flush(); !status.ok()) return status;
  }
  return {};
}

Status AtomicFile::flush() {
  if (stop_ && stop_()) {
    status_ = Status{Code::interrupted,
                     fmt::format("{}: interrupted; nothing was written", printable_text(path_))};
    return status_;
  }
  std::string_view rest = buffer_;
  while (!rest.empty()) {
    const ssize_t written = ::write(file_, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return failed("cannot write");
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
  buffer_.clear();
  return {};
}

Status AtomicFile::commit() {
  if (!status_.ok()) return status_;
  if (Status status = flush(); !status.ok()) return status;
  if (::fsync(file_) != 0) return failed("cannot bring to the disk");
  if (::renameat(directory_, temporary_.c_str(), directory_, name_.c_str()) != 0) {
    return failed("cannot put in place");
  }
  temporary_.clear();
  // The name too; a file system that cannot is none of the caller's business.
  static_cast<void>(::fsync(directory_));
  discard();
  return {};
}

Status AtomicFile::failed(std::string_view what) {
  const int error = errno;
  status_ = Status{Code::io_error,
                   fmt::format("{}: {}: {}", printable_text(path_), what, std::strerror(error))};
  return status_;
}

void AtomicFile::discard() noexcept {
  if (file_ >= 0) ::close(file_);
  if (!temporary_.empty()) ::unlinkat(directory_, temporary_.c_str(), 0);
  if (directory_ >= 0) ::close(directory_);
  temporary_.clear();
  file_ = directory_ = -1;
}

}  // namespace forebay::detail
