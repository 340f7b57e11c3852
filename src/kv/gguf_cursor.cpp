#include "kv/gguf_cursor.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

namespace forebay::gguf {
namespace {

constexpr std::uint64_t kWindow = 64ULL << 10;
constexpr std::size_t kPrintable = 96;  // longer than any name in a sane file (64)

static_assert(std::endian::native == std::endian::little, "GGUF is read without swapping bytes");

}  // namespace

Result<std::size_t> MemorySource::read(std::uint64_t offset, char* to, std::size_t length) {
  if (offset >= bytes_.size()) return std::size_t{0};
  return bytes_.copy(to, length, static_cast<std::size_t>(offset));
}

Cursor::Cursor(ByteSource& bytes, std::uint64_t size, std::string name)
    : bytes_(bytes),
      size_(size),
      name_(std::move(name)),
      window_(static_cast<std::size_t>(std::min(size, kWindow))) {}

void Cursor::fail(Code code, std::string_view message) {
  if (status_.ok()) status_ = Status{code, fmt::format("{}: {}", name_, message)};
}

bool Cursor::fits(std::uint64_t bytes) {
  if (!ok()) return false;
  if (bytes <= remaining() && position_ + bytes <= kMaxHeader) return true;
  if (bytes <= remaining()) {
    fail(Code::corrupt_data,
         fmt::format("the header ends past {}, where {} ends; allowed: {} bytes", position_ + bytes,
                     what_, kMaxHeader));
    return false;
  }
  if (bytes > UINT64_MAX - position_) {
    fail(Code::corrupt_data, fmt::format("file ends at {}, {} needs {} bytes more than {}", size_,
                                         what_, bytes, position_));
  } else {
    fail(Code::corrupt_data,
         fmt::format("file ends at {}, {} needs {}", size_, what_, position_ + bytes));
  }
  return false;
}

void Cursor::skip(std::uint64_t bytes) {
  if (fits(bytes)) position_ += bytes;
}

bool Cursor::refill() {
  auto got = bytes_.read(position_, window_.data(), window_.size());
  if (!got) {
    status_ = got.status().with_context(name_);
    return false;
  }
  if (*got == 0) {
    fail(Code::invalid_argument,
         fmt::format("only the first {} of {} bytes are there, {} needs more", position_, size_,
                     what_));
    return false;
  }
  window_start_ = position_;
  window_used_ = *got;
  return true;
}

void Cursor::take(char* to, std::size_t length) {
  if (!fits(length)) return;
  while (length > 0) {
    const bool inside = position_ >= window_start_ && position_ - window_start_ < window_used_;
    if (!inside && !refill()) return;
    const auto at = static_cast<std::size_t>(position_ - window_start_);
    const std::size_t part = std::min(length, window_used_ - at);
    std::memcpy(to, window_.data() + at, part);
    to += part;
    length -= part;
    position_ += part;
  }
}

std::string Cursor::text(std::uint64_t limit) {
  const auto length = number<std::uint64_t>();
  if (!fits(length)) return {};
  if (length > limit) {
    fail(Code::corrupt_data,
         fmt::format("{} is a text of {} bytes; allowed: at most {}", what_, length, limit));
    return {};
  }
  std::string text(static_cast<std::size_t>(length), '\0');
  take(text.data(), text.size());
  return ok() ? text : std::string{};
}

std::string printable(std::string_view text) {
  std::string out{text.substr(0, kPrintable)};
  for (char& c : out) {
    if (c < ' ' || c > '~') c = '?';
  }
  if (text.size() > kPrintable) out += "...";
  return out;
}

}  // namespace forebay::gguf
