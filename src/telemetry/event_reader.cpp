#include "telemetry/event_reader.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "base/text.hpp"
#include "track/context.hpp"
#include "track/stack.hpp"

namespace forebay::events {
namespace {

using detail::ChunkHeader;
using detail::ChunkKind;

constexpr std::size_t kMostText = 4096;

class TextInput final : public Input {
 public:
  explicit TextInput(std::string_view bytes) : bytes_(bytes) {}
  std::uint64_t size() const noexcept override { return bytes_.size(); }
  Status read(std::uint64_t offset, std::span<std::byte> to) const override {
    if (offset > bytes_.size() || to.size() > bytes_.size() - offset) {
      return {Code::io_error, "the text is shorter"};
    }
    if (!to.empty()) std::memcpy(to.data(), bytes_.data() + offset, to.size());
    return {};
  }

 private:
  std::string_view bytes_;
};

class FileInput final : public Input {
 public:
  FileInput(int descriptor, const struct stat& info, std::string name)
      : descriptor_(descriptor),
        size_(static_cast<std::uint64_t>(info.st_size)),
        // Held within what 64 bits can say: a file system may have any time.
        changed_ns_(std::clamp<std::int64_t>(info.st_mtim.tv_sec, 0, 9'000'000'000) *
                        1'000'000'000 +
                    info.st_mtim.tv_nsec),
        name_(std::move(name)) {}
  ~FileInput() override { ::close(descriptor_); }
  FileInput(const FileInput&) = delete;
  FileInput& operator=(const FileInput&) = delete;

  std::uint64_t size() const noexcept override { return size_; }
  std::int64_t changed_ns() const noexcept override { return changed_ns_; }
  Status read(std::uint64_t offset, std::span<std::byte> to) const override {
    while (!to.empty()) {
      const ssize_t got = ::pread(descriptor_, to.data(), to.size(), static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) {
        return {Code::io_error, fmt::format("{}: cannot read on at byte {}: {}", name_, offset,
                                            got < 0 ? std::strerror(errno) : "it became shorter")};
      }
      to = to.subspan(static_cast<std::size_t>(got));
      offset += static_cast<std::uint64_t>(got);
    }
    return {};
  }

 private:
  int descriptor_;
  std::uint64_t size_;  // when it was opened: a process may still be writing to it
  std::int64_t changed_ns_;
  std::string name_;
};

// Numbers and texts of a payload; once one does not fit, none does.
class Payload {
 public:
  // REQUIRES: EventReader::kSlack bytes may be read behind `bytes`.
  explicit Payload(std::span<const std::byte> bytes)
      : at_(bytes.data()), end_(bytes.data() + bytes.size()) {}
  bool at_end() const noexcept { return at_ >= end_; }
  bool good() const noexcept { return at_ <= end_; }

  std::uint64_t number() noexcept {
    if (at_end()) return fail();
    return detail::take_number(at_);
  }
  std::string_view text() noexcept {
    const std::uint64_t length = number();
    if (!good() || length > kMostText || length > static_cast<std::uint64_t>(end_ - at_)) {
      fail();
      return {};
    }
    const auto* const begin = reinterpret_cast<const char*>(std::exchange(at_, at_ + length));
    return {begin, length};
  }

 private:
  std::uint64_t fail() noexcept {
    at_ = end_ + 1;
    return 0;
  }
  const std::byte* at_;
  const std::byte* end_;
};

// One pass through the file.
class Scan {
 public:
  Scan(const Input& input, const std::string& name, Bytes most, const Progress& progress)
      : input_(input),
        name_(name),
        progress_(progress),
        most_(most.count()),
        room_(most_),
        patience_(kPatience * input.size() + detail::kMostPayload * kPatience) {}

