#include "track/event_names.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <unordered_set>

namespace forebay::detail {

void NameChunks::start(EventSink& sink, ChunkKind kind) noexcept {
  sink_ = &sink;
  kind_ = kind;
  used_ = sizeof(ChunkHeader);
}

void NameChunks::record() noexcept {
  if (used_ + kMostRecord > bytes_.size()) finish();
}

void NameChunks::number(std::uint64_t value) noexcept {
  used_ = static_cast<std::size_t>(put_number(bytes_.data() + used_, value) - bytes_.data());
}

void NameChunks::text(std::string_view value) noexcept {
  value = value.substr(0, kMostText);
  number(value.size());
  if (!value.empty()) std::memcpy(bytes_.data() + used_, value.data(), value.size());
  used_ += value.size();
}

void NameChunks::finish() noexcept {
  if (used_ == sizeof(ChunkHeader)) return;
  ChunkHeader header;
  header.magic = kChunkMagic;
  header.version = kEventVersion;
  header.kind = kind_;
  header.length = static_cast<std::uint32_t>(used_ - sizeof header);
  header.checksum = checksum_of(header, bytes_.data() + sizeof header);
  std::memcpy(bytes_.data(), &header, sizeof header);
  static_cast<void>(sink_->append({bytes_.data(), used_}));
  used_ = sizeof header;
}

void NameWriter::start(const EventNames& names, EventSink& sink) noexcept {
  names_ = &names;
  sink_ = &sink;
  contexts_ = 0;
  stacks_ = 0;
  lates_ = 0;
  module_count_ = 0;
  // The context of what found no number is not among those used.
  chunks_.start(sink, ChunkKind::contexts);
  chunks_.number(kMaxContexts - 1);
  const ContextName other = names.name_of(kMaxContexts - 1);
  chunks_.text(other.tag);
  chunks_.text(other.owner);
  chunks_.finish();
}

void NameWriter::write_new() noexcept {
  write_contexts();
  write_stacks();
}

void NameWriter::write_contexts() noexcept {
  const std::uint32_t used = names_->contexts_used();
  if (contexts_ >= used) return;
  chunks_.start(*sink_, ChunkKind::contexts);
  for (; contexts_ < used; ++contexts_) {
    const ContextName name = names_->name_of(static_cast<ContextId>(contexts_));
    chunks_.record();
    chunks_.number(contexts_);
    chunks_.text(name.tag);
    chunks_.text(name.owner);
  }
  chunks_.finish();
}

void NameWriter::write_stacks() noexcept {
  const StackId used = names_->stacks_used();
  if (stacks_ >= used && lates_ == 0) return;
  write_modules_of(stacks_ + 1, used);
  chunks_.start(*sink_, ChunkKind::stacks);
  write_late_stacks();
  for (; stacks_ < used; ++stacks_) {
    const StackId id = stacks_ + 1;
    if (!names_->frames_of(id).empty()) {
      write_stack(id);
    } else if (lates_ < late_.size()) {
      late_[lates_++] = id;
    }
  }
  chunks_.finish();
}

void NameWriter::write_late_stacks() noexcept {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < lates_; ++i) {
    if (names_->frames_of(late_[i]).empty()) {
      late_[kept++] = late_[i];
    } else {
      write_stack(late_[i]);
    }
  }
  lates_ = kept;
}

void NameWriter::write_stack(StackId id) noexcept {
  const auto frames = names_->frames_of(id);
  const std::size_t depth = std::min<std::size_t>(frames.size(), kMostFrames);
  chunks_.record();
  chunks_.number(id);
  chunks_.number(depth);
  std::uintptr_t before = 0;
  for (const std::uintptr_t frame : frames.first(depth)) {
    chunks_.number(from_difference(frame - before));
    before = frame;
  }
}

bool NameWriter::knows(std::uintptr_t address) noexcept {
  const auto covers = [address](const Range& range) {
    return address >= range.start && address < range.end;
  };
  if (last_module_ < module_count_ && covers(modules_[last_module_])) return true;
  const auto end = modules_.begin() + static_cast<std::ptrdiff_t>(module_count_);
  const auto found = std::find_if(modules_.begin(), end, covers);
  if (found != end) last_module_ = static_cast<std::size_t>(found - modules_.begin());
  return found != end;
}

// The system's list is read, not the dynamic loader's: that one takes a lock, which a thread that
// loads a library holds while it runs code that may be waiting for us.
void NameWriter::write_modules_of(StackId first, StackId last) noexcept {
  for (StackId id = first; id <= last; ++id) {
    for (const std::uintptr_t frame : names_->frames_of(id)) {
      if (knows(frame - 1)) continue;
      write_modules();  // once: what it does not bring is code without a file
      return;
    }
  }
}

void NameWriter::write_modules() noexcept {
  const int file = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  if (file < 0) return;
  chunks_.start(*sink_, ChunkKind::modules);
  std::array<char, 8192> window{};
  std::size_t held = 0;
  for (;;) {
    const ssize_t got = ::read(file, window.data() + held, window.size() - held);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    held += static_cast<std::size_t>(got);
    std::string_view rest{window.data(), held};
    for (auto end = rest.find('\n'); end != std::string_view::npos; end = rest.find('\n')) {
      write_module(rest.substr(0, end));
      rest.remove_prefix(end + 1);
    }
    if (rest.size() == window.size()) rest = {};  // no line is that long
    held = rest.size();
    if (held > 0) std::memmove(window.data(), rest.data(), held);
  }
  ::close(file);
  chunks_.finish();
}

// "55d0c000-55d0d000 r-xp 00001000 fe:00 1234   /usr/bin/program"
bool NameWriter::parse(std::string_view line, MapLine& map) noexcept {
  const char* const end = line.data() + line.size();
  const auto start = std::from_chars(line.data(), end, map.range.start, 16);
  if (start.ec != std::errc{} || start.ptr == end || *start.ptr != '-') return false;
  const auto stop = std::from_chars(start.ptr + 1, end, map.range.end, 16);
  const char* const at = stop.ptr;
  if (stop.ec != std::errc{} || end - at < 7 || at[3] != 'x') return false;
  const auto offset = std::from_chars(at + 6, end, map.offset, 16);
  const auto path = line.find('/');
  if (offset.ec != std::errc{} || path == std::string_view::npos) return false;
  map.path = line.substr(path);
  return true;
}

void NameWriter::write_module(std::string_view line) noexcept {
  MapLine map;
  if (!parse(line, map)) return;
  const auto end = modules_.begin() + static_cast<std::ptrdiff_t>(module_count_);
  if (std::find(modules_.begin(), end, map.range) != end || module_count_ == modules_.size()) {
    return;
  }
  modules_[module_count_++] = map.range;
  chunks_.record();
  chunks_.number(map.range.start);
  chunks_.number(map.range.end - map.range.start);
  chunks_.number(map.offset);
  chunks_.text(map.path);
}

void NameWriter::write_functions() {
  std::unordered_set<std::uintptr_t> named;
  chunks_.start(*sink_, ChunkKind::functions);
  for (StackId id = 1; id <= stacks_; ++id) {
    for (const std::uintptr_t frame : names_->frames_of(id)) {
      if (!named.insert(frame).second) continue;
      const std::string function = names_->function_of(frame - 1);
      if (function.empty()) continue;
      chunks_.record();
      chunks_.number(frame);
      chunks_.text(function);
    }
  }
  chunks_.finish();
}

}  // namespace forebay::detail
