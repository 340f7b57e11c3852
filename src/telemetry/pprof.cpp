// The heap profile that pprof reads: profile.proto, compressed by gzip.
//
// The message goes out in parts: by protobuf's rules parts that are written one after the other
// are one message. Strings come before what refers to them, in the order of their numbers.
#include <google/protobuf/arena.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <map>
#include <new>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "profile.pb.h"
#include "telemetry/formats.hpp"
#include "telemetry/holdings.hpp"

namespace forebay::detail {
namespace {

namespace profiles = perftools::profiles;

constexpr std::uint64_t kPage = 4096;
constexpr int kPartSize = 512;  // samples

// gzip (RFC 1952) on the way to a file.
class Gzip {
 public:
  explicit Gzip(Output& out) : out_(out) {
    constexpr int kWithGzipHeader = 15 + 16;
    constexpr int kMemoryLevel = 8;
    ready_ = deflateInit2(&stream_, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kWithGzipHeader,
                          kMemoryLevel, Z_DEFAULT_STRATEGY) == Z_OK;
    if (!ready_) throw std::bad_alloc{};  // all that zlib can want here is memory
  }
  Gzip(const Gzip&) = delete;
  Gzip& operator=(const Gzip&) = delete;
  ~Gzip() { deflateEnd(&stream_); }

  void put(std::string bytes) { run(bytes, Z_NO_FLUSH); }
  void finish() {
    std::string nothing;
    run(nothing, Z_FINISH);
  }

 private:
  void run(std::string& bytes, int flush) {
    stream_.next_in = reinterpret_cast<Bytef*>(bytes.data());
    stream_.avail_in = static_cast<uInt>(bytes.size());
    do {
      stream_.next_out = room_.data();
      stream_.avail_out = static_cast<uInt>(room_.size());
      deflate(&stream_, flush);
      out_.put({reinterpret_cast<const char*>(room_.data()), room_.size() - stream_.avail_out});
    } while (stream_.avail_out == 0);
  }

  Output& out_;
  z_stream stream_{};
  bool ready_ = false;
  std::array<Bytef, 32 << 10> room_{};
};

class Writer {
 public:
  Writer(const Snapshot& snapshot, Output& out) : snapshot_(snapshot), gzip_(out) {}
  void write();

 private:
  void write_header();
  void write_mappings();
  void write_sample(const Holding& holding);
  void add_label(profiles::Sample& sample, std::string_view key, std::string_view value);
  std::uint64_t location(const SnapshotFrame& frame);
  std::uint64_t location_without_stack();
  std::uint64_t function(std::string_view name, std::string_view file);
  std::int64_t text(std::string_view text);
  void set(profiles::ValueType& type, std::string_view name, std::string_view unit);
  void flush();
  profiles::Profile* new_part() {
    return google::protobuf::Arena::CreateMessage<profiles::Profile>(&arena_);
  }

