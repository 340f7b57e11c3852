#include "cache/image.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/text.hpp"
#include "track/event_format.hpp"

namespace forebay::detail {
namespace {

const std::byte* bytes_of(const void* object) noexcept {
  return static_cast<const std::byte*>(object);
}

Status cannot(const std::string& path, std::string_view what) {
  const int error = errno;
  return {Code::io_error,
          fmt::format("{}: {}: {}", printable_text(path), what, std::strerror(error))};
}

}  // namespace

std::uint64_t image_checksum(ImageHeader header, std::string_view type) noexcept {
  header.checksum = 0;
  return checksum_of(bytes_of(type.data()), type.size(),
                     checksum_of(bytes_of(&header), sizeof header, 0));
}

std::uint64_t image_checksum(ImageRecord record, std::uint64_t before) noexcept {
  record.checksum = 0;
  return checksum_of(bytes_of(&record), sizeof record, before);
}

std::uint64_t image_checksum_of(std::string_view bytes, std::uint64_t before) noexcept {
  for (; !bytes.empty(); bytes.remove_prefix(std::min(bytes.size(), kImagePiece))) {
    before = checksum_of(bytes_of(bytes.data()), std::min(bytes.size(), kImagePiece), before);
  }
  return before;
}

Result<ImageReader> ImageReader::open(const std::string& path, std::string_view type) {
  // Not to wait for the writer of a pipe; nothing else is changed by it.
  ImageReader reader{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK), path};
  if (reader.file_ < 0) {
    if (errno != ENOENT && errno != ENOTDIR) return cannot(path, "cannot open");
    return Status{Code::not_found, fmt::format("{}: no such file", printable_text(path))};
  }
  struct stat facts {};
  if (::fstat(reader.file_, &facts) != 0 || !S_ISREG(facts.st_mode)) {
    return Status{Code::invalid_argument,
                  fmt::format("{}: is no regular file", printable_text(path))};
  }
  reader.size_ = static_cast<std::uint64_t>(facts.st_size);
  if (Status status = reader.open_header(type); !status.ok()) return status;
  return reader;
}

ImageReader::ImageReader(ImageReader&& other) noexcept
    : path_(std::move(other.path_)),
      buffer_(std::move(other.buffer_)),
      piece_(std::move(other.piece_)),
      buffer_at_(other.buffer_at_),
      file_(std::exchange(other.file_, -1)),
      size_(other.size_),
      position_(other.position_),
      first_(other.first_),
      record_at_(other.record_at_),
      entries_(other.entries_),
      sum_(other.sum_),
      header_(other.header_) {}

ImageReader::~ImageReader() {
  if (file_ >= 0) ::close(file_);
}

Status ImageReader::corrupt(std::uint64_t at, std::string_view why) const {
  return {Code::corrupt_data, fmt::format("{}: at byte {}: {}", printable_text(path_), at, why)};
}

Status ImageReader::open_header(std::string_view type) {
  if (Status status = take(&header_, sizeof header_, "the header"); !status.ok()) return status;
  if (header_.magic != kImageMagic) {
    return corrupt(0, fmt::format("'{}' is found, and '{}' is how a saved cache begins",
                                  printable_text({header_.magic.data(), header_.magic.size()}),
                                  printable_text({kImageMagic.data(), kImageMagic.size()})));
  }
  if (header_.version != kImageVersion) {
    return corrupt(offsetof(ImageHeader, version),
                   fmt::format("it has version {} of the format, and {} is expected",
                               header_.version, kImageVersion));
  }
  if (header_.type_length > kImageMostType) {
    return corrupt(offsetof(ImageHeader, type_length),
                   fmt::format("the name of its types has {} bytes, and at most {} are allowed",
                               header_.type_length, kImageMostType));
  }
  std::string found(header_.type_length, '\0');
  Status status = take(found.data(), found.size(), "the name of its types");
  if (!status.ok()) return status;
  const std::uint64_t sum = image_checksum(header_, found);
  if (sum != header_.checksum) {
    return corrupt(offsetof(ImageHeader, checksum),
                   fmt::format("the header's checksum is {:#018x}, and {:#018x} is expected",
                               header_.checksum, sum));
  }
  if (found != type) {
    return corrupt(sizeof header_, fmt::format("it holds '{}', and '{}' is expected",
                                               printable_text(found), printable_text(type)));
  }
  first_ = position_;
  sum_ = sum;
  return {};
}

void ImageReader::rewind() noexcept {
  buffer_.clear();
  buffer_at_ = 0;
  position_ = first_;
  entries_ = 0;
  sum_ = header_.checksum;
}

