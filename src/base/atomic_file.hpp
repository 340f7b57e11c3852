// AtomicFile: a file that is whole or absent.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "forebay/status.hpp"

// Used by component forebay::telemetry, which may be a library of its own.
#pragma GCC visibility push(default)
namespace forebay::detail {

// Writes a new file (0600) beside its place and renames it there when it is complete. Until then,
// and after any failure, what was at the place stays; the temporary file goes with the object. A
// process that is killed leaves it behind (".forebay-*.tmp"). A symbolic link at the place is
// refused: to replace it would take away what somebody pointed there, as /dev/stdout. (One that
// comes there while the file is written is replaced, never followed.) Not thread-safe.
class AtomicFile {
 public:
  // Errors: invalid_argument (no name of a file, or something there that is none), io_error.
  // `stop` is asked before each part that goes to the disk; true: write() and commit() fail with
  // Code::interrupted.
  static Result<AtomicFile> create(const std::string& path, std::function<bool()> stop = {});

  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&& other) noexcept;
  ~AtomicFile() { discard(); }

  // Errors: io_error, interrupted, which all later calls repeat.
  Status write(std::string_view bytes);
  // Brings all to the disk and puts the file in its place. Errors: those of write(). Call it once,
  // last.
  Status commit();

 private:
  AtomicFile(std::string path, int directory) : path_(std::move(path)), directory_(directory) {}
  Status open_temporary();
  Status flush();
  Status failed(std::string_view what);
  void discard() noexcept;

  std::string path_;
  std::string name_;       // in its directory
  std::string temporary_;  // likewise; empty: none
  std::string buffer_;
  std::function<bool()> stop_;  // empty: never
  int directory_ = -1;
  int file_ = -1;
  Status status_;
};

}  // namespace forebay::detail
#pragma GCC visibility pop