  const Snapshot& snapshot_;
  Gzip gzip_;
  // In an arena: protobuf's own containers lose a message if they find no room for it.
  google::protobuf::Arena arena_;
  profiles::Profile* part_ = new_part();
  Rounding bytes_;
  Rounding blocks_;
  std::unordered_map<std::string, std::int64_t> texts_;
  std::map<std::pair<std::string, std::string>, std::uint64_t> functions_;
  std::map<std::tuple<std::uint32_t, std::uint64_t, std::string_view>, std::uint64_t> locations_;
};

std::int64_t Writer::text(std::string_view text) {
  const auto next = static_cast<std::int64_t>(texts_.size());
  const auto [at, is_new] = texts_.try_emplace(to_utf8(text), next);
  if (is_new) part_->add_string_table(at->first);
  return at->second;
}

void Writer::set(profiles::ValueType& type, std::string_view name, std::string_view unit) {
  type.set_type(text(name));
  type.set_unit(text(unit));
}

void Writer::flush() {
  gzip_.put(part_->SerializeAsString());
  arena_.Reset();
  part_ = new_part();
}

void Writer::write_header() {
  text("");
  set(*part_->add_sample_type(), "inuse_objects", "count");
  set(*part_->add_sample_type(), "inuse_space", "bytes");
  set(*part_->mutable_period_type(), "space", "bytes");
  constexpr std::uint64_t kMost = INT64_MAX;
  const auto period = std::clamp<std::uint64_t>(snapshot_.sample_interval_bytes, 1, kMost);
  part_->set_period(static_cast<std::int64_t>(period));
  part_->set_default_sample_type(text("inuse_space"));
  part_->set_time_nanos(utc_of(snapshot_, snapshot_.clock_seconds));
  if (!snapshot_.program.empty()) part_->add_comment(text(snapshot_.program));
  if (!snapshot_.reason.empty()) part_->add_comment(text(snapshot_.reason));
}

// A snapshot has no sizes of modules: each reaches as far as its frames do.
void Writer::write_mappings() {
  std::vector<std::uint64_t> ends(snapshot_.modules.size(), 0);
  std::vector<bool> named(snapshot_.modules.size(), false);
  for (const auto& stack : snapshot_.stacks) {
    for (const SnapshotFrame& frame : stack) {
      if (module_of(snapshot_, frame) == nullptr) continue;
      ends[frame.module - 1] = std::max(ends[frame.module - 1], frame.offset + 1);
      if (!frame.function.empty()) named[frame.module - 1] = true;
    }
  }
  for (std::size_t i = 0; i < ends.size(); ++i) {
    const SnapshotModule& module = snapshot_.modules[i];
    profiles::Mapping& mapping = *part_->add_mapping();
    mapping.set_id(i + 1);
    mapping.set_memory_start(module.base);
    mapping.set_memory_limit(module.base + (ends[i] + kPage) / kPage * kPage);
    mapping.set_filename(text(module.path));
    mapping.set_build_id(text(module.build_id));
    mapping.set_has_functions(named[i]);
  }
}

std::uint64_t Writer::function(std::string_view name, std::string_view file) {
  const auto next = functions_.size() + 1;
  const auto [at, is_new] = functions_.try_emplace({std::string{name}, std::string{file}}, next);
  if (is_new) {
    profiles::Function& function = *part_->add_function();
    function.set_id(next);
    function.set_name(text(name));
    function.set_system_name(text(name));
    function.set_filename(text(file));
  }
  return at->second;
}

std::uint64_t Writer::location(const SnapshotFrame& frame) {
  const auto next = locations_.size() + 1;
  const auto [at, is_new] =
      locations_.try_emplace({frame.module, frame.offset, frame.function}, next);
  if (!is_new) return at->second;
  const SnapshotModule* const module = module_of(snapshot_, frame);
  profiles::Location& location = *part_->add_location();
  location.set_id(next);
  if (module != nullptr) location.set_mapping_id(frame.module);
  location.set_address((module == nullptr ? 0 : module->base) + frame.offset);
  // Without a name the line is left out: pprof then looks for it in the binary.
  if (!frame.function.empty()) {
    const std::string_view file = module == nullptr ? std::string_view{} : module->path;
    location.add_line()->set_function_id(function(frame.function, file));
  }
  return next;
}

// A sample must be somewhere, or pprof's lists leave its bytes out.
std::uint64_t Writer::location_without_stack() {
  const auto next = locations_.size() + 1;
  const auto [at, is_new] = locations_.try_emplace({UINT32_MAX, 0, "(stack not known)"}, next);
  if (is_new) {
    profiles::Location& location = *part_->add_location();
    location.set_id(next);
    location.add_line()->set_function_id(function("(stack not known)", {}));
  }
  return at->second;
}

void Writer::add_label(profiles::Sample& sample, std::string_view key, std::string_view value) {
  if (value.empty()) return;
  profiles::Label& label = *sample.add_label();
  label.set_key(text(key));
  label.set_str(text(value));
}

void Writer::write_sample(const Holding& holding) {
  profiles::Sample& sample = *part_->add_sample();
  const auto& stack = stack_at(snapshot_, holding.stack);
  for (const SnapshotFrame& frame : stack) sample.add_location_id(location(frame));
  if (stack.empty()) sample.add_location_id(location_without_stack());
  sample.add_value(blocks_.next(holding.blocks));
  sample.add_value(bytes_.next(holding.bytes));
  const TagStats& tag = tag_at(snapshot_, holding.tag);
  add_label(sample, "tag", tag.tag);
  add_label(sample, "owner", tag.owner);
  add_label(sample, "pool", source_at(snapshot_, holding.source));
  if (part_->sample_size() == kPartSize) flush();
}

void Writer::write() {
  write_header();
  write_mappings();
  for (const Holding& holding : holdings_of(snapshot_)) write_sample(holding);
  flush();
  gzip_.finish();
}

}  // namespace

void write_pprof(const Snapshot& snapshot, Output& out) { Writer{snapshot, out}.write(); }

}  // namespace forebay::detail