// REQUIRES: the buffer is used up, and there is more.
Status ImageReader::fill() {
  buffer_at_ = 0;
  buffer_.resize(static_cast<std::size_t>(std::min<std::uint64_t>(left(), kImagePiece)));
  ssize_t got = 0;
  do {
    got = ::pread(file_, buffer_.data(), buffer_.size(), static_cast<off_t>(position_));
  } while (got < 0 && errno == EINTR);
  buffer_.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
  if (got < 0) return cannot(path_, "cannot read");
  if (got == 0) return corrupt(position_, "the file has been cut while it was read");
  return {};
}

Status ImageReader::take(void* to, std::uint64_t length, std::string_view what) {
  if (length > left()) {
    return corrupt(position_, fmt::format("{} needs {} bytes, and the file ends after {}", what,
                                          length, left()));
  }
  auto* at = static_cast<char*>(to);
  while (length != 0) {
    if (buffer_at_ == buffer_.size()) {
      if (Status status = fill(); !status.ok()) return status;
    }
    const auto part =
        static_cast<std::size_t>(std::min<std::uint64_t>(length, buffer_.size() - buffer_at_));
    std::memcpy(at, buffer_.data() + buffer_at_, part);
    at += part;
    buffer_at_ += part;
    position_ += part;
    length -= part;
  }
  return {};
}

Result<ImageRecord> ImageReader::next() {
  record_at_ = position_;
  ImageRecord record;
  if (Status status = take(&record, sizeof record, "a record"); !status.ok()) return status;
  if (record.kind == ImageRecordKind::end) {
    if (Status status = check_end(record); !status.ok()) return status;
    return record;
  }
  if (record.kind != ImageRecordKind::entry) {
    return corrupt(record_at_,
                   fmt::format("a record of kind {}, and 1 (entry) or 2 (end) are expected",
                               static_cast<std::uint32_t>(record.kind)));
  }
  if (record.key_length > left() || record.value_length > left() - record.key_length) {
    return corrupt(record_at_,
                   fmt::format("a key of {} bytes and a value of {}, and the file has {} more",
                               record.key_length, record.value_length, left()));
  }
  if (record.remaining < 0) {
    return corrupt(record_at_, fmt::format("an entry with {} ns to live, and at least 0 are "
                                           "allowed",
                                           record.remaining));
  }
  ++entries_;
  return record;
}

Status ImageReader::check_end(const ImageRecord& record) {
  const std::uint64_t sum = image_checksum(record, sum_);
  if (sum != record.checksum) {
    return corrupt(record_at_, fmt::format("the file's checksum is {:#018x}, and {:#018x} is "
                                           "expected",
                                           record.checksum, sum));
  }
  if (record.key_length != entries_) {
    return corrupt(record_at_, fmt::format("the end speaks of {} entries, and {} are there",
                                           record.key_length, entries_));
  }
  if (left() != 0) {
    return corrupt(position_,
                   fmt::format("{} bytes behind the end, and none are expected", left()));
  }
  return {};
}

Status ImageReader::pass(std::uint64_t length, std::string* keep, std::uint64_t& sum) {
  while (length != 0) {
    const auto part = static_cast<std::size_t>(std::min<std::uint64_t>(length, kImagePiece));
    std::string& to = keep != nullptr ? *keep : piece_;
    const std::size_t before = keep != nullptr ? to.size() : 0;
    to.resize(before + part);
    if (Status status = take(to.data() + before, part, "an entry"); !status.ok()) return status;
    sum = image_checksum_of({to.data() + before, part}, sum);
    length -= part;
  }
  return {};
}

Status ImageReader::pass_entry(const ImageRecord& record, std::string* key, std::string* value) {
  std::uint64_t sum = image_checksum(record, sum_);
  if (Status status = pass(record.key_length, key, sum); !status.ok()) return status;
  if (Status status = pass(record.value_length, value, sum); !status.ok()) return status;
  if (sum != record.checksum) {
    return corrupt(record_at_, fmt::format("an entry's checksum is {:#018x}, and {:#018x} is "
                                           "expected",
                                           record.checksum, sum));
  }
  sum_ = sum;
  return {};
}

Status ImageReader::skip(const ImageRecord& record) { return pass_entry(record, nullptr, nullptr); }

Status ImageReader::read(const ImageRecord& record, std::string& key, std::string& value) {
  key.clear();
  value.clear();
  return pass_entry(record, &key, &value);
}

}  // namespace forebay::detail
