// Drives a pool with numbers, whatever they are, and holds it to a naive model: live blocks never
// overlap and keep their content, figures agree, memory is never used on a stream that does not
// wait for its last use, and nothing that fits is refused. Shared by the property tests and the
// fuzz target.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>
#include <vector>

#include "forebay/budget.hpp"
#include "forebay/pool.hpp"
#include "pool/size_class.hpp"
#include "support/watched_ranges.hpp"
#include "support/watched_resource.hpp"

namespace forebay::testing {

// What a broken promise throws.
inline void demand(bool condition, const char* what) {
  if (!condition) throw std::logic_error{what};
}

// Which stream has waited for what: a vector clock for each. Memory that was given back on a
// stream at some time may be used on another only once that one has waited for that time.
class StreamOrder {
 public:
  void wait(Stream waiter, Stream earlier) {
    Clock& to = clocks_[waiter.handle];
    for (const auto& [stream, time] : clocks_[earlier.handle]) {
      to[stream] = std::max(to[stream], time);
    }
  }
  void used(std::uintptr_t begin, std::uintptr_t end, Stream on) {
    forget(begin, end);
    last_[begin] = {end, on.handle, ++clocks_[on.handle][on.handle]};
  }
  void use(std::uintptr_t begin, std::uintptr_t end, Stream on) {
    Clock& now = clocks_[on.handle];
    for (const auto& [start, use] : last_) {
      if (start >= end || use.end <= begin) continue;
      demand(on.handle == use.stream || now[use.stream] >= use.time,
             "memory is used on a stream that did not wait for its last use");
    }
  }
  // The memory there is gone.
  void forget(std::uintptr_t begin, std::uintptr_t end) {
    std::map<std::uintptr_t, Use> kept;
    for (const auto& [start, use] : last_) {
      if (start < begin) kept[start] = {std::min(use.end, begin), use.stream, use.time};
      if (use.end > end) kept[std::max(start, end)] = use;
    }
    last_ = std::move(kept);
  }
  void move(std::uintptr_t to, std::uintptr_t from, std::uint64_t bytes) {
    std::map<std::uintptr_t, Use> moved;
    for (const auto& [start, use] : last_) {
      const std::uintptr_t begin = std::max(start, from);
      const std::uintptr_t end = std::min(use.end, from + bytes);
      if (begin < end) moved[begin - from + to] = {end - from + to, use.stream, use.time};
    }
    forget(from, from + bytes);
    last_.merge(moved);
  }

 private:
  using Clock = std::map<std::uintptr_t, std::uint64_t>;
  struct Use {
    std::uintptr_t end;
    std::uintptr_t stream;
    std::uint64_t time;
  };
  std::map<std::uintptr_t, Clock> clocks_;
  std::map<std::uintptr_t, Use> last_;
};

struct PoolOperation {
  std::uint8_t verb = 0;
  std::uint8_t log = 0;    // of the size
  std::uint8_t which = 0;  // block, stream, tenant, alignment
  std::uint16_t bits = 0;
};

enum class Below { host, simulated, metered, segments, streams };

class PoolModel {
 public:
  static constexpr Bytes kLimit{48ULL << 20};

  // `large_only`: every block is a run of pages, so that bytes can be counted from outside.
  PoolModel(Below below, bool large_only, Bytes max_retained = Bytes::unlimited())
      : below_(below), large_only_(large_only) {
    pool_ = Pool::create(
        make_upstream(),
        {.ttl = std::chrono::seconds{8}, .max_retained = max_retained, .clock = &clock_});
  }
  ~PoolModel() {
    live_.clear();
    pool_.reset();
  }
  PoolModel(const PoolModel&) = delete;
  PoolModel& operator=(const PoolModel&) = delete;

  void apply(const PoolOperation& operation) {
    const unsigned verb = operation.verb % 16;
    if (verb < 6) acquire(operation, true);
    if (verb == 6) acquire(operation, false);
    if (verb >= 7 && verb <= 9) release(operation, verb == 9);
    if (verb == 10 && operation.bits % 16 == 0) release_some(operation);
    if (verb == 11) pool_->trim(size_of(operation));
    if (verb == 12) tick(operation);
    if (verb == 13) pool_->consolidate();
    if (verb >= 14) pool_->validate();
    check_figures();
  }

  // Acquires that found no room so far.
  std::uint64_t refusals() const { return refusals_; }

  // All goes back, to the last byte.
  void end() {
    while (!live_.empty()) give_back(live_.begin());
    pool_->validate();
    check_figures();
    demand(pool_->stats().live == Bytes{}, "bytes are live, but no block is");
    pool_->release_unused();
    demand(pool_->stats().reserved == Bytes{}, "idle memory does not go back");
    demand(upstream_live() == Bytes{}, "upstream lacks what went back");
  }

