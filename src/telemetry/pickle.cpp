#include "telemetry/pickle.hpp"

#include <bit>
#include <cmath>

namespace forebay::detail {
namespace {

// Opcodes by their names in Python's pickletools.
constexpr unsigned char kProto = 0x80;
constexpr unsigned char kFrame = 0x95;
constexpr unsigned char kStop = '.';
constexpr unsigned char kMark = '(';
constexpr unsigned char kEmptyDict = '}';
constexpr unsigned char kSetItems = 'u';
constexpr unsigned char kEmptyList = ']';
constexpr unsigned char kAppends = 'e';
constexpr unsigned char kTuple2 = 0x86;
constexpr unsigned char kNewTrue = 0x88;
constexpr unsigned char kNewFalse = 0x89;
constexpr unsigned char kBinInt1 = 'K';
constexpr unsigned char kBinInt2 = 'M';
constexpr unsigned char kBinInt = 'J';
constexpr unsigned char kLong1 = 0x8a;
constexpr unsigned char kBinFloat = 'G';
constexpr unsigned char kShortBinUnicode = 0x8c;
constexpr unsigned char kBinUnicode = 'X';
constexpr unsigned char kMemoize = 0x94;
constexpr unsigned char kBinGet = 'h';
constexpr unsigned char kLongBinGet = 'j';

constexpr std::uint32_t kBatch = 1000;
constexpr std::size_t kFrameTarget = 64 << 10;
constexpr std::size_t kLongestText = 1 << 20;

}  // namespace

PickleDocument::PickleDocument(Output& out) : out_(out) {
  out_.put(static_cast<char>(kProto));
  out_.put('\x04');
}

void PickleDocument::little_endian(std::uint64_t value, int bytes, std::string& to) {
  for (int i = 0; i < bytes; ++i) to += static_cast<char>(value >> (8 * i) & 0xFF);
}

void PickleDocument::flush_frame() {
  if (frame_.empty()) return;
  std::string header{static_cast<char>(kFrame)};
  little_endian(frame_.size(), 8, header);
  out_.put(header);
  out_.put(frame_);
  frame_.clear();
}

void PickleDocument::before_value() {
  if (open_.empty() || open_.back().kind == Kind::dict) return;
  Open& list = open_.back();
  if (list.batch == kBatch) {
    opcode(kAppends);
    list.batch = 0;
  }
  if (list.batch++ == 0) opcode(kMark);
}

void PickleDocument::after_value() {
  // Only here, where an opcode is whole: none may cross the end of a frame.
  if (frame_.size() >= kFrameTarget) flush_frame();
}

void PickleDocument::begin(Kind kind) {
  before_value();
  opcode(kind == Kind::list ? kEmptyList : kEmptyDict);
  open_.push_back({kind, 0});
}

void PickleDocument::end_list() {
  if (open_.back().batch != 0) opcode(kAppends);
  open_.pop_back();
  after_value();
}

void PickleDocument::end_dict() {
  if (open_.back().batch != 0) opcode(kSetItems);
  open_.pop_back();
  after_value();
}

void PickleDocument::key(std::string_view name) {
  if (open_.back().batch++ == 0) opcode(kMark);
  write_word(name);
}

void PickleDocument::write_text(std::string_view text) {
  std::string valid = to_utf8(text);
  if (valid.size() > kLongestText) {
    std::size_t end = kLongestText;
    while ((static_cast<unsigned char>(valid[end]) & 0xC0U) == 0x80U) --end;
    valid.resize(end);
  }
  const bool is_short = valid.size() < 256;
  opcode(is_short ? kShortBinUnicode : kBinUnicode);
  little_endian(valid.size(), is_short ? 1 : 4, frame_);
  frame_ += valid;
}

void PickleDocument::memoize(std::uint32_t& slot) {
  opcode(kMemoize);
  slot = ++memo_;
}

void PickleDocument::get(std::uint32_t slot) {
  const std::uint32_t entry = slot - 1;
  opcode(entry < 256 ? kBinGet : kLongBinGet);
  little_endian(entry, entry < 256 ? 1 : 4, frame_);
}

void PickleDocument::write_word(std::string_view text) {
  std::uint32_t& slot = words_[text];
  if (slot != 0) return get(slot);
  write_text(text);
  memoize(slot);
}

void PickleDocument::text(std::string_view text) {
  before_value();
  write_text(text);
  after_value();
}

void PickleDocument::word(std::string_view text) {
  before_value();
  write_word(text);
  after_value();
}

void PickleDocument::write_number(std::uint64_t value) {
  if (value < 1ULL << 8) {
    opcode(kBinInt1);
    little_endian(value, 1, frame_);
  } else if (value < 1ULL << 16) {
    opcode(kBinInt2);
    little_endian(value, 2, frame_);
  } else if (value < 1ULL << 31) {
    opcode(kBinInt);
    little_endian(value, 4, frame_);
  } else {
    // Two's complement: one bit more than the value has, for the sign.
    const int bytes = static_cast<int>(std::bit_width(value)) / 8 + 1;
    opcode(kLong1);
    little_endian(static_cast<std::uint64_t>(bytes), 1, frame_);
    little_endian(value, bytes < 8 ? bytes : 8, frame_);
    if (bytes > 8) frame_ += '\0';
  }
}

void PickleDocument::number(std::uint64_t value) {
  before_value();
  write_number(value);
  after_value();
}

void PickleDocument::real(double value) {
  before_value();
  opcode(kBinFloat);
  const auto bits = std::bit_cast<std::uint64_t>(std::isfinite(value) ? value : 0.0);
  for (int i = 7; i >= 0; --i) frame_ += static_cast<char>(bits >> (8 * i) & 0xFF);
  after_value();
}

void PickleDocument::boolean(bool value) {
  before_value();
  opcode(value ? kNewTrue : kNewFalse);
  after_value();
}

void PickleDocument::pair(std::uint64_t first, std::uint64_t second) {
  before_value();
  write_number(first);
  write_number(second);
  opcode(kTuple2);
  after_value();
}

bool PickleDocument::recall(std::uint32_t value) {
  if (value >= values_.size() || values_[value] == 0) return false;
  before_value();
  get(values_[value]);
  after_value();
  return true;
}

void PickleDocument::remember(std::uint32_t value) {
  if (value >= values_.size()) values_.resize(value + 1);
  memoize(values_[value]);
}

void PickleDocument::finish() {
  opcode(kStop);
  flush_frame();
}

}  // namespace forebay::detail
