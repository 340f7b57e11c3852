// JsonDocument: a Document as JSON (RFC 8259), without spaces.
#pragma once

#include "telemetry/document.hpp"
#include "telemetry/output.hpp"

namespace forebay::detail {

class JsonDocument final : public Document {
 public:
  explicit JsonDocument(Output& out) : out_(out) {}

  void begin_dict() override { begin('{'); }
  void end_dict() override { end('}'); }
  void begin_list() override { begin('['); }
  void end_list() override { end(']'); }
  void key(std::string_view name) override;
  void text(std::string_view text) override;
  void word(std::string_view text) override { JsonDocument::text(text); }
  void number(std::uint64_t value) override;
  void real(double value) override;
  void boolean(bool value) override;
  void pair(std::uint64_t first, std::uint64_t second) override;
  bool recall(std::uint32_t) override { return false; }
  void remember(std::uint32_t) override {}
  void finish() override { out_.put('\n'); }
  // Between elements: a line's end, so that tools that read by lines can take the file.
  void line_break();

 private:
  void separate();
  void begin(char bracket);
  void end(char bracket);
  void quoted(std::string_view text);

  Output& out_;
  bool comma_ = false;  // something stands before in this list or dictionary
  bool broken_ = false;
};

}  // namespace forebay::detail
