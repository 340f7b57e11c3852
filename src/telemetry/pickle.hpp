// PickleDocument: a Document as Python's pickle, protocol 4 (PEP 3154).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "telemetry/document.hpp"
#include "telemetry/output.hpp"

namespace forebay::detail {

// Only the opcodes that PyTorch's viewer page knows: a list goes out in batches of 1000, as
// Python does it, because the page takes a batch as arguments of one call.
class PickleDocument final : public Document {
 public:
  explicit PickleDocument(Output& out);

  void begin_dict() override { begin(Kind::dict); }
  void end_dict() override;
  void begin_list() override { begin(Kind::list); }
  void end_list() override;
  void key(std::string_view name) override;
  void text(std::string_view text) override;
  void word(std::string_view text) override;
  void number(std::uint64_t value) override;
  void real(double value) override;
  void boolean(bool value) override;
  void pair(std::uint64_t first, std::uint64_t second) override;
  bool recall(std::uint32_t value) override;
  void remember(std::uint32_t value) override;
  void finish() override;

 private:
  enum class Kind : std::uint8_t { list, dict };
  struct Open {
    Kind kind;
    std::uint32_t batch;  // elements since the last MARK; 0: there is none
  };

  void begin(Kind kind);
  void before_value();
  void after_value();
  void write_text(std::string_view text);
  void write_word(std::string_view text);
  void write_number(std::uint64_t value);
  void memoize(std::uint32_t& slot);
  void get(std::uint32_t slot);
  void opcode(unsigned char code) { frame_ += static_cast<char>(code); }
  void little_endian(std::uint64_t value, int bytes, std::string& to);
  void flush_frame();

  Output& out_;
  std::string frame_;
  std::vector<Open> open_;
  std::uint32_t memo_ = 0;                                     // entries so far
  std::unordered_map<std::string_view, std::uint32_t> words_;  // its entry, plus one
  std::vector<std::uint32_t> values_;                          // likewise; 0: not there yet
};

}  // namespace forebay::detail
