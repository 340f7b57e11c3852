#include "track/hooks.hpp"

#include <time.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "track/records.hpp"
#include "track/settings.hpp"
#include "track/stack.hpp"

namespace forebay::detail {

[[gnu::tls_model("initial-exec")]] constinit thread_local ThreadTracking this_tracking;

namespace {

std::uint64_t next_random(std::uint64_t& state) noexcept {  // Marsaglia, "Xorshift RNGs", 2003
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state * 0x2545F4914F6CDD1DULL;
}

std::uint64_t seed() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  const auto here = reinterpret_cast<std::uintptr_t>(&this_tracking);
  return (static_cast<std::uint64_t>(now.tv_nsec) << 32 ^ here * 0x9E3779B97F4A7C15ULL) | 1;
}

// Bytes to the next point of a Poisson process: exponentially distributed.
std::int64_t next_gap(ThreadTracking& mine) noexcept {
  const double unit = (static_cast<double>(next_random(mine.random) >> 11) + 0.5) * 0x1p-53;
  const double gap = -std::log(unit) * static_cast<double>(sample_interval());
  constexpr double kMost = 1e18;
  return static_cast<std::int64_t>(std::min(gap, kMost));
}

// Whether a point fell on the block. However many did: it is one sample, and its weight says so.
bool is_sampled(ThreadTracking& mine, std::uint64_t bytes) noexcept {
  if (mine.until_sample >= 0) return false;
  // One falls on so large a block for sure (but for e^-32), wherever those of others fall: the way
  // to the next of those can stay as it was, and no random number is wanted.
  constexpr std::uint64_t kSure = 32;
  if (bytes >= kSure * sample_interval()) {
    mine.until_sample += static_cast<std::int64_t>(bytes);
    return true;
  }
  if (mine.random == 0) {
    mine.random = seed();
    mine.until_sample = next_gap(mine) - static_cast<std::int64_t>(bytes);
    if (mine.until_sample >= 0) return false;
  }
  mine.until_sample = next_gap(mine);
  return true;
}

std::uint64_t packed(BlockNumber number) noexcept {
  return std::uint64_t{number.thread} << 48 | number.number;
}
BlockNumber unpacked(std::uint64_t number) noexcept {
  return {static_cast<std::uint16_t>(number >> 48), number & ((1ULL << 48) - 1)};
}

}  // namespace

BlockTag record_taken(const BlockFacts& facts, BlockRecord* beside, const void* frame) noexcept {
  BlockTag tag = facts.context;
  if (this_tracking.suspended) return tag;
  const std::uint32_t want = g_tracking.load(std::memory_order_relaxed);
  if ((want & kWantEvents) != 0 && records(EventKind::allocate)) {
    record(EventKind::allocate, facts.subject, Bytes{facts.bytes}, facts.address, facts.context);
    tag |= kEventful;
  }
  const bool full = (want & kWantRecords) != 0;
  const bool sampled = is_sampled(this_tracking, facts.bytes) && (want & kWantSamples) != 0;
  if (!full && !sampled) return tag;
  if (!std::exchange(this_tracking.knows_its_stack, true)) know_this_threads_stack();
  BlockRecord record;
  record.stack = capture_and_intern(stack_method(), frame);
  record.born = coarse_now();
  record.mark = marks_set();
  if (full && event_file_is_open()) {
    record.number = packed(record_allocate(facts.bytes, facts.context, record.stack));
  }
  record.bytes = full ? 0 : static_cast<std::uint32_t>(sample_interval());
  if (beside != nullptr && (full || facts.large)) {
    if (!facts.large) record.bytes = static_cast<std::uint32_t>(facts.bytes);
    *beside = record;
    return tag | kBeside;
  }
  const bool added = add_record({facts, record, static_cast<BlockTag>(tag | kSampled), full});
  return added ? tag | kSampled : tag;
}

void record_end(const BlockFacts& facts, BlockTag tag, std::uint64_t number) noexcept {
  if ((tag & kEventful) != 0) {
    record(EventKind::free, facts.subject, Bytes{facts.bytes}, facts.address, facts.context);
  }
  if (number != 0) record_free(unpacked(number));
}

void record_given(const BlockFacts& facts, BlockTag tag, const BlockRecord* beside) noexcept {
  std::uint64_t number = 0;
  if ((tag & kBeside) != 0) number = beside->number;
  if ((tag & kSampled) != 0) number = drop_record(facts.source, facts.address).record.number;
  record_end(facts, tag, number);
}

}  // namespace forebay::detail
