// Bytes: a size in bytes that knows it is one.
//
// Every size in Forebay's API is a Bytes, so that a count of tokens or a decimal
// gigabyte cannot be passed by mistake. Units are binary: 1 GiB = 2^30 bytes.
//
// Arithmetic is checked. `a + b`, `a - b` and `a * n` abort the process on overflow
// or on a negative result, because a wrapped size is an accounting bug, never an
// input error; for values that come from outside use checked_add and checked_mul.
//
// Thread safety: a value type.
//
//   using namespace forebay::literals;
//   forebay::Bytes line = 36_GiB;
//   std::puts(forebay::to_string(line).c_str());              // "36 GiB"
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "forebay/check.hpp"

#pragma GCC visibility push(default)
namespace forebay {

template <typename T>
class Result;

class Bytes {
 public:
  constexpr Bytes() noexcept = default;
  constexpr explicit Bytes(std::uint64_t count) noexcept : count_(count) {}

  // The limit of a budget that has none. It compares greater than every real size.
  static constexpr Bytes unlimited() noexcept {
    return Bytes{std::numeric_limits<std::uint64_t>::max()};
  }

  constexpr std::uint64_t count() const noexcept { return count_; }
  constexpr bool is_zero() const noexcept { return count_ == 0; }
  constexpr bool is_unlimited() const noexcept { return *this == unlimited(); }

  constexpr auto operator<=>(const Bytes&) const noexcept = default;

  constexpr Bytes& operator+=(Bytes other) noexcept {
    FOREBAY_CHECK(other.count_ <= unlimited().count_ - count_, "Bytes overflow in +");
    count_ += other.count_;
    return *this;
  }
  constexpr Bytes& operator-=(Bytes other) noexcept {
    FOREBAY_CHECK(other.count_ <= count_, "Bytes below zero in -");
    count_ -= other.count_;
    return *this;
  }
  friend constexpr Bytes operator+(Bytes a, Bytes b) noexcept { return a += b; }
  friend constexpr Bytes operator-(Bytes a, Bytes b) noexcept { return a -= b; }
  friend constexpr Bytes operator*(Bytes a, std::uint64_t n) noexcept {
    FOREBAY_CHECK(n == 0 || a.count_ <= unlimited().count_ / n, "Bytes overflow in *");
    return Bytes{a.count_ * n};
  }
  friend constexpr Bytes operator*(std::uint64_t n, Bytes a) noexcept { return a * n; }
  friend constexpr Bytes operator/(Bytes a, std::uint64_t n) noexcept {
    FOREBAY_CHECK(n != 0, "Bytes divided by zero");
    return Bytes{a.count_ / n};
  }
  // How many times b fits into a.
  friend constexpr std::uint64_t operator/(Bytes a, Bytes b) noexcept {
    FOREBAY_CHECK(b.count_ != 0, "Bytes divided by zero bytes");
    return a.count_ / b.count_;
  }

 private:
  std::uint64_t count_ = 0;
};

// a + b and a * n for sizes from outside; empty on overflow.
constexpr std::optional<Bytes> checked_add(Bytes a, Bytes b) noexcept {
  if (b.count() > Bytes::unlimited().count() - a.count()) return std::nullopt;
  return Bytes{a.count() + b.count()};
}
constexpr std::optional<Bytes> checked_mul(Bytes a, std::uint64_t n) noexcept {
  if (n != 0 && a.count() > Bytes::unlimited().count() / n) return std::nullopt;
  return Bytes{a.count() * n};
}

// a - b, or zero if b is larger. For room left and shortfalls, where "less than none"
// means none; never for counters.
constexpr Bytes saturating_sub(Bytes a, Bytes b) noexcept {
  return a > b ? Bytes{a.count() - b.count()} : Bytes{};
}

// The least multiple of `alignment` (a power of two) that is >= bytes; empty on overflow.
constexpr std::optional<Bytes> align_up(Bytes bytes, Bytes alignment) noexcept {
  const std::uint64_t mask = alignment.count() - 1;
  if (bytes.count() > Bytes::unlimited().count() - mask) return std::nullopt;
  return Bytes{(bytes.count() + mask) & ~mask};
}

// fraction (0..1) of a size, rounded down. Unlimited stays unlimited.
Bytes fraction_of(Bytes bytes, double fraction) noexcept;

// "0 B", "512 B", "1.5 KiB", "36 GiB", "unlimited": three significant digits at most
// after the point, none that are zero.
std::string to_string(Bytes bytes);

// Reads "4096", "64KiB", "1.5 GiB", "2GB" (decimal units are honoured as 10^9), case
// of the unit ignored. Error: invalid_argument naming the text and what is allowed.
Result<Bytes> parse_bytes(std::string_view text);

namespace literals {
constexpr Bytes operator""_B(unsigned long long n) noexcept { return Bytes{n}; }
constexpr Bytes operator""_KiB(unsigned long long n) noexcept { return Bytes{1ULL << 10} * n; }
constexpr Bytes operator""_MiB(unsigned long long n) noexcept { return Bytes{1ULL << 20} * n; }
constexpr Bytes operator""_GiB(unsigned long long n) noexcept { return Bytes{1ULL << 30} * n; }
constexpr Bytes operator""_TiB(unsigned long long n) noexcept { return Bytes{1ULL << 40} * n; }
}  // namespace literals

}  // namespace forebay
#pragma GCC visibility pop