 private:
  struct Live {
    Buffer buffer;
    unsigned char pattern = 0;
  };
  using Blocks = std::map<std::uintptr_t, Live>;

  std::shared_ptr<MemoryResource> make_upstream() {
    switch (below_) {
      case Below::host:
        return budget_.meter(Device::host());
      case Below::simulated:
        device_ = SimulatedDevice::create({.capacity = kLimit});
        return device_;
      case Below::metered:
        device_ = SimulatedDevice::create();
        return budget_.meter(device_);
      case Below::segments:
        return budget_.meter(std::make_shared<WatchedResource>());
      case Below::streams:
        break;
    }
    const auto watched = std::make_shared<WatchedRanges>(budget_.meter(Device::host()), true);
    watched->on_wait = [this](StreamWait wait) { order_.wait(wait.waiter, wait.earlier); };
    watched->on_decommit = [this](const std::byte* at, Bytes bytes) {
      const auto begin = reinterpret_cast<std::uintptr_t>(at);
      order_.forget(begin, begin + bytes.count());
    };
    watched->on_adopt = [this](const std::byte* to, const std::byte* from, Bytes bytes) {
      order_.move(reinterpret_cast<std::uintptr_t>(to), reinterpret_cast<std::uintptr_t>(from),
                  bytes.count());
    };
    return watched;
  }
  Bytes upstream_live() const {
    return below_ == Below::simulated ? device_->stats().live : budget_.stats().used;
  }
  Bytes grain() const {
    return below_ == Below::simulated || below_ == Below::metered ? Bytes{2ULL << 20} : Bytes{4096};
  }
  bool has_ranges() const { return below_ != Below::segments; }

  Bytes size_of(const PoolOperation& operation) const {
    const std::uint64_t below = 16ULL << (operation.log % 21);
    const std::uint64_t size = 1 + operation.bits * 257ULL % below;
    return Bytes{large_only_ ? size + (32ULL << 10) : size};
  }
  AcquireOptions options_of(const PoolOperation& operation) const {
    const bool aligned = operation.which % 8 == 7;
    return {.alignment = aligned ? Bytes{1ULL << operation.bits % 22} : kDefaultAlignment,
            .contents = operation.which & 16 ? Contents::zeroed : Contents::uninitialized,
            .stream = Stream{operation.which / 32U * 64U},
            .tenant = {static_cast<std::uint8_t>(operation.which / 8 % 2)}};
  }

  void acquire(const PoolOperation& operation, bool grow) {
    const Bytes size = size_of(operation);
    const AcquireOptions options = options_of(operation);
    const PoolStats before = pool_->stats();
    auto got = grow ? pool_->acquire(size, options) : pool_->try_acquire(size, options);
    if (!got) {
      demand(got.status().code() == Code::memory_refused, "refused for a strange reason");
      expect_refused(before, size, options.alignment, grow);
      return;
    }
    expect_no_waste(before, size, grow);
    enter(std::move(*got), options);
  }

  // The promise: what fits in the free bytes, in pieces as upstream has them, is not refused.
  void expect_refused(const PoolStats& before, Bytes size, Bytes alignment, bool grow) {
    const PoolStats after = pool_->stats();
    demand(after.live == before.live && after.acquires == before.acquires &&
               after.refused == before.refused + 1,
           "a refusal changed something");
    if (!grow) return;
    ++refusals_;
    if (!has_ranges()) return;
    pool_->release_unused();
    const Bytes needed = growth_for(size, alignment);
    demand(pool_->stats().reserved + needed > kLimit, "refused what fits");
    if (!large_only_) return;
    demand(covered() + needed > kLimit, "refused what fits around the live blocks");
    demand(pool_->stats().reserved == covered(), "something is held where nothing is live");
  }
  // What upstream must give for a block if there is nothing idle: a slab, if it is small.
  Bytes growth_for(Bytes size, Bytes alignment) const {
    const bool small = detail::is_small(size.count(), alignment.count());
    const std::uint64_t slab =
        small ? detail::kClasses[detail::class_of(size.count(), alignment.count())].slab_pages : 0;
    return align_up(std::max(size, Bytes{slab * detail::kPage}), grain()).value();
  }
  // Bytes of the pieces of upstream's that live blocks lie in.
  Bytes covered() const {
    std::uint64_t bytes = 0;
    std::uintptr_t end = 0;
    for (const auto& [start, live] : live_) {
      const std::uintptr_t first = std::max(start / grain().count() * grain().count(), end);
      end = (start + pool_->good_size(live.buffer.size(), live.buffer.alignment()).count() +
             grain().count() - 1) /
            grain().count() * grain().count();
      bytes += end - first;
    }
    return Bytes{bytes};
  }

