// Snapshots as JSON in memory: what a socket sends.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "forebay/telemetry.hpp"
#include "telemetry/byte_stream.hpp"

#pragma GCC visibility push(default)  // the command uses it
namespace forebay::detail {

// Throws std::bad_alloc.
Status write_json(const Snapshot& snapshot, ByteSink& sink);
std::string snapshot_json(const Snapshot& snapshot);

// As read_snapshot(); `name` stands in messages instead of the file.
Result<Snapshot> parse_snapshot(std::string_view bytes, const std::string& name,
                                std::optional<Bytes> most = {});

}  // namespace forebay::detail
#pragma GCC visibility pop
