// What tests of event files share: a folder, made stacks, files made byte by byte.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <string_view>

#include "telemetry/event_analysis.hpp"
#include "track/event_file.hpp"
#include "track/event_format.hpp"
#include "track/event_names.hpp"

namespace forebay::testing {

// A folder of its own, gone at the end.
class Folder {
 public:
  Folder() {
    std::string name = std::filesystem::temp_directory_path() / "forebay_events_XXXXXX";
    path_ = ::mkdtemp(name.data());
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string file(std::string_view name = "events") const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

inline std::string bytes_of(const std::string& path) {
  std::ifstream in{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{in}, std::istreambuf_iterator<char>{}};
}

// ---- Made names: kMadeStacks stacks within the function made_code, three tags

inline constexpr StackId kMadeStacks = 200;
void made_code();
inline std::uintptr_t made_frame(StackId stack, std::size_t level) {
  return reinterpret_cast<std::uintptr_t>(&made_code) + 1 + stack % (level + 2);
}

inline constexpr std::array<detail::ContextName, 4> kMadeContexts{
    detail::ContextName{}, {"decoder", ""}, {"decoder/layer3", "session 7"}, {"", "tenant"}};

inline std::span<const std::uintptr_t> made_frames(StackId stack) noexcept {
  thread_local std::array<std::uintptr_t, 4> frames;
  for (std::size_t i = 0; i < frames.size(); ++i) frames[i] = made_frame(stack, i);
  return frames;
}
inline constexpr detail::EventNames kMadeNames{
    []() noexcept { return kMadeStacks; }, &made_frames,
    []() noexcept { return static_cast<detail::ContextId>(kMadeContexts.size()); },
    [](detail::ContextId id) noexcept {
      return id < kMadeContexts.size() ? kMadeContexts[id] : detail::name_of(id);
    },
    [](std::uintptr_t address) {
      return address == made_frame(1, 0) - 1 ? std::string{"made::code(int)"} : std::string{};
    }};

inline void open_made(const std::string& path, std::uint64_t most = ~0ULL) {
  const Status opened = detail::open_event_file(path, kMadeNames, most);
  ASSERT_TRUE(opened.ok()) << opened.message();
}
inline void close_made() {
  const Status closed = detail::close_event_file();
  ASSERT_TRUE(closed.ok()) << closed.message();
}

inline events::EventReport report_of(const std::string& path) {
  const auto reader = events::EventReader::open(path);
  auto report = events::analyse(reader.value());
  return std::move(report).value();
}
inline Result<events::EventReport> report_over(std::string_view bytes,
                                               const events::AnalysisOptions& options = {}) {
  return events::analyse(events::EventReader::over(bytes, "made"), options);
}

// ---- Files made by hand

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
  Numbers& allocate(std::uint64_t bytes, StackId stack) { return add(bytes << 2 | 2).add(stack); }
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
