// What a snapshot says of the process and the moment; all of it safe in a handler of signals.
#pragma once

#include <array>
#include <cstdint>
#include <ctime>
#include <string_view>

namespace forebay::detail {

// "2026-01-02T03:04:05Z" of seconds since 1970. Years 0 to 9999.
class UtcText {
 public:
  explicit UtcText(std::int64_t seconds) noexcept;
  static UtcText now() noexcept { return UtcText{std::time(nullptr)}; }
  std::string_view view() const noexcept { return {text_.data(), text_.size()}; }

 private:
  std::array<char, 20> text_{};
};

// Resident bytes of this process, by /proc; 0 if it does not say.
std::uint64_t resident_bytes() noexcept;

}  // namespace forebay::detail