  Result<Contents> run() {
    contents_.file_bytes = input_.size();
    std::uint64_t at = 0;
    while (at < input_.size()) {
      const auto length = take_chunk(at);
      if (!length.ok()) return length.status();
      if (at == 0 && !(*length > 0 && header_.kind == ChunkKind::begin)) return no_event_file();
      if (*length > 0) {
        at += *length;
        continue;
      }
      const auto next = next_whole(at + 1);
      if (!next.ok()) return next.status();
      if (*next == input_.size() && patience_ > 0) {
        contents_.cut_bytes = input_.size() - at;
      } else {
        ++contents_.damaged;
        contents_.damaged_bytes += *next - at;
      }
      at = *next;
    }
    if (input_.size() == 0) return no_event_file();
    contents_.memory = most_ - room_;
    return std::move(contents_);
  }

 private:
  Status no_event_file() const {
    if (header_.magic == detail::kChunkMagic && header_.version != detail::kEventVersion) {
      return {Code::unsupported, fmt::format("{}: events of version {}; allowed: version {}", name_,
                                             header_.version, detail::kEventVersion)};
    }
    return {Code::corrupt_data, fmt::format("{}: no file of events; allowed: one that "
                                            "Tracker::record_to wrote",
                                            name_)};
  }

  Status told(std::uint64_t at) const {
    const double share = static_cast<double>(at) / static_cast<double>(input_.size());
    if (!progress_ || progress_(share)) return {};
    return {Code::interrupted, "interrupted"};
  }

  bool no_chunk(std::uint64_t payload_read) noexcept {
    patience_ -= std::min<std::uint64_t>(patience_, sizeof header_ + payload_read);
    return false;
  }

  // Whether a whole chunk stands at `at`; header_ and payload_ then hold it.
  Result<bool> read_chunk(std::uint64_t at) {
    if (patience_ == 0 || input_.size() - at < sizeof header_) return false;
    Status read = told(at);
    if (!read.ok()) return read;
    read = input_.read(at, std::as_writable_bytes(std::span{&header_, 1}));
    if (!read.ok()) return read;
    if (header_.magic != detail::kChunkMagic || header_.version != detail::kEventVersion ||
        header_.length > detail::kMostPayload ||
        header_.length > input_.size() - at - sizeof header_) {
      return no_chunk(0);
    }
    read = input_.read(at + sizeof header_, std::span{payload_}.first(header_.length));
    if (!read.ok()) return read;
    return detail::checksum_of(header_, payload_.data()) == header_.checksum ||
           no_chunk(header_.length);
  }

  // The bytes of the chunk at `at` once it is taken in; 0: none stands there.
  Result<std::uint64_t> take_chunk(std::uint64_t at) {
    const auto whole = read_chunk(at);
    if (!whole.ok()) return whole.status();
    if (!*whole) return std::uint64_t{0};
    if (Status taken = take(at + sizeof header_); !taken.ok()) return taken;
    return sizeof header_ + header_.length;
  }

  // Where the next whole chunk begins; the file's end if there is none, or patience is at its end.
  Result<std::uint64_t> next_whole(std::uint64_t at) {
    constexpr std::size_t kMagic = sizeof detail::kChunkMagic;
    while (at + kMagic <= input_.size()) {
      const auto found = next_magic(at);
      if (!found.ok()) return found.status();
      at = *found;
      const auto whole = read_chunk(at);
      if (!whole.ok()) return whole.status();
      if (*whole) return at;
      if (patience_ == 0) break;
      ++at;
    }
    return input_.size();
  }

  // Where the next chunk may begin; the file's end if nothing looks like one.
  Result<std::uint64_t> next_magic(std::uint64_t at) {
    constexpr std::size_t kMagic = sizeof detail::kChunkMagic;
    while (at + kMagic <= input_.size()) {
      // What was read stays for the next search: damage may stand between small chunks.
      if (at < window_at_ || at - window_at_ + kMagic > window_count_) {
        if (Status read = fill_window(at); !read.ok()) return read;
      }
      const std::byte* const from = window_.data() + (at - window_at_);
      const std::size_t count = window_count_ - (at - window_at_);
      const void* const found = ::memmem(from, count, &detail::kChunkMagic, kMagic);
      if (found != nullptr) {
        return at + static_cast<std::uint64_t>(static_cast<const std::byte*>(found) - from);
      }
      at += count - (kMagic - 1);
    }
    return input_.size();
  }

