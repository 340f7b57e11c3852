#include "track/event_sink.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace forebay::detail {

constinit std::atomic<WriteFunction> g_event_write{&::pwrite};

Status EventSink::open(const std::string& path, std::uint64_t most_bytes) {
  std::string kept = path;
  constexpr int kNew = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  const int descriptor = ::open(path.c_str(), kNew, S_IRUSR | S_IWUSR);
  if (descriptor < 0) {
    return {Code::io_error, fmt::format("{}: cannot make it new: {}", path, std::strerror(errno))};
  }
  path_ = std::move(kept);
  descriptor_ = descriptor;
  error_ = 0;
  size_ = 0;
  most_ = most_bytes;
  return {};
}

bool EventSink::append(std::span<const std::byte> chunk) noexcept {
  if (error_ != 0) return false;
  if (chunk.size() > most_ - size_) error_ = EFBIG;
  std::size_t written = 0;
  while (error_ == 0 && written < chunk.size()) {
    const ssize_t wrote = g_event_write.load(std::memory_order_relaxed)(
        descriptor_, chunk.data() + written, chunk.size() - written,
        static_cast<off_t>(size_ + written));
    if (wrote > 0) {
      written += static_cast<std::size_t>(wrote);
    } else if (wrote == 0 || errno != EINTR) {
      error_ = wrote == 0 ? EIO : errno;
    }
  }
  if (error_ == 0) {
    size_ += written;
    return true;
  }
  // A reader leaves out what is not whole; it is cut off only so that nobody wonders.
  static_cast<void>(::ftruncate(descriptor_, static_cast<off_t>(size_)) == 0);
  return false;
}

Status EventSink::close() {
  const int descriptor = std::exchange(descriptor_, -1);
  if (descriptor >= 0 && ::close(descriptor) != 0 && error_ == 0) error_ = errno;
  if (error_ == 0) return {};
  return {Code::io_error, fmt::format("{}: cannot write on after {} bytes: {}", path_, size_,
                                      std::strerror(error_))};
}

void EventSink::abandon() noexcept {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
}

}  // namespace forebay::detail
