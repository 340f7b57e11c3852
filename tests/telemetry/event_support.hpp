// What tests of event files share: a folder, and made stacks.
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
#include "telemetry/made_events.hpp"
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

}  // namespace forebay::testing