  Status fill_window(std::uint64_t at) {
    window_.resize(64 << 10);
    window_at_ = at;
    window_count_ = 0;
    if (Status stop = told(at); !stop.ok()) return stop;
    const auto count = std::min<std::uint64_t>(window_.size(), input_.size() - at);
    if (Status read = input_.read(at, std::span{window_}.first(count)); !read.ok()) return read;
    window_count_ = count;
    return {};
  }

  // A vector that grows has its old and its new array, of twice the size, at once.
  static constexpr std::uint64_t kGrowth = 3;
  // Of a map's entry, the text or array it leads to, and the buckets; more than it takes.
  static constexpr std::uint64_t kEntry = 160;
  static constexpr std::uint64_t kHeapBlock = 32;  // what one has besides its content, at most

  bool needs(std::uint64_t bytes) noexcept {
    const bool fits = bytes <= room_;
    room_ -= std::min(bytes, room_);
    return fits;
  }
  Status full() const {
    return {Code::memory_refused,
            fmt::format("{}: its names need more memory than is allowed", name_)};
  }

  Status take(std::uint64_t payload_at) {
    Payload payload{std::span<const std::byte>{payload_}.first(header_.length)};
    switch (header_.kind) {
      case ChunkKind::begin:
        take_begin(payload);
        return {};
      case ChunkKind::events:
        return take_events(payload_at);
      case ChunkKind::contexts:
        return take_contexts(payload);
      case ChunkKind::stacks:
        return take_stacks(payload);
      case ChunkKind::modules:
        return take_modules(payload);
      case ChunkKind::functions:
        return take_functions(payload);
      case ChunkKind::end:
        contents_.dropped = payload.number();
        contents_.end_ns = payload.number();
        contents_.closed = payload.good();
        return {};
    }
    return {};  // of a kind that a later version adds
  }

  void take_begin(Payload& payload) {
    contents_.process = payload.number();
    contents_.wall_ns = payload.number();
    contents_.start_ns = payload.number();
    contents_.program = payload.text();
  }

  Status take_events(std::uint64_t payload_at) {
    if (header_.lane == 0 || header_.first_number > detail::kMostNumber) return {};
    if (!needs(kGrowth * sizeof(EventChunk))) return full();
    contents_.chunks.push_back({payload_at, header_.length, header_.lane, header_.first_number,
                                header_.lane_first, header_.time});
    return {};
  }

  Status take_contexts(Payload& payload) {
    while (!payload.at_end()) {
      const std::uint64_t id = payload.number();
      const std::string_view tag = payload.text();
      const std::string_view owner = payload.text();
      if (!payload.good() || id >= detail::kMaxContexts) return {};
      auto& contexts = contents_.names.contexts;
      const std::uint64_t more = id < contexts.size() ? 0 : id + 1 - contexts.size();
      if (!needs(kGrowth * more * sizeof(Context) + tag.size() + owner.size() + 2 * kHeapBlock))
        return full();
      if (more > 0) contexts.resize(id + 1);
      contexts[id] = {std::string{tag}, std::string{owner}};
    }
    return {};
  }

