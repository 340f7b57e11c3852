#include "track/event_format.hpp"

#include <array>

namespace forebay::detail {
namespace {

constexpr std::uint64_t kPrime1 = 0x9E3779B185EBCA87;
constexpr std::uint64_t kPrime2 = 0xC2B2AE3D27D4EB4F;
constexpr std::uint64_t kPrime3 = 0x165667B19E3779F9;
constexpr std::uint64_t kPrime4 = 0x85EBCA77C2B2AE63;
constexpr std::uint64_t kPrime5 = 0x27D4EB2F165667C5;

template <typename Word>
Word word_at(const std::byte* bytes) noexcept {
  Word word;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}

std::uint64_t mixed(std::uint64_t lane, std::uint64_t word) noexcept {
  return std::rotl(lane + word * kPrime2, 31) * kPrime1;
}

std::uint64_t merged(std::uint64_t hash, std::uint64_t lane) noexcept {
  return (hash ^ mixed(0, lane)) * kPrime1 + kPrime4;
}

// Whole strips of 32 bytes; `bytes` is left at what is behind them.
std::uint64_t hash_of_strips(const std::byte*& bytes, std::size_t count,
                             std::uint64_t start) noexcept {
  std::array<std::uint64_t, 4> lanes{start + kPrime1 + kPrime2, start + kPrime2, start,
                                     start - kPrime1};
  for (const std::byte* const end = bytes + count / 32 * 32; bytes != end; bytes += 32) {
    for (std::size_t i = 0; i < 4; ++i) {
      lanes[i] = mixed(lanes[i], word_at<std::uint64_t>(bytes + 8 * i));
    }
  }
  std::uint64_t hash = std::rotl(lanes[0], 1) + std::rotl(lanes[1], 7) + std::rotl(lanes[2], 12) +
                       std::rotl(lanes[3], 18);
  for (const std::uint64_t lane : lanes) hash = merged(hash, lane);
  return hash;
}

}  // namespace

std::uint64_t checksum_of(const std::byte* bytes, std::size_t count, std::uint64_t start) noexcept {
  const std::byte* const end = bytes + count;
  std::uint64_t hash = count >= 32 ? hash_of_strips(bytes, count, start) : start + kPrime5;
  hash += count;
  for (; end - bytes >= 8; bytes += 8) {
    hash = std::rotl(hash ^ mixed(0, word_at<std::uint64_t>(bytes)), 27) * kPrime1 + kPrime4;
  }
  if (end - bytes >= 4) {
    hash = std::rotl(hash ^ word_at<std::uint32_t>(bytes) * kPrime1, 23) * kPrime2 + kPrime3;
    bytes += 4;
  }
  for (; bytes != end; ++bytes) {
    hash = std::rotl(hash ^ static_cast<std::uint64_t>(*bytes) * kPrime5, 11) * kPrime1;
  }
  hash = (hash ^ hash >> 33) * kPrime2;
  hash = (hash ^ hash >> 29) * kPrime3;
  return hash ^ hash >> 32;
}

}  // namespace forebay::detail
