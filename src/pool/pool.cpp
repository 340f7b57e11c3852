#include "forebay/pool.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <utility>

#include "device/request.hpp"
#include "forebay/check.hpp"
#include "pool/block_table.hpp"
#include "pool/size_class.hpp"

namespace forebay {

using detail::Block;
using detail::BlockTable;

struct Pool::Impl {
  struct Request {
    Bytes bytes;
    Bytes alignment;
    Stream stream;
    bool may_grow = true;
  };
  struct Taken {
    void* address;
    bool fresh;  // comes straight from upstream
  };

  Impl(std::shared_ptr<MemoryResource> source, PoolOptions given)
      : upstream(std::move(source)), options(std::move(given)) {}

  // A block for a valid request of more than zero bytes.
  Result<Taken> take(const Request& request);
  void give(void* address, Bytes bytes, Bytes alignment, Stream stream) noexcept;
  // Sends idle blocks upstream, oldest first, while `wanted(oldest, bytes so far)`.
  template <typename Wanted>
  Bytes send_oldest(Wanted wanted) noexcept;
  void validate() const;

  const std::shared_ptr<MemoryResource> upstream;
  const PoolOptions options;

 private:
  Result<Taken> grow(const Request& request);
  Result<void*> ask_upstream(const Block& block);
  Result<Taken> refuse(Status status);

  // These expect mutex to be held.
  void count_taken(const Block& block, bool hit) noexcept;
  void remove_oldest(BlockTable::List& out) noexcept;

  void send_upstream(const BlockTable::List& blocks) noexcept;

