// Folded stacks, as flamegraph.pl and its successors read them: "tag;outer;inner bytes".
#include <fmt/format.h>

#include <string>

#include "telemetry/formats.hpp"
#include "telemetry/holdings.hpp"

namespace forebay::detail {
namespace {

// A name that cannot be taken for two frames or two lines.
std::string frame_text(std::string_view name) {
  std::string text;
  for (const char c : to_utf8(name)) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
      text += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      text += c == ';' ? ':' : c;
    }
  }
  return text;
}

}  // namespace

void write_folded(const Snapshot& snapshot, Output& out) {
  Rounding bytes;
  for (const Holding& holding : holdings_of(snapshot)) {
    const std::int64_t count = bytes.next(holding.bytes);
    if (count == 0) continue;
    std::string line = frame_text(title_of(tag_at(snapshot, holding.tag)));
    const auto& stack = stack_at(snapshot, holding.stack);
    for (auto frame = stack.rbegin(); frame != stack.rend(); ++frame) {
      line += ';' + frame_text(name_of(snapshot, *frame));
    }
    out.put(line + fmt::format(" {}\n", count));
  }
}

}  // namespace forebay::detail
