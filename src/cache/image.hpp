// The file of a saved cache: what it looks like, and reading it.
//
//   header    ImageHeader, then the text that says what keys and values are
//   entries   ImageRecord, key, value; the one that is to go first stands first
//   end       ImageRecord with the number of entries as key_length, and nothing behind it
//
// Numbers are little endian. Each checksum goes on from the one before it: that of a record says
// that the record is whole and that all before it is, and that of the end says so of the file.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "forebay/status.hpp"

namespace forebay::detail {

static_assert(std::endian::native == std::endian::little, "the file has this machine's order");

inline constexpr std::array<char, 8> kImageMagic{'\x89', 'F', 'B', 'C', 'A', 'C', 'H', 'E'};
inline constexpr std::uint32_t kImageVersion = 1;
inline constexpr std::uint32_t kImageMostType = 4096;
// Long keys and values are summed, and read, in pieces of this many bytes.
inline constexpr std::size_t kImagePiece = 256 << 10;

struct ImageHeader {
  std::array<char, 8> magic = kImageMagic;
  std::uint32_t version = kImageVersion;
  std::uint32_t type_length = 0;
  std::int64_t saved_at = 0;   // nanoseconds since 1970
  std::uint64_t overhead = 0;  // of each charge: the cache's own bookkeeping
  std::uint64_t checksum = 0;  // with 0 here, and of the text
};
static_assert(sizeof(ImageHeader) == 40);

enum class ImageRecordKind : std::uint32_t { entry = 1, end = 2 };

struct ImageRecord {
  ImageRecordKind kind = ImageRecordKind::entry;
  float cost = 0;
  float utility = 0;
  std::uint32_t unused = 0;
  std::uint64_t key_length = 0;
  std::uint64_t value_length = 0;
  std::uint64_t charge = 0;
  std::int64_t remaining = 0;  // nanoseconds to live, from saved_at on; 0: without end
  std::uint64_t checksum = 0;  // with 0 here; goes on with key and value
};
static_assert(sizeof(ImageRecord) == 56);

std::uint64_t image_checksum(ImageHeader header, std::string_view type) noexcept;
// `before`: of the record before it, or of the header.
std::uint64_t image_checksum(ImageRecord record, std::uint64_t before) noexcept;
// Goes on with all of a key or a value.
std::uint64_t image_checksum_of(std::string_view bytes, std::uint64_t before) noexcept;

// Reads a file from its start to its end, and believes nothing: whatever it gives has passed its
// checksum, and no memory is taken for a length that the file does not have. Messages begin with
// the path. Thread safety: none.
class ImageReader {
 public:
  // Errors: not_found, io_error, invalid_argument (no regular file), corrupt_data (no file of
  // this kind and version, damaged, or of other types).
  static Result<ImageReader> open(const std::string& path, std::string_view type);

  ImageReader(ImageReader&& other) noexcept;
  ImageReader& operator=(ImageReader&&) = delete;
  ~ImageReader();

  const ImageHeader& header() const noexcept { return header_; }
  // The next record; of kind end, the last one. An entry's must be followed by skip() or read().
  Result<ImageRecord> next();
  // Passes key and value by, and checks them, in pieces.
  Status skip(const ImageRecord& record);
  // The same, and keeps them.
  Status read(const ImageRecord& record, std::string& key, std::string& value);
  // Back to the first record.
  void rewind() noexcept;
  // That the entry last read cannot be, for this reason.
  Status refused(const Status& why) const { return corrupt(record_at_, why.message()); }

 private:
  ImageReader(int file, std::string path) noexcept : path_(std::move(path)), file_(file) {}
  // With the path and the place.
  Status corrupt(std::uint64_t at, std::string_view why) const;
  Status open_header(std::string_view type);
  Status take(void* to, std::uint64_t length, std::string_view what);
  // Appends to `keep`, if it is given, and sums.
  Status pass(std::uint64_t length, std::string* keep, std::uint64_t& sum);
  Status pass_entry(const ImageRecord& record, std::string* key, std::string* value);
  Status fill();
  Status check_end(const ImageRecord& record);
  std::uint64_t left() const noexcept { return size_ - position_; }

  std::string path_;
  std::string buffer_;
  std::string piece_;  // of what is passed by
  std::size_t buffer_at_ = 0;
  int file_;
  std::uint64_t size_ = 0;
  std::uint64_t position_ = 0;  // of what is given next
  std::uint64_t first_ = 0;     // of the first record
  std::uint64_t record_at_ = 0;
  std::uint64_t entries_ = 0;
  std::uint64_t sum_ = 0;  // of the record before
  ImageHeader header_;
};

}  // namespace forebay::detail