 public:
  mutable std::mutex mutex;
  BlockTable table;  // guarded by mutex, as is stats
  PoolStats stats;
};

namespace {

// Blocks of lesser alignments serve each other; upstream aligns to this anyway.
Bytes upstream_alignment(Bytes alignment) noexcept {
  return std::max(alignment, kDefaultAlignment);
}

}  // namespace

Result<Pool::Impl::Taken> Pool::Impl::take(const Request& request) {
  {
    const std::lock_guard lock{mutex};
    const detail::BlockKey key{detail::class_size(request.bytes),
                               upstream_alignment(request.alignment), request.stream};
    if (Block* const block = table.reuse(key)) {
      block->requested = request.bytes;
      block->asked_alignment = request.alignment;
      stats.idle -= block->size;
        count_taken(*block, true);
      return Taken{block->address, false};
    }
  }
  if (request.may_grow) return grow(request);
  return refuse({Code::memory_refused, fmt::format("{}: no idle block of {}", options.name,
                                                   to_string(detail::class_size(request.bytes)))});
}

// The record is made first: once upstream has given the block, nothing can fail.
Result<Pool::Impl::Taken> Pool::Impl::grow(const Request& request) {
  Block block;
  block.size = detail::class_size(request.bytes);
  block.alignment = upstream_alignment(request.alignment);
  block.stream = request.stream;
  block.requested = request.bytes;
  block.asked_alignment = request.alignment;
  BlockTable::Record record{block};

  auto address = ask_upstream(block);
  if (!address) return refuse(address.status());
  record.block().address = *address;
  const std::lock_guard lock{mutex};
  count_taken(record.block(), false);
  table.add_live(std::move(record));
  return Taken{*address, true};
}

// What lies idle here is the first thing to give up before a refusal.
Result<void*> Pool::Impl::ask_upstream(const Block& block) {
  auto first = upstream->allocate(block.size, block.alignment, block.stream);
  if (first || first.status().code() != Code::memory_refused) return first;
  const Bytes sent = send_oldest([](const Block&, Bytes) { return true; });
  if (sent.is_zero()) return first;
  return upstream->allocate(block.size, block.alignment, block.stream);
}

Result<Pool::Impl::Taken> Pool::Impl::refuse(Status status) {
  const std::lock_guard lock{mutex};
  ++stats.refused;
  return status;
}

void Pool::Impl::count_taken(const Block& block, bool hit) noexcept {
  ++(hit ? stats.hits : stats.misses);
  ++stats.live_blocks;
  stats.live += block.size;
  stats.requested_total += block.requested;
  stats.handed_out_total += block.size;
  ++stats.acquires;
  stats.peak_live = std::max(stats.peak_live, stats.live);
  stats.peak_reserved = std::max(stats.peak_reserved, stats.live + stats.idle);
}

void Pool::Impl::give(void* address, Bytes bytes, Bytes alignment, Stream stream) noexcept {
  const auto now = options.clock->now();
  BlockTable::List surplus;
  {
    const std::lock_guard lock{mutex};
    const Block* const block = table.find_live(address);
    FOREBAY_CHECK(block != nullptr, "given back to a pool: not one of its live blocks");
    FOREBAY_CHECK(block->requested == bytes && block->asked_alignment == alignment,
                  "given back to a pool with another size or alignment than it was taken with");
    const Bytes size = block->size;
    stats.live -= size;
    --stats.live_blocks;
    if (size > options.max_retained) {  // would push everything else out and not stay itself
      table.remove_live(address, surplus);
      surplus.back().stream = stream;
    } else {
      table.make_idle(address, stream, now);
      stats.idle += size;
        while (stats.idle > options.max_retained) remove_oldest(surplus);
    }
  }
  send_upstream(surplus);
}

void Pool::Impl::remove_oldest(BlockTable::List& out) noexcept {
  stats.idle -= table.oldest().size;
  table.remove_oldest(out);
}

template <typename Wanted>
Bytes Pool::Impl::send_oldest(Wanted wanted) noexcept {
  BlockTable::List blocks;
  Bytes sent;
  {
    const std::lock_guard lock{mutex};
    while (table.has_idle() && wanted(table.oldest(), sent)) {
      sent += table.oldest().size;
      remove_oldest(blocks);
    }
  }
  send_upstream(blocks);
#ifdef FOREBAY_PARANOID
  validate();
#endif
  return sent;
}

void Pool::Impl::send_upstream(const BlockTable::List& blocks) noexcept {
  for (const Block& block : blocks) {
    upstream->deallocate(block.address, block.size, block.alignment, block.stream);
  }
}

void Pool::Impl::validate() const {
  const std::lock_guard lock{mutex};
  table.validate();
  Bytes live;
  Bytes idle;
  for (const Block& block : table.live()) {
    live += block.size;
    FOREBAY_CHECK(block.size == detail::class_size(block.requested), "a block of another class");
  }
  for (const Block& block : table.idle()) idle += block.size;
  FOREBAY_CHECK(stats.live == live && stats.live_blocks == table.live().size(),
                "live does not add up");
  FOREBAY_CHECK(stats.idle == idle, "idle does not add up");
  FOREBAY_CHECK(stats.idle <= options.max_retained, "more is idle than may be retained");
  FOREBAY_CHECK(stats.peak_live >= live && stats.peak_reserved >= live + idle,
                "a peak is below the present");
  FOREBAY_CHECK(stats.hits + stats.misses >= stats.live_blocks, "blocks live without an acquire");
}

std::shared_ptr<Pool> Pool::create(std::shared_ptr<MemoryResource> upstream, PoolOptions options) {
  FOREBAY_CHECK(upstream != nullptr && options.clock != nullptr, "a pool needs both");
  if (options.ttl < Duration::zero()) {
    throw Failure{Status{Code::invalid_argument,
                         fmt::format("{}: ttl {} ns is not allowed; it must be 0 or more",
                                     options.name, options.ttl.count())}};
  }
  auto impl = std::make_unique<Impl>(std::move(upstream), std::move(options));
  return std::shared_ptr<Pool>{new Pool{std::move(impl)}};
}

Pool::Pool(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Pool::~Pool() {
  if (impl_->stats.live_blocks != 0) {
    fmt::print(stderr, "forebay: pool '{}' ended with {} live blocks of {}\n", impl_->options.name,
               impl_->stats.live_blocks, to_string(impl_->stats.live));
  }
  FOREBAY_CHECK(impl_->stats.live_blocks == 0, "a pool ended before its blocks");
  release_unused();
}

namespace {
Result<Buffer> acquire_block(Pool& pool, auto& impl_, Bytes size, const AcquireOptions& options, bool may_grow) {
  return detail::refuse_bad_alloc([&]() -> Result<Buffer> {
    if (Status bad = detail::check_request(pool.name(), size, options.alignment); !bad.ok()) return bad;
    const bool zeroed = options.contents == Contents::zeroed;
    if (zeroed && !pool.host_accessible()) {
      return Status{Code::unsupported,
                    fmt::format("{}: cannot zero memory that the CPU does not reach", pool.name())};
    }
    if (size.is_zero()) {
      return Buffer{&pool, nullptr, size, options.alignment, options.stream};
    }
    const auto taken = impl_->take({size, options.alignment, options.stream, may_grow});
    if (!taken) return taken.status();
    if (zeroed && !(taken->fresh && impl_->upstream->allocates_zeroed())) {
      std::memset(taken->address, 0, size.count());
    }
    return Buffer{&pool, taken->address, size, options.alignment, options.stream};
  });
}

}
Result<Buffer> Pool::acquire(Bytes size, const AcquireOptions& options) {
  return acquire_block(*this, impl_, size, options, true);
}
Result<Buffer> Pool::try_acquire(Bytes size, const AcquireOptions& options) {
  return acquire_block(*this, impl_, size, options, false);
}
Result<RelocatableBuffer> Pool::acquire_relocatable(Bytes, const AcquireOptions&) {
  return Status{Code::unsupported, "not yet"};
}
RelocatableBuffer::Pin::~Pin() = default;
void RelocatableBuffer::reset() noexcept {}
void Pool::deallocate_unsized(void*, Stream) noexcept {}
Bytes Pool::usable_size(const void*) const noexcept { return {}; }
Bytes Pool::consolidate() noexcept { return {}; }
bool Pool::stream_ordered() const noexcept { return false; }
void Pool::stream_wait(Stream, Stream) noexcept {}
void Pool::zero(void* d, Bytes b, Stream s) noexcept { impl_->upstream->zero(d, b, s); }
void Pool::copy(void* t, const void* f, Bytes b, Stream s) noexcept { impl_->upstream->copy(t, f, b, s); }
double PoolStats::hit_rate() const noexcept { return acquires == 0 ? 1.0 : static_cast<double>(hits) / static_cast<double>(acquires); }
double PoolStats::fragmentation() const noexcept { return 0; }

Bytes Pool::trim(Bytes goal) noexcept {
  return impl_->send_oldest([goal](const Block&, Bytes sent) { return sent < goal; });
}

Bytes Pool::tick() noexcept {
  const auto now = impl_->options.clock->now();
  const Duration ttl = impl_->options.ttl;
  return impl_->send_oldest(
      [now, ttl](const Block& oldest, Bytes) { return now - oldest.idle_since > ttl; });
}

PoolStats Pool::stats() const {
  const std::lock_guard lock{impl_->mutex};
  PoolStats stats = impl_->stats;
  stats.reserved = stats.live + stats.idle;
  return stats;
}

void Pool::validate() const { impl_->validate(); }

Bytes Pool::good_size(Bytes bytes, Bytes alignment) const noexcept {
  if (bytes.is_zero()) return bytes;
  return impl_->upstream->good_size(detail::class_size(bytes), upstream_alignment(alignment));
}

std::string_view Pool::name() const noexcept { return impl_->options.name; }

bool Pool::host_accessible() const noexcept { return impl_->upstream->host_accessible(); }

Bytes Pool::reclaimable() const noexcept {
  const std::lock_guard lock{impl_->mutex};
  return impl_->stats.idle;
}

Result<void*> Pool::do_allocate(Bytes bytes, Bytes alignment, Stream stream) {
  const auto taken = impl_->take({bytes, alignment, stream});
  if (!taken) return taken.status();
  return taken->address;
}

void Pool::do_deallocate(void* block, Bytes bytes, Bytes alignment, Stream stream) noexcept {
  impl_->give(block, bytes, alignment, stream);
}

}  // namespace forebay
