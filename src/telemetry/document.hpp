// Document: a value of dictionaries and lists, written as it is told, never held as a whole.
#pragma once

#include <cstdint>
#include <string_view>

namespace forebay::detail {

// Not thread-safe. Calls make one value: a dictionary is begin_dict, then key and value in turns,
// then end_dict. Text may hold any bytes: those that are not UTF-8 are written as "\xNN".
class Document {
 public:
  Document() = default;
  Document(const Document&) = delete;
  Document& operator=(const Document&) = delete;
  virtual ~Document() = default;

  virtual void begin_dict() = 0;
  virtual void end_dict() = 0;
  virtual void begin_list() = 0;
  virtual void end_list() = 0;
  virtual void key(std::string_view name) = 0;  // must stay valid as long as the document
  virtual void text(std::string_view text) = 0;
  // A text that occurs often; it must stay valid as long as the document.
  virtual void word(std::string_view text) = 0;
  virtual void number(std::uint64_t value) = 0;
  virtual void real(double value) = 0;  // finite; else 0 is written
  virtual void boolean(bool value) = 0;
  virtual void pair(std::uint64_t first, std::uint64_t second) = 0;
  // A value that may occur again. recall(): whether it is there by now, and so is written again
  // by reference. If not, write it, then call remember() at once. Numbers are dense, from 0.
  virtual bool recall(std::uint32_t value) = 0;
  virtual void remember(std::uint32_t value) = 0;
  // REQUIRES: the value is complete.
  virtual void finish() = 0;
};

}  // namespace forebay::detail