  void expect_no_waste(const PoolStats& before, Bytes size, bool grow) const {
    const PoolStats after = pool_->stats();
    demand(grow || after.reserved == before.reserved, "try_acquire grew");
    if (after.misses == before.misses) return;
    demand(after.misses == before.misses + 1, "an acquire missed twice");
    if (!large_only_ || !has_ranges()) return;
    const std::uint64_t held = after.reserved.count();
    const std::uint64_t of_small = std::min<std::uint64_t>(held / 8, 40ULL << 20);
    const Bytes slack{std::max<std::uint64_t>({1ULL << 20, of_small, held / 32})};
    const Bytes most = covered() + slack + align_up(size, grain()).value() + grain();
    demand(after.reserved <= std::max(before.reserved, most), "grew with idle memory at hand");
  }

  void enter(Buffer buffer, const AcquireOptions& options) {
    const auto start = reinterpret_cast<std::uintptr_t>(buffer.data());
    const std::uint64_t size = buffer.size().count();
    demand(start % options.alignment.count() == 0, "a block is not aligned");
    const auto next = live_.lower_bound(start);
    demand(next == live_.end() || start + size <= next->first, "blocks overlap");
    if (next != live_.begin()) {
      const auto& [before, live] = *std::prev(next);
      demand(before + live.buffer.size().count() <= start, "blocks overlap");
    }
    const Bytes usable = pool_->usable_size(buffer.data());
    demand(usable == pool_->good_size(buffer.size(), options.alignment), "usable is not good");
    order_use(start, start + usable.count(), options.stream);
    if (pool_->host_accessible()) {
      demand(options.contents != Contents::zeroed || holds(buffer, 0), "zeroed is not zero");
      std::memset(buffer.data(), ++patterns_, size);
    }
    live_.emplace(start, Live{std::move(buffer), patterns_});
  }
  void order_use(std::uintptr_t begin, std::uintptr_t end, Stream on) {
    if (below_ == Below::streams) order_.use(begin, end, on);
  }

  static bool holds(const Buffer& buffer, unsigned char pattern) {
    const auto bytes = buffer.bytes();
    const auto is = [pattern](std::byte b) { return b == std::byte{pattern}; };
    if (bytes.size() <= 4096) return std::ranges::all_of(bytes, is);
    for (std::size_t i = 0; i < bytes.size(); i += 509) {
      if (!is(bytes[i])) return false;
    }
    return is(bytes.back());
  }

  void tick(const PoolOperation& operation) {
    clock_.advance(std::chrono::milliseconds{operation.bits});
    pool_->tick();
  }

  void release(const PoolOperation& operation, bool elsewhere) {
    if (live_.empty()) return;
    const auto it = std::next(live_.begin(), operation.bits % static_cast<int>(live_.size()));
    if (elsewhere) it->second.buffer.set_stream(Stream{operation.which / 32U * 64U});
    give_back(it);
  }
  void release_some(const PoolOperation& operation) {
    for (auto it = live_.begin(); it != live_.end();) {
      it = ++patterns_ % 4 < operation.which % 4 ? give_back(it) : std::next(it);
    }
  }
  Blocks::iterator give_back(Blocks::iterator it) {
    Buffer& buffer = it->second.buffer;
    demand(!pool_->host_accessible() || holds(buffer, it->second.pattern),
           "the content of a live block changed");
    if (below_ == Below::streams) {
      order_.used(it->first, it->first + pool_->usable_size(buffer.data()).count(),
                  buffer.stream());
    }
    return live_.erase(it);
  }

  void check_figures() const {
    const PoolStats stats = pool_->stats();
    Bytes live;
    for (const auto& [start, block] : live_) {
      live += pool_->good_size(block.buffer.size(), block.buffer.alignment());
    }
    demand(stats.live == live, "live bytes are not those of the blocks");
    demand(stats.live_blocks == live_.size(), "live blocks are not as many");
    demand(stats.live + stats.idle == stats.reserved, "live and idle are not all");
    demand(stats.hits + stats.misses == stats.acquires, "hits and misses are not all");
    demand(stats.reserved == upstream_live(), "reserved is not what upstream gave");
    demand(stats.reserved <= kLimit || below_ == Below::segments, "above the line");
  }

  const Below below_;
  const bool large_only_;
  ManualClock clock_;
  Budget budget_{"process", {.limit = kLimit}};
  std::shared_ptr<SimulatedDevice> device_;
  StreamOrder order_;
  std::shared_ptr<Pool> pool_;
  Blocks live_;
  unsigned char patterns_ = 0;
  std::uint64_t refusals_ = 0;
};

}  // namespace forebay::testing
