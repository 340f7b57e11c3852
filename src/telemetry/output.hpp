// Output: text on its way to a file, and the first thing that went wrong.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "base/atomic_file.hpp"
#include "forebay/status.hpp"

namespace forebay::detail {

// Writers need not look at each piece: the first error is kept, and what comes after it is
// dropped. (AtomicFile has the buffer.) Not thread-safe.
class Output {
 public:
  explicit Output(AtomicFile& file) : file_(file) {}
  void put(std::string_view bytes) {
    if (status_.ok()) status_ = file_.write(bytes);
  }
  void put(char byte) { put(std::string_view{&byte, 1}); }
  void fail(Status status) {
    if (status_.ok()) status_ = std::move(status);
  }
  const Status& status() const noexcept { return status_; }

 private:
  AtomicFile& file_;
  Status status_;
};

// `text` as UTF-8: as it is if it is valid; else with each byte that is not as "\xNN", so that
// names that differ stay different.
std::string to_utf8(std::string_view text);

}  // namespace forebay::detail