  Status take_stacks(Payload& payload) {
    while (!payload.at_end()) {
      const std::uint64_t id = payload.number();
      const std::uint64_t depth = payload.number();
      if (!payload.good() || id == 0 || id > ~std::uint32_t{0} || depth > detail::kMostFrames) {
        return {};
      }
      if (!needs(depth * sizeof(std::uint64_t) + kEntry)) return full();
      Stack stack;
      stack.frames.resize(depth);
      stack.modules = static_cast<std::uint32_t>(contents_.names.modules.size());
      std::uint64_t address = 0;
      for (std::uint64_t& frame : stack.frames) {
        frame = address += detail::to_difference(payload.number());
      }
      if (!payload.good()) return {};
      contents_.names.stacks.insert_or_assign(static_cast<std::uint32_t>(id), std::move(stack));
    }
    return {};
  }

  Status take_modules(Payload& payload) {
    while (!payload.at_end()) {
      Module module;
      module.start = payload.number();
      module.size = payload.number();
      module.offset = payload.number();
      module.path = payload.text();
      if (!payload.good()) return {};
      if (!needs(kGrowth * sizeof module + module.path.size() + kHeapBlock)) return full();
      contents_.names.modules.push_back(std::move(module));
    }
    return {};
  }

  Status take_functions(Payload& payload) {
    while (!payload.at_end()) {
      const std::uint64_t address = payload.number();
      const std::string_view name = payload.text();
      if (!payload.good()) return {};
      if (!needs(name.size() + kEntry)) return full();
      contents_.names.functions.insert_or_assign(address, std::string{name});
    }
    return {};
  }

  const Input& input_;
  const std::string& name_;
  const Progress& progress_;
  std::uint64_t most_;
  std::uint64_t room_;
  // Bytes that may still be read for what looks like a chunk and is none: headers without
  // payloads cost 64 KiB every 48 bytes or less. An honest file is read once for its damage.
  static constexpr std::uint64_t kPatience = 4;
  std::uint64_t patience_;
  Contents contents_;
  ChunkHeader header_;
  std::vector<std::byte> window_;
  std::uint64_t window_at_ = 0;
  std::size_t window_count_ = 0;
  std::vector<std::byte> payload_ =
      std::vector<std::byte>(detail::kMostPayload + EventReader::kSlack);
};

}  // namespace

const Module* Names::module_of(const Stack& stack, std::uint64_t frame) const noexcept {
  for (std::size_t i = std::min<std::size_t>(stack.modules, modules.size()); i-- > 0;) {
    if (frame - 1 - modules[i].start < modules[i].size) return &modules[i];
  }
  return nullptr;
}

Result<std::unique_ptr<Input>> open_input(const std::string& path) {
  const auto cannot = [&](Code code, std::string_view what) {
    return Status{code, fmt::format("{}: {}", detail::printable_text(path), what)};
  };
  // Not blocking, so that a pipe is refused instead of waited for.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (descriptor < 0) {
    if (errno == ENOENT) return cannot(Code::not_found, "no such file");
    return cannot(Code::io_error, fmt::format("cannot open: {}", std::strerror(errno)));
  }
  struct stat info {};
  const bool regular = ::fstat(descriptor, &info) == 0 && S_ISREG(info.st_mode);
  std::unique_ptr<Input> input =
      std::make_unique<FileInput>(descriptor, info, detail::printable_text(path));
  if (!regular) return cannot(Code::invalid_argument, "is no regular file; allowed: a file");
  return input;
}

Result<EventReader> EventReader::open(const std::string& path) {
  auto input = open_input(path);
  if (!input.ok()) return input.status();
  return EventReader{std::move(*input), detail::printable_text(path)};
}

EventReader EventReader::over(std::string_view bytes, std::string_view name) {
  return {std::make_unique<TextInput>(bytes), detail::printable_text(name)};
}

Result<Contents> EventReader::contents(Bytes most, const Progress& progress) const {
  return Scan{*input_, name_, most, progress}.run();
}

Status EventReader::read_events(const EventChunk& chunk, std::vector<std::byte>& to) const {
  to.assign(chunk.length + kSlack, std::byte{});
  return input_->read(chunk.offset, std::span{to}.first(chunk.length));
}

}  // namespace forebay::events
