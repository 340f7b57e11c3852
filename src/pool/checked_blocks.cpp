#include "pool/checked_blocks.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "device/request.hpp"
#include "forebay/check.hpp"

namespace forebay::detail {
namespace {

constexpr std::byte kGuardByte{0xfb};
constexpr std::byte kGoneByte{0xdb};  // what a block is filled with when it comes back
constexpr std::uint64_t kLeastFront = 16;
constexpr std::uint64_t kMostFront = 256;
constexpr std::uint64_t kLeastRear = 32;

// What waits in quarantine: this much, or as much of what is live.
constexpr std::uint64_t kQuarantine = 64ULL << 20;
constexpr std::uint64_t kQuarantineShare = 16;

std::uintptr_t address_of(const void* block) noexcept {
  return reinterpret_cast<std::uintptr_t>(block);
}

void fill(std::byte* at, std::uint64_t bytes, std::byte value) noexcept {
  std::memset(at, std::to_integer<int>(value), bytes);
}

// Where the first other byte is; `bytes` if there is none.
std::uint64_t first_other(const std::byte* at, std::uint64_t bytes, std::byte value) noexcept {
  if (bytes == 0 || (at[0] == value && std::memcmp(at, at + 1, bytes - 1) == 0)) return bytes;
  return static_cast<std::uint64_t>(
      std::find_if(at, at + bytes, [value](std::byte b) { return b != value; }) - at);
}

}  // namespace

CheckedBlocks::CheckedBlocks(PoolCore& core) noexcept
    : core_(core),
      patterns_(core.upstream().host_accessible() && !core.upstream().stream_ordered()) {}

std::uint64_t CheckedBlocks::front_of(std::uint64_t alignment) const noexcept {
  return patterns_ && alignment <= kMostFront ? std::max(alignment, kLeastFront) : 0;
}

Need CheckedBlocks::outer_need(const Need& need) const noexcept {
  Need outer = need;
  if (patterns_) outer.bytes += front_of(need.alignment) + kLeastRear;
  return outer;
}

const void* CheckedBlocks::outer_of(const void* block) const noexcept {
  const std::lock_guard lock{mutex_};
  const auto found = table_.find(address_of(block));
  return found == table_.end() ? block : found->second.outer;
}

Bytes CheckedBlocks::good_size(Bytes bytes, std::uint64_t alignment) const noexcept {
  const Need outer = outer_need({.bytes = bytes.count(), .alignment = alignment});
  return Bytes{core_.rounded(outer.bytes, alignment)};
}

// ---- Out

// Once there is a block, nothing fails: its place in the table is made before.
Result<Taken> CheckedBlocks::acquire(const Need& need) {
  Table fresh;
  fresh.try_emplace(0);
  const Need outer = outer_need(need);
  auto taken = core_.acquire_slow(outer);
  if (!taken && taken.status().code() == Code::memory_refused && !quarantined().is_zero()) {
    release_all();
    taken = core_.acquire_slow(outer);
    const std::lock_guard lock{mutex_};
    ++forgiven_;  // of two attempts, one at most is a refusal
  }
  if (!taken) return taken;
  return enter(fresh.extract(fresh.begin()), *taken, need);
}

Result<Taken> CheckedBlocks::acquire_for_move(const Need& need) {
  Table fresh;
  fresh.try_emplace(0);
  auto taken = core_.acquire_uncached(outer_need(need));
  if (!taken) return taken;
  return enter(fresh.extract(fresh.begin()), *taken, need);
}

Taken CheckedBlocks::enter(Table::node_type node, const Taken& outer, const Need& need) {
  const Need taken = outer_need(need);
  Block& block = node.mapped();
  block.outer = static_cast<std::byte*>(outer.block);
  block.outer_bytes = core_.rounded(taken.bytes, taken.alignment);
  block.front = front_of(need.alignment);
  block.bytes = need.bytes;
  block.alignment = need.alignment;
  node.key() = address_of(block.user());
  set_patterns(block);
  void* const user = block.user();
  const std::lock_guard lock{mutex_};
  block.number = ++acquires_;
  requested_ += need.bytes;
  ++live_blocks_;
  live_ += block.outer_bytes;
  peak_live_ = std::max(peak_live_, live_);
  table_.insert(std::move(node));
  return {user, kNoHandle};
}

void CheckedBlocks::set_patterns(const Block& block) const noexcept {
  if (!patterns_) return;
  fill(block.outer, block.front, kGuardByte);
  fill(block.user() + block.bytes, block.rear(), kGuardByte);
}

// ---- Back

CheckedBlocks::Block& CheckedBlocks::find_live(void* block) noexcept {
  const auto found = table_.find(address_of(block));
  if (found == table_.end()) unknown(block);
  if (found->second.state != State::live) misuse(found->second, "is given back already");
  return found->second;
}

void CheckedBlocks::check_return(const Block& block, const Return& back) const noexcept {
  if (back.bytes == 0) return;
  if (back.bytes != block.bytes || back.alignment != block.alignment) {
    misuse(block, "was taken with another size or alignment");
  }
}

void CheckedBlocks::release(void* user, const Return& back) noexcept {
  const Clock::TimePoint now = core_.options().clock->now();
  Block* block = nullptr;
  {
    const std::lock_guard lock{mutex_};
    block = &find_live(user);
    check_return(*block, back);
    block->state = State::going;
    block->stream = back.stream;
    --live_blocks_;
    live_ -= block->outer_bytes;
  }
  core_.disown(block->outer);
  check(*block, "when it was given back");
  if (patterns_) fill(block->user(), block->bytes, kGoneByte);
  {
    const std::lock_guard lock{mutex_};
    block->state = State::quarantined;
    block->since = now;
    (newest_ == nullptr ? oldest_ : newest_->next) = block;
    newest_ = block;
    quarantined_ += block->outer_bytes;
  }
  release_while([this](const Block&) { return quarantined_ > limit(); });
}

std::uint64_t CheckedBlocks::limit() const noexcept {
  return std::min(std::max(kQuarantine, live_ / kQuarantineShare),
                  core_.options().max_retained.count());
}

CheckedBlocks::Block* CheckedBlocks::pop() noexcept {
  Block* const block = oldest_;
  oldest_ = block->next;
  if (oldest_ == nullptr) newest_ = nullptr;
  block->next = nullptr;
  block->state = State::going;
  quarantined_ -= block->outer_bytes;
  return block;
}

template <typename While>
void CheckedBlocks::release_while(While more) noexcept {
  while (true) {
    Block* block = nullptr;
    {
      const std::lock_guard lock{mutex_};
      if (oldest_ == nullptr || !more(*oldest_)) return;
      block = pop();
    }
    check(*block, "when it left quarantine");
    check_gone(*block, "when it left quarantine");
    Table::node_type gone;
    {
      const std::lock_guard lock{mutex_};
      gone = table_.extract(address_of(block->user()));
    }
    core_.release(block->outer, {.stream = block->stream});
  }
}

void CheckedBlocks::release_all() noexcept {
  release_while([](const Block&) { return true; });
}

void CheckedBlocks::release_older(Clock::TimePoint time) noexcept {
  release_while([time](const Block& block) { return block.since <= time; });
}

// ---- Looking

void CheckedBlocks::check_gone(const Block& block, std::string_view when) const noexcept {
  if (!patterns_) return;
  const std::uint64_t at = first_other(block.user(), block.bytes, kGoneByte);
  if (at == block.bytes) return;
  misuse(block,
         fmt::format("was written after it was given back, at offset {}; found {}", at, when));
}

void CheckedBlocks::check(const Block& block, std::string_view when) const noexcept {
  if (!patterns_) return;
  const auto damaged = [&](const std::string& what) {
    misuse(block, fmt::format("{}; found {}", what, when));
  };
  if (const std::uint64_t at = first_other(block.outer, block.front, kGuardByte);
      at != block.front) {
    damaged(fmt::format("was written {} B before its start", block.front - at));
  }
  const std::uint64_t at = first_other(block.user() + block.bytes, block.rear(), kGuardByte);
  if (at != block.rear()) {
    damaged(fmt::format("was written {} B past its end, at offset {}", at + 1, block.bytes + at));
  }
}

void CheckedBlocks::validate() const noexcept {
  const std::lock_guard lock{mutex_};
  for (const auto& [address, block] : table_) {
    if (block.state != State::going) check(block, "by validate()");
    if (block.state == State::quarantined) check_gone(block, "by validate()");
  }
}

void CheckedBlocks::print_live() const noexcept {
  constexpr int kMost = 8;
  int printed = 0;
  for (const auto& [address, block] : table_) {
    if (printed++ == kMost) return;
    fmt::print(stderr, "forebay:   block 0x{:x} of {} (acquire {})\n", address,
               to_string(Bytes{block.bytes}), block.number);
  }
}

Bytes CheckedBlocks::usable_size(const void* block) const noexcept {
  const std::lock_guard lock{mutex_};
  auto& self = const_cast<CheckedBlocks&>(*this);
  return Bytes{self.find_live(const_cast<void*>(block)).bytes};
}

Bytes CheckedBlocks::quarantined() const noexcept {
  const std::lock_guard lock{mutex_};
  return Bytes{quarantined_};
}

PoolStats CheckedBlocks::stats() const {
  PoolStats stats = core_.stats();
  const std::lock_guard lock{mutex_};
  stats.live = std::min(Bytes{live_}, stats.reserved);  // the two were not read at once
  stats.idle = stats.reserved - stats.live;
  stats.peak_live = Bytes{peak_live_};
  stats.live_blocks = live_blocks_;
  stats.requested_total = Bytes{requested_};
  stats.refused -= forgiven_;
  return stats;
}

// ---- Saying so

void CheckedBlocks::misuse(const Block& block, std::string_view what) const noexcept {
  fmt::print(stderr, "forebay: pool '{}': block {} of {} (acquire {}) {}\n", core_.name(),
             fmt::ptr(block.user()), to_string(Bytes{block.bytes}), block.number, what);
  std::abort();
}

void CheckedBlocks::unknown(const void* block) const noexcept {
  auto after = table_.upper_bound(address_of(block));
  if (after != table_.begin()) {
    const auto& [start, known] = *--after;
    const std::uint64_t offset = address_of(block) - start;
    if (offset < known.bytes) {
      misuse(known, fmt::format("has {} inside, at offset {}, which is not the start of a block",
                                block, offset));
    }
  }
  const Region* const region = region_of(address_of(block));
  const bool ours = region != nullptr && region->core == &core_;
  fmt::print(stderr, "forebay: pool '{}': block {} {}\n", core_.name(), block,
             ours ? "is given back already, or never was a block" : "is not of this pool");
  std::abort();
}

}  // namespace forebay::detail
