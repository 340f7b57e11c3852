#include "trace/input.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "forebay/config.hpp"

namespace forebay::trace {
namespace {

Status cannot(Code code, const std::filesystem::path& file, std::string_view what) {
  return {code, fmt::format("{}: {}", printable(file.string()), what)};
}

class DescriptorInput final : public Input {
 public:
  DescriptorInput(int descriptor, std::uint64_t size, bool owned)
      : descriptor_(descriptor), size_(size), owned_(owned) {}
  ~DescriptorInput() override {
    if (owned_) ::close(descriptor_);
  }

  Result<std::size_t> read(char* to, std::size_t most) override {
    for (;;) {
      const ssize_t got = ::read(descriptor_, to, most);
      if (got >= 0) {
        read_ += static_cast<std::uint64_t>(got);
        return static_cast<std::size_t>(got);
      }
      if (errno == EINTR) continue;
      return Status{Code::io_error, fmt::format("cannot read on: {}", std::strerror(errno))};
    }
  }
  double share() const noexcept override {
    if (size_ == 0) return 0;
    return std::min(1.0, static_cast<double>(read_) / static_cast<double>(size_));
  }

 private:
  int descriptor_;
  std::uint64_t size_;
  std::uint64_t read_ = 0;
  bool owned_;
};

class TextInput final : public Input {
 public:
  explicit TextInput(std::string_view text) : text_(text), size_(text.size()) {}

  Result<std::size_t> read(char* to, std::size_t most) override {
    const std::size_t taken = text_.copy(to, most);
    text_.remove_prefix(taken);
    return taken;
  }
  double share() const noexcept override {
    if (size_ == 0) return 1;
    return 1 - static_cast<double>(text_.size()) / static_cast<double>(size_);
  }

 private:
  std::string_view text_;
  std::size_t size_;
};

// Bytes that were read to see what they are, then the rest.
class HeadedInput final : public Input {
 public:
  HeadedInput(std::string head, std::unique_ptr<Input> rest)
      : head_(std::move(head)), rest_(std::move(rest)) {}

  Result<std::size_t> read(char* to, std::size_t most) override {
    if (given_ == head_.size()) return rest_->read(to, most);
    const std::size_t taken = head_.copy(to, most, given_);
    given_ += taken;
    return taken;
  }
  double share() const noexcept override { return rest_->share(); }

 private:
  std::string head_;
  std::size_t given_ = 0;
  std::unique_ptr<Input> rest_;
};

}  // namespace

Result<std::unique_ptr<Input>> open_input(const std::filesystem::path& file, FileKind kind) {
  const bool regular_only = kind == FileKind::regular;
  // Not blocking, so that a pipe is refused instead of waited for.
  const int descriptor =
      ::open(file.c_str(), O_RDONLY | O_CLOEXEC | (regular_only ? O_NONBLOCK : 0));
  if (descriptor < 0) {
    if (errno == ENOENT) return cannot(Code::not_found, file, "no such trace");
    return cannot(Code::io_error, file, fmt::format("cannot open: {}", std::strerror(errno)));
  }
  struct stat info {};
  const bool known = ::fstat(descriptor, &info) == 0;
  const bool regular = known && S_ISREG(info.st_mode);
  const std::uint64_t size = regular ? static_cast<std::uint64_t>(info.st_size) : 0;
  auto input = std::make_unique<DescriptorInput>(descriptor, size, true);
  if (regular_only && !regular) {
    return cannot(Code::invalid_argument, file,
                  "is no regular file; allowed: a file, because it is read several times");
  }
  if (!known || S_ISDIR(info.st_mode)) {
    return cannot(Code::invalid_argument, file, "is a folder; allowed: a file");
  }
  return std::unique_ptr<Input>{std::move(input)};
}

std::unique_ptr<Input> standard_input() {
  return std::make_unique<DescriptorInput>(STDIN_FILENO, 0, false);
}

std::unique_ptr<Input> input_over(std::string_view text) {
  return std::make_unique<TextInput>(text);
}

Result<std::unique_ptr<Input>> unpacked(std::unique_ptr<Input> input, std::string_view name) {
  std::string head(kZstdMagic.size(), '\0');
  std::size_t length = 0;
  while (length < head.size()) {
    const auto got = input->read(head.data() + length, head.size() - length);
    if (!got.ok()) return got.status();
    if (*got == 0) break;
    length += *got;
  }
  head.resize(length);
  if (head == kZstdMagic) return unpack_zstd(std::move(input), std::move(head));
  if (name.ends_with(".zst")) {
    return Status{Code::corrupt_data, "is named .zst and does not begin as a zstd frame does"};
  }
  return std::unique_ptr<Input>{std::make_unique<HeadedInput>(std::move(head), std::move(input))};
}

Result<bool> Window::refill() {
  std::copy(bytes_.begin() + static_cast<std::ptrdiff_t>(begin_),
            bytes_.begin() + static_cast<std::ptrdiff_t>(end_), bytes_.begin());
  end_ -= begin_;
  begin_ = 0;
  const auto got = input_->read(bytes_.data() + end_, bytes_.size() - end_);
  if (!got.ok()) return got.status();
  end_ += *got;
  at_end_ = *got == 0;
  return !at_end_;
}

}  // namespace forebay::trace
