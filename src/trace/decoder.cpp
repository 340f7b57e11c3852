#include "trace/decoder.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace forebay::trace {
namespace {

constexpr std::size_t kBatch = 65536;
// However long a gap is, three looks see all that goes back in it: the first two find what lay
// in the caches of threads, and at the last everything is as old as the gap is long.
constexpr std::int64_t kMostTicksInAGap = 3;
// Entries of a batch for each operation asked for, so that ticks have room.
constexpr std::size_t kEntries = 2;

Status bad(std::string why) { return {Code::invalid_argument, std::move(why)}; }

}  // namespace

std::string Decoder::name_of(std::uint64_t id) const {
  return reader_.format() == Format::rmm_csv ? fmt::format("Pointer: {:#x}", id)
                                             : fmt::format("id: {}", id);
}

Status Decoder::note_stream(std::uint64_t stream) {
  const auto at = std::ranges::lower_bound(streams_, stream);
  if (at != streams_.end() && *at == stream) return {};
  if (streams_.size() == kMaxStreams) {
    return bad(fmt::format("stream: {} is one more than allowed; allowed: at most {} of them",
                           stream, kMaxStreams));
  }
  streams_.insert(at, stream);
  demand_.streams = streams_.size();
  return {};
}

void Decoder::add_ticks(Duration now, std::vector<Operation>& batch) {
  demand_.duration = now;
  const Duration gap = now - ticked_;
  if (tick_every_ <= Duration{} || gap < tick_every_) return;
  const std::int64_t count = std::min(gap / tick_every_, kMostTicksInAGap);
  for (std::int64_t left = count; left > 0; --left) {
    const Duration step = left > 1 ? tick_every_ : now - ticked_;
    batch.push_back({.kind = Operation::Kind::tick,
                     .slot = 0,
                     .amount = static_cast<std::uint64_t>(step.count()),
                     .stream = {}});
    ticked_ += step;
  }
}

Status Decoder::take_allocation(const Record& record, std::vector<Operation>& batch) {
  if (const LiveBlock* live = live_.find(record.id)) {
    return bad(
        fmt::format("{} is allocated again while it is live with {} bytes; allowed: an id "
                    "that is not live",
                    name_of(record.id), live->bytes.count()));
  }
  if (live_.size() == kMaxLive) {
    return bad(fmt::format("{} is one live block too many; allowed: at most {} at once",
                           name_of(record.id), kMaxLive));
  }
  const auto sum = checked_add(demand_.live, record.bytes);
  if (!sum) {
    return bad(fmt::format("{}: {} bytes make the live bytes overflow; allowed: a sum below 2^64",
                           name_of(record.id), record.bytes.count()));
  }
  const LiveBlock& block = live_.add(record.id, record.bytes, record.stream);
  batch.push_back({.kind = Operation::Kind::allocate,
                   .slot = block.slot,
                   .amount = record.bytes.count(),
                   .stream = {static_cast<std::uintptr_t>(record.stream)}});
  demand_.live = *sum;
  ++demand_.operations;
  ++demand_.allocations;
  demand_.peak_blocks = std::max<std::uint64_t>(demand_.peak_blocks, live_.size());
  if (demand_.live > demand_.peak_live) {
    demand_.peak_live = demand_.live;
    demand_.peak_at = demand_.operations;
  }
  return {};
}

Status Decoder::take_free(const Record& record, std::vector<Operation>& batch) {
  const LiveBlock* const block = live_.find(record.id);
  if (block == nullptr) {
    return bad(fmt::format("{} is freed and not live; allowed: the id of a live block",
                           name_of(record.id)));
  }
  if (record.has_bytes && record.bytes != block->bytes) {
    return bad(fmt::format("{} is freed with {} bytes; allowed: the {} that it was allocated with",
                           name_of(record.id), record.bytes.count(), block->bytes.count()));
  }
  const std::uint64_t stream = record.has_stream ? record.stream : block->stream;
  batch.push_back({.kind = Operation::Kind::free,
                   .slot = block->slot,
                   .amount = block->bytes.count(),
                   .stream = {static_cast<std::uintptr_t>(stream)}});
  demand_.live -= block->bytes;
  ++demand_.operations;
  ++demand_.frees;
  live_.remove(record.id);
  return {};
}

Status Decoder::take(const Record& record, std::vector<Operation>& batch) {
  // A log writes nothing at all as a block of no bytes at no address.
  const bool of_nothing =
      reader_.format() == Format::rmm_csv && record.id == 0 && record.bytes.is_zero();
  if (record.kind == Record::Kind::failed || of_nothing) {
    ++demand_.left_out;
    return {};
  }
  if (reader_.format() == Format::rmm_csv && record.id == 0) {
    return bad(
        fmt::format("Pointer: (nil) with {} bytes is not allowed; allowed: an address, or Size 0",
                    record.bytes.count()));
  }
  if (Status status = note_stream(record.stream); !status.ok()) return status;
  add_ticks(record.time, batch);
  return record.kind == Record::Kind::allocate ? take_allocation(record, batch)
                                               : take_free(record, batch);
}

Result<std::size_t> Decoder::fill(std::vector<Operation>& batch, std::size_t most) {
  batch.clear();
  const std::uint64_t before = demand_.operations;
  Record record;
  while (demand_.operations - before < most && batch.size() < kEntries * most) {
    const auto more = reader_.next(record);
    if (!more.ok()) return more.status();
    if (!*more) break;
    if (Status status = take(record, batch); !status.ok()) return reader_.error(status.message());
  }
  return static_cast<std::size_t>(demand_.operations - before);
}

Result<Demand> survey(Reader reader, const std::function<bool(double)>& progress) {
  Decoder decoder{std::move(reader)};
  std::vector<Operation> batch;
  for (;;) {
    const auto count = decoder.fill(batch, kBatch);
    if (!count.ok()) return count.status();
    if (*count == 0) break;
    if (progress && !progress(decoder.share())) {
      return Status{Code::interrupted, "interrupted while reading the trace"};
    }
  }
  return decoder.demand();
}

}  // namespace forebay::trace
