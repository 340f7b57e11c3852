#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <new>
#include <unordered_map>

#include "base/atomic_file.hpp"
#include "telemetry/snapshot_json.hpp"
#include "telemetry/snapshot_put.hpp"

namespace forebay {
namespace detail {
namespace {

// Numbers texts in the order of their first use. The texts must outlive it.
class Numbering {
 public:
  std::uint32_t number(std::string_view text) {
    const auto [entry, added] = numbers_.try_emplace(text, numbers_.size());
    if (added) texts_.emplace_back(text);
    return static_cast<std::uint32_t>(entry->second);
  }
  std::vector<std::string> take() { return std::move(texts_); }

 private:
  std::unordered_map<std::string_view, std::size_t> numbers_;
  std::vector<std::string> texts_;
};

struct FrameKey {
  std::uint32_t module;
  std::uint64_t offset;
  std::string_view function;
  bool operator==(const FrameKey&) const = default;
};

struct FrameHash {
  std::size_t operator()(const FrameKey& key) const noexcept {
    constexpr std::uint64_t kOdd = 0x9E3779B97F4A7C15;  // 2^64 over the golden ratio
    return (key.offset ^ (std::uint64_t{key.module} << 48U)) * kOdd ^
           std::hash<std::string_view>{}(key.function);
  }
};

using Document = SnapshotDocument<const Snapshot>;

// Stacks share most of their frames: each stands in the file once.
void number_frames(Document& document) {
  std::unordered_map<FrameKey, std::uint32_t, FrameHash> numbers;
  Numbering functions;
  document.stacks.reserve(document.snapshot.stacks.size());
  for (const std::vector<SnapshotFrame>& stack : document.snapshot.stacks) {
    std::vector<std::uint32_t>& indices = document.stacks.emplace_back();
    indices.reserve(stack.size());
    for (const SnapshotFrame& frame : stack) {
      const auto [entry, added] =
          numbers.try_emplace({frame.module, frame.offset, frame.function}, numbers.size());
      indices.push_back(entry->second);
      if (!added) continue;
      const std::uint32_t function =
          frame.function.empty() ? 0 : functions.number(frame.function) + 1;
      document.frames.frames.push_back({frame.module, frame.offset, function});
    }
  }
  document.frames.functions = functions.take();
}

void number_events(Document& document) {
  Numbering kinds;
  Numbering subjects;
  document.events.rows.reserve(document.snapshot.events.size());
  for (const SnapshotEvent& event : document.snapshot.events) {
    document.events.rows.push_back({kinds.number(event.kind), subjects.number(event.subject),
                                    event.tag, event.thread, event.seconds, event.address,
                                    event.bytes});
  }
  document.events.kinds = kinds.take();
  document.events.subjects = subjects.take();
}

}  // namespace

Status write_json(const Snapshot& snapshot, ByteSink& sink) {
  Document document{snapshot, {}, {}, {}};
  number_frames(document);
  number_events(document);
  const auto out = std::make_unique<JsonWriter>(sink);  // 64 KiB: not for the stack
  put_document(*out, document);
  return out->finish();
}

std::string snapshot_json(const Snapshot& snapshot) {
  StringSink sink;
  static_cast<void>(write_json(snapshot, sink));  // a string does not fail
  return sink.take();
}

namespace {

Status write_file(const Snapshot& snapshot, const std::string& path, const StopCheck& stop) {
  Result<AtomicFile> file = AtomicFile::create(path, stop);
  if (!file.ok()) return file.status();
  FileSink plain{*file};
  std::unique_ptr<ByteSink> compressed;
  if (path.ends_with(".zst")) compressed = compress_into(plain);
  if (Status status = write_json(snapshot, compressed ? *compressed : plain); !status.ok()) {
    return status;
  }
  return file->commit();
}

}  // namespace
}  // namespace detail

Status write_snapshot(const Snapshot& snapshot, const std::string& path, const StopCheck& stop) {
  try {
    return detail::write_file(snapshot, path, stop);
  } catch (const std::bad_alloc&) {
    return {Code::memory_refused, "the system has no memory left to write a snapshot"};
  }
}

}  // namespace forebay
