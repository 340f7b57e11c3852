// What the writers of export formats share: names, moments, and who they are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "forebay/telemetry.hpp"
#include "telemetry/document.hpp"
#include "telemetry/output.hpp"

namespace forebay::detail {

// Each writes the whole file. May throw std::bad_alloc. Errors go to `out`.
void write_memory_viz(const Snapshot& snapshot, Document& document);
void write_pprof(const Snapshot& snapshot, Output& out);
void write_chrome_trace(const Snapshot& snapshot, Output& out);
void write_rmm_csv(const Snapshot& snapshot, Output& out);
void write_folded(const Snapshot& snapshot, Output& out);

// A snapshot that was read from a file may refer to what is not in it: such an index is as if
// there were none.
const TagStats& tag_at(const Snapshot& snapshot, std::size_t index);
std::string_view source_at(const Snapshot& snapshot, std::size_t index);
const std::vector<SnapshotFrame>& stack_at(const Snapshot& snapshot, std::uint32_t stack);
// Null: of no module.
const SnapshotModule* module_of(const Snapshot& snapshot, const SnapshotFrame& frame);

// "decoder/layer3", "decoder/layer3 (request 7)", "(no tag)"
std::string title_of(const TagStats& tag);
// The function, or else "libx.so+0x12af", or the bare address.
std::string name_of(const Snapshot& snapshot, const SnapshotFrame& frame);

// Nanoseconds since 1970 of "2024-05-06T07:08:09.123Z"; nothing: it is not of that form.
std::optional<std::int64_t> parse_utc(std::string_view text);
// The same of a moment on the process's steady clock; without a date in the snapshot, of that
// clock alone.
std::int64_t utc_of(const Snapshot& snapshot, double clock_seconds);

}  // namespace forebay::detail
