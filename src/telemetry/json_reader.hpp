// JsonReader: JSON as it comes, without a tree, from somebody who is not to be trusted.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "telemetry/byte_stream.hpp"

namespace forebay::detail {

// The caller asks for what it expects; the first thing that is otherwise ends the reading: from
// then on ok() is false, loops end, and values are left as they were. Nothing is read by
// recursion. Bounded: the depth (64), a string (1 MiB), a run of white space (64 KiB), and by
// `most` the memory that the caller says it takes (charge()) and a quarter of the text.
// Not thread-safe.
class JsonReader {
 public:
  JsonReader(ByteSource& source, std::string name, Bytes most);

  bool ok() const noexcept { return status_.ok(); }
  // "FILE: blocks.address[17]: expected a whole number (at byte 1234)": corrupt_data; or that
  // `most` is not enough: memory_refused; or what the source said.
  const Status& status() const noexcept { return status_; }

  // for (reader.begin_object(); reader.next_key();) … reader.key() …
  void begin_object() { begin('{', "an object"); }
  bool next_key();
  std::string_view key() const noexcept { return levels_[depth_ - 1].key; }
  // for (reader.begin_array(); reader.next_element();) … reader.index() …
  void begin_array() { begin('[', "an array"); }
  bool next_element();
  std::uint64_t index() const noexcept { return levels_[depth_ - 1].index; }
  // After the one value of the file.
  void expect_end();

  void read(std::uint64_t& number) {
    read_unsigned(number, std::numeric_limits<std::uint64_t>::max());
  }
  void read(std::uint32_t& number);
  void read(std::int64_t& number);
  void read(double& number);
  void read(bool& flag);
  void read(std::string& text);
  // Whether null is next; it is then read.
  bool read_null();
  void skip();

  // That what is being read is not as it should be: "expected one of a, b".
  void fail(std::string_view what);
  // Counts memory that is about to be taken. False: it is too much.
  bool charge(std::uint64_t bytes);

 private:
  struct Level {
    std::string key;
    std::uint64_t index = 0;
    bool object = false;
  };

  static constexpr int kEnd = -1;

  int peek();
  int peek_token();  // the next character that is no white space
  bool refill();
  void begin(char bracket, std::string_view what);
  bool next(char bracket);  // whether another element follows
  void read_unsigned(std::uint64_t& number, std::uint64_t most);
  bool read_number(std::string_view& text, std::string_view what);
  bool read_word(std::string_view word);
  void read_string(std::string& text);
  void read_escape(std::string& text);
  std::uint32_t read_hex();
  void skip_value();
  void stop(Status status);
  std::string where() const;

  ByteSource& source_;
  std::string name_;
  std::uint64_t most_;
  std::uint64_t charged_ = 0;
  std::string_view chunk_;
  std::size_t at_ = 0;        // in chunk_
  std::uint64_t before_ = 0;  // bytes before chunk_
  std::vector<Level> levels_;
  std::size_t depth_ = 0;  // levels in use
  bool fresh_ = false;     // right after an opening bracket
  char number_[64];        // NOLINT(cppcoreguidelines-avoid-c-arrays)
  std::string skipped_;
  Status status_;
};

}  // namespace forebay::detail
