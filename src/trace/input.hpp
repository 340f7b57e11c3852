// Where a trace's bytes come from: a file, standard input, or a text; unpacked where they are
// packed by zstd.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "forebay/status.hpp"

namespace forebay::trace {

// Errors say what went wrong, not where: whoever reads knows the file and the line.
class Input {
 public:
  virtual ~Input() = default;
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;

  // At most `most` bytes into `to`; zero at the end. Errors: io_error; corrupt_data (packed
  // bytes that are damaged or cut off).
  virtual Result<std::size_t> read(char* to, std::size_t most) = 0;
  virtual double share() const noexcept = 0;  // of the bytes that are read, 0..1; 0: not known

 protected:
  Input() = default;
};

enum class FileKind {
  regular,     // can be read several times
  any_stream,  // a pipe too
};
// Errors, with the file's name: not_found, io_error; invalid_argument for what is no such file.
Result<std::unique_ptr<Input>> open_input(const std::filesystem::path& file, FileKind kind);
std::unique_ptr<Input> standard_input();
// Over a text that must live as long.
std::unique_ptr<Input> input_over(std::string_view text);

// What is in it: unpacked if it begins as zstd's frames do, else as it is. Errors: those of
// read(); unsupported by a build without zstd; corrupt_data if the name ends in .zst and the
// contents are something else.
Result<std::unique_ptr<Input>> unpacked(std::unique_ptr<Input> input, std::string_view name);
inline constexpr std::string_view kZstdMagic = "\x28\xB5\x2F\xFD";
// `head` was read of it already.
Result<std::unique_ptr<Input>> unpack_zstd(std::unique_ptr<Input> packed, std::string head);

// A part of an input that moves on: what was not used yet stands in one piece.
class Window {
 public:
  Window(std::unique_ptr<Input> input, std::size_t bytes)
      : input_(std::move(input)), bytes_(bytes) {}

  std::string_view rest() const noexcept { return {bytes_.data() + begin_, end_ - begin_}; }
  void skip(std::size_t count) noexcept { begin_ += count; }
  // Brings more bytes behind the rest, which moves; false at the end. REQUIRES: the rest does
  // not fill the window. Errors: those of Input.
  Result<bool> refill();
  bool at_end() const noexcept { return at_end_; }
  double share() const noexcept { return input_->share(); }

 private:
  std::unique_ptr<Input> input_;
  std::vector<char> bytes_;
  std::size_t begin_ = 0, end_ = 0;
  bool at_end_ = false;
};

}  // namespace forebay::trace
