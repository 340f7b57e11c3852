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
  FileInput(int descriptor, std::uint64_t size, std::string name)
      : descriptor_(descriptor), size_(size), name_(std::move(name)) {}
  ~FileInput() override { ::close(descriptor_); }
  FileInput(const FileInput&) = delete;
  FileInput& operator=(const FileInput&) = delete;

  std::uint64_t size() const noexcept override { return size_; }
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
  Scan(const Input& input, const std::string& name, Bytes most)
      : input_(input), name_(name), room_(most.count()) {}

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
      if (*next == input_.size()) {
        contents_.cut_bytes = input_.size() - at;
      } else {
        ++contents_.damaged;
        contents_.damaged_bytes += *next - at;
      }
      at = *next;
    }
    if (input_.size() == 0) return no_event_file();
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

  // Whether a whole chunk stands at `at`; header_ and payload_ then hold it.
  Result<bool> read_chunk(std::uint64_t at) {
    if (input_.size() - at < sizeof header_) return false;
    Status read = input_.read(at, std::as_writable_bytes(std::span{&header_, 1}));
    if (!read.ok()) return read;
    if (header_.magic != detail::kChunkMagic || header_.version != detail::kEventVersion ||
        header_.length > detail::kMostPayload ||
        header_.length > input_.size() - at - sizeof header_) {
      return false;
    }
    read = input_.read(at + sizeof header_, std::span{payload_}.first(header_.length));
    if (!read.ok()) return read;
    return detail::checksum_of(header_, payload_.data()) == header_.checksum;
  }

  // The bytes of the chunk at `at` once it is taken in; 0: none stands there.
  Result<std::uint64_t> take_chunk(std::uint64_t at) {
    const auto whole = read_chunk(at);
    if (!whole.ok()) return whole.status();
    if (!*whole) return std::uint64_t{0};
    if (Status taken = take(at + sizeof header_); !taken.ok()) return taken;
    return sizeof header_ + header_.length;
  }

  // Where the next whole chunk begins; the file's end if there is none.
  Result<std::uint64_t> next_whole(std::uint64_t at) {
    std::vector<std::byte> window(64 << 10);
    constexpr std::size_t kMagic = sizeof detail::kChunkMagic;
    while (at + kMagic <= input_.size()) {
      const auto count =
          static_cast<std::size_t>(std::min<std::uint64_t>(window.size(), input_.size() - at));
      if (Status read = input_.read(at, std::span{window}.first(count)); !read.ok()) return read;
      std::size_t from = 0;
      while (const void* const found =
                 ::memmem(window.data() + from, count - from, &detail::kChunkMagic, kMagic)) {
        from = static_cast<std::size_t>(static_cast<const std::byte*>(found) - window.data());
        const auto whole = read_chunk(at + from);
        if (!whole.ok()) return whole.status();
        if (*whole) return at + from;
        ++from;
      }
      at += count - (kMagic - 1);
    }
    return input_.size();
  }

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
    if (!needs(2 * sizeof(EventChunk))) return full();
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
      if (!needs(2 * more * sizeof(Context) + tag.size() + owner.size())) return full();
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
      if (!needs(depth * sizeof(std::uint64_t) + 100)) return full();
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
      if (!needs(2 * sizeof module + module.path.size())) return full();
      contents_.names.modules.push_back(std::move(module));
    }
    return {};
  }

  Status take_functions(Payload& payload) {
    while (!payload.at_end()) {
      const std::uint64_t address = payload.number();
      const std::string_view name = payload.text();
      if (!payload.good()) return {};
      if (!needs(name.size() + 100)) return full();
      contents_.names.functions.insert_or_assign(address, std::string{name});
    }
    return {};
  }

  const Input& input_;
  const std::string& name_;
  std::uint64_t room_;
  Contents contents_;
  ChunkHeader header_;
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
    return Status{code, fmt::format("{}: {}", path, what)};
  };
  // Not blocking, so that a pipe is refused instead of waited for.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    if (errno == ENOENT) return cannot(Code::not_found, "no such file");
    return cannot(Code::io_error, fmt::format("cannot open: {}", std::strerror(errno)));
  }
  struct stat info {};
  const bool regular = ::fstat(descriptor, &info) == 0 && S_ISREG(info.st_mode);
  std::unique_ptr<Input> input =
      std::make_unique<FileInput>(descriptor, static_cast<std::uint64_t>(info.st_size), path);
  if (!regular) return cannot(Code::invalid_argument, "is no regular file; allowed: a file");
  return input;
}

Result<EventReader> EventReader::open(const std::string& path) {
  auto input = open_input(path);
  if (!input.ok()) return input.status();
  return EventReader{std::move(*input), path};
}

EventReader EventReader::over(std::string_view bytes, std::string name) {
  return {std::make_unique<TextInput>(bytes), std::move(name)};
}

Result<Contents> EventReader::contents(Bytes most) const {
  return Scan{*input_, name_, most}.run();
}

Status EventReader::read_events(const EventChunk& chunk, std::vector<std::byte>& to) const {
  to.assign(chunk.length + kSlack, std::byte{});
  return input_->read(chunk.offset, std::span{to}.first(chunk.length));
}

}  // namespace forebay::events
