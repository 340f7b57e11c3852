// What the numbers in a file of events mean, written to it as they come up.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "track/context.hpp"
#include "track/event_format.hpp"
#include "track/event_sink.hpp"
#include "track/stack.hpp"

namespace forebay::detail {

// Where names come from: the process; in tests, made ones.
struct EventNames {
  StackId (*stacks_used)() noexcept;
  std::span<const std::uintptr_t> (*frames_of)(StackId) noexcept;
  ContextId (*contexts_used)() noexcept;
  ContextName (*name_of)(ContextId) noexcept;
  // Slow, allocates; empty: not known.
  std::string (*function_of)(std::uintptr_t address);
};

// Chunks of names, filled one after the other. Takes no memory of its own.
class NameChunks {
 public:
  void start(EventSink& sink, ChunkKind kind) noexcept;
  // REQUIRES: at most kMostRecord bytes between two calls of record().
  void record() noexcept;
  void number(std::uint64_t value) noexcept;
  void text(std::string_view value) noexcept;  // its front, if it is longer than kMostText
  void finish() noexcept;

  static constexpr std::size_t kMostText = 4096;
  static constexpr std::size_t kMostRecord = 2 * (kMostText + 16);

 private:
  EventSink* sink_ = nullptr;
  ChunkKind kind_{};
  std::size_t used_ = 0;
  std::array<std::byte, kChunkBytes> bytes_{};
};

// What the file knows already, and what it needs. Not thread-safe; takes no memory, and no lock
// but those of the names' source.
class NameWriter {
 public:
  void start(const EventNames& names, EventSink& sink) noexcept;
  // Contexts and stacks that are new since the last call, and the modules these lie in.
  void write_new() noexcept;
  // Names of all functions that the stacks' frames are in. Allocates.
  void write_functions();
  NameChunks& chunks() noexcept { return chunks_; }  // between calls of the others

 private:
  struct Range {
    std::uintptr_t start = 0, end = 0;
    bool operator==(const Range&) const = default;
  };
  struct MapLine {
    Range range;
    std::uint64_t offset = 0;
    std::string_view path;
  };
  void write_contexts() noexcept;
  void write_stacks() noexcept;
  void write_modules_of(StackId first, StackId last) noexcept;
  void write_modules() noexcept;
  void write_module(std::string_view line) noexcept;
  void write_stack(StackId id) noexcept;
  void write_late_stacks() noexcept;
  bool knows(std::uintptr_t address) noexcept;
  static bool parse(std::string_view line, MapLine& map) noexcept;

  const EventNames* names_ = nullptr;
  EventSink* sink_ = nullptr;
  NameChunks chunks_;
  std::uint32_t contexts_ = 0;  // written: below this
  StackId stacks_ = 0;          // written: up to this
  // Stacks whose number was given out, but whose frames were not to be seen yet.
  std::array<StackId, 64> late_{};
  std::size_t lates_ = 0;
  std::array<Range, 2048> modules_{};
  std::size_t module_count_ = 0;
  std::size_t last_module_ = 0;
};

}  // namespace forebay::detail
