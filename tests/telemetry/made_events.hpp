// Files of events made number by number.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "track/event_format.hpp"

namespace forebay::testing {

// Numbers, one after the other.
class Numbers {
 public:
  Numbers& add(std::uint64_t value) {
    std::array<std::byte, 16> place{};
    const auto* const end = detail::put_number(place.data(), value);
    bytes_.append(reinterpret_cast<const char*>(place.data()),
                  static_cast<std::size_t>(end - place.data()));
    return *this;
  }
  Numbers& text(std::string_view value) {
    add(value.size());
    bytes_ += value;
    return *this;
  }
  Numbers& allocate(std::uint64_t bytes) { return add(bytes << 2); }
  Numbers& allocate(std::uint64_t bytes, std::uint32_t stack) {
    return add(bytes << 2 | 2).add(stack);
  }
  Numbers& free(std::uint64_t distance) { return add(distance << 1 | 1); }
  Numbers& wait_ms(std::uint64_t time) { return add(1).add(detail::kTickControl).add(time * 1000); }
  Numbers& context(std::uint64_t id) { return add(1).add(detail::kContextControl).add(id); }
  Numbers& free_other(std::uint64_t lane, std::uint64_t difference) {
    return add(1).add(lane + 1).add(detail::from_difference(difference));
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

inline constexpr std::uint64_t kMadeStart = 1'000'000'000'000;  // of the steady clock

class MadeFile {
 public:
  MadeFile() {
    chunk(detail::ChunkKind::begin, Numbers{}.add(77).add(0).add(kMadeStart).text("p"));
  }
  MadeFile& chunk(detail::ChunkKind kind, const Numbers& payload, std::uint16_t lane = 0,
                  std::uint64_t first_number = 0, std::uint64_t ms = 0,
                  std::uint64_t lane_first = 0) {
    detail::ChunkHeader header;
    header.magic = detail::kChunkMagic;
    header.version = detail::kEventVersion;
    header.kind = kind;
    header.length = static_cast<std::uint32_t>(payload.bytes().size());
    header.lane = lane;
    header.first_number = first_number;
    header.lane_first = lane_first;
    header.time = kMadeStart + ms * 1'000'000;
    header.checksum =
        detail::checksum_of(header, reinterpret_cast<const std::byte*>(payload.bytes().data()));
    bytes_.append(reinterpret_cast<const char*>(&header), sizeof header);
    bytes_ += payload.bytes();
    return *this;
  }
  MadeFile& events(std::uint16_t lane, std::uint64_t first_number, std::uint64_t ms,
                   const Numbers& payload, std::uint64_t lane_first = 0) {
    return chunk(detail::ChunkKind::events, payload, lane, first_number, ms, lane_first);
  }
  MadeFile& end(std::uint64_t ms, std::uint64_t dropped = 0) {
    return chunk(detail::ChunkKind::end, Numbers{}.add(dropped).add(kMadeStart + ms * 1'000'000));
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

}  // namespace forebay::testing
