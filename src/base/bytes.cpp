#include "forebay/bytes.hpp"

#include <fmt/format.h>

#include <array>
#include <cctype>
#include <charconv>
#include <cmath>

#include "forebay/status.hpp"

namespace forebay {
namespace {

constexpr std::array<std::string_view, 6> kUnits{"B", "KiB", "MiB", "GiB", "TiB", "PiB"};

// The multiplier of a unit as it is written in configurations; 0 if it is none.
std::uint64_t multiplier_of(std::string_view unit) {
  std::string lower;
  for (const char c : unit) {
    lower += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  if (lower.empty() || lower == "b") return 1;
  constexpr std::string_view kPrefixes = "kmgtp";
  const auto power = kPrefixes.find(lower[0]);
  if (power == std::string_view::npos) return 0;
  const std::string_view rest = std::string_view{lower}.substr(1);
  if (rest == "ib" || rest.empty()) return 1ULL << (10 * (power + 1));
  if (rest != "b") return 0;
  std::uint64_t decimal = 1;
  for (std::size_t i = 0; i <= power; ++i) decimal *= 1000;
  return decimal;
}

Status bad_size(std::string_view text) {
  return {Code::invalid_argument,
          fmt::format("'{}' is not a size; allowed: a number and a unit, as 512MiB, 1.5GiB, 2GB",
                      text)};
}

}  // namespace

Bytes fraction_of(Bytes bytes, double fraction) noexcept {
  if (bytes.is_unlimited()) return bytes;
  const double part = std::floor(static_cast<double>(bytes.count()) * fraction);
  // Near 2^64 a double is coarser than a byte, and may round above what it came from.
  if (fraction <= 1 && part >= static_cast<double>(bytes.count())) return bytes;
  return Bytes{static_cast<std::uint64_t>(part)};
}

std::string to_string(Bytes bytes) {
  if (bytes.is_unlimited()) return "unlimited";
  auto value = static_cast<double>(bytes.count());
  std::size_t unit = 0;
  while (value >= 1024.0 && unit + 1 < kUnits.size()) {
    value /= 1024.0;
    ++unit;
  }
  const int decimals = value >= 100.0 ? 0 : value >= 10.0 ? 1 : 2;
  std::string text = fmt::format("{:.{}f}", value, unit == 0 ? 0 : decimals);
  if (text.find('.') != std::string::npos) {
    text.erase(text.find_last_not_of('0') + 1);
    if (text.back() == '.') text.pop_back();
  }
  return fmt::format("{} {}", text, kUnits[unit]);
}

Result<Bytes> parse_bytes(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return bad_size(text);
  const auto last = text.find_last_not_of(" \t");
  const std::string_view trimmed = text.substr(first, last - first + 1);
  const auto number_end = trimmed.find_first_not_of("0123456789.");
  const std::string_view number = trimmed.substr(0, number_end);
  std::string_view unit =
      number_end == std::string_view::npos ? std::string_view{} : trimmed.substr(number_end);
  while (!unit.empty() && unit.front() == ' ') unit.remove_prefix(1);

  const std::uint64_t multiplier = multiplier_of(unit);
  if (multiplier == 0 || number.empty()) return bad_size(text);
  if (number.find('.') == std::string_view::npos) {  // whole numbers stay exact
    std::uint64_t whole = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), whole);
    if (error != std::errc{} || end != number.data() + number.size()) return bad_size(text);
    const auto bytes = checked_mul(Bytes{whole}, multiplier);
    return bytes && !bytes->is_unlimited() ? Result<Bytes>{*bytes} : bad_size(text);
  }
  double value = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  if (error != std::errc{} || end != number.data() + number.size()) return bad_size(text);
  value *= static_cast<double>(multiplier);
  if (!(value < 9.2e18)) return bad_size(text);
  return Bytes{static_cast<std::uint64_t>(value)};
}

}  // namespace forebay
