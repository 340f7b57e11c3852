// Pool: a memory resource that reuses.
//
// Freed blocks are kept, by size class, and given to the next acquire of the class, so a
// recurring size costs no trip to the device. Classes are spaced so that a block is at
// most 12.5 % larger than what was asked (plus the 64-byte floor). What is idle above
// `max_retained` goes back to the upstream resource at once, what is idle longer than `ttl`
// when tick() is called, both oldest first; a pool is also a Reclaimer, so a budget can
// have the idle bytes back at any time. A block is used again only on the stream that it
// was given back on, and with the alignment that it was made for.
//
// When upstream refuses, the pool gives all its idle blocks back and asks once more before
// it refuses: a refused acquire changes nothing that is live.
//
// One pool serves one tenant: a reused block may hold what that tenant left in it, unless
// zeroed content is asked for. Blocks that go back upstream and out to another tenant
// pass through the device; the host's hands out zeroed blocks only.
//
// The pool must outlive its buffers' use, not their handles: each Buffer keeps it alive.
//
// Invariants (validate() checks them):
//   1. every block is either live or on exactly one idle list;
//   2. live_bytes and idle_bytes are the sums of the blocks' class sizes;
//   3. hits + misses = acquires that succeeded with size > 0;
//   4. idle_bytes <= max_retained after every deallocate.
//
// Thread safety: thread-safe. No lock is held while calling the upstream resource.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "forebay/buffer.hpp"
#include "forebay/clock.hpp"
#include "forebay/device.hpp"

#pragma GCC visibility push(default)
namespace forebay {

// What a block holds when it is handed out.
enum class Contents {
  uninitialized,  // whatever this pool's tenant left there
  zeroed,         // zeroes; a fresh block that arrives zeroed is not zeroed twice
};

struct AcquireOptions {
  Bytes alignment = kDefaultAlignment;  // a power of two, at most 2 MiB
  Contents contents = Contents::uninitialized;
  Stream stream{};
};

struct PoolOptions {
  std::string name = "pool";
  Duration ttl = std::chrono::seconds{60};  // idle longer than this: back upstream
  Bytes max_retained = Bytes::unlimited();  // idle bytes kept at most
  Clock* clock = &Clock::steady();          // must outlive the pool
};

struct PoolStats {
  Bytes live;       // bytes in blocks handed out, rounded up to their classes
  Bytes idle;       // bytes kept for reuse
  Bytes requested;  // bytes asked for by the live blocks: live - requested is waste
  Bytes peak_live;
  Bytes peak_reserved;  // highest live + idle
  std::uint64_t live_blocks = 0;
  std::uint64_t idle_blocks = 0;
  std::uint64_t hits = 0;     // acquires served from an idle block
  std::uint64_t misses = 0;   // acquires that went upstream
  std::uint64_t refused = 0;  // acquires and try_acquires that found no memory
};

class Pool final : public MemoryResource,
                   public Reclaimer,
                   public std::enable_shared_from_this<Pool> {
 public:
  // Throws Failure (invalid_argument) if ttl is negative.
  static std::shared_ptr<Pool> create(std::shared_ptr<MemoryResource> upstream,
                                      PoolOptions options = {});
  // Aborts if a block is still live: its owner would write into returned memory.
  ~Pool() override;

  // A buffer of at least `size` bytes. Its end is the return. Errors: those of
  // MemoryResource::allocate; `zeroed` on memory the host cannot reach is unsupported.
  Result<Buffer> acquire(Bytes size, AcquireOptions options = {});
  // The same from idle blocks only: never grows, waits or reclaims.
  Result<Buffer> try_acquire(Bytes size, AcquireOptions options = {});

  // Gives idle blocks upstream, oldest first, on the streams of their last use, until `goal` bytes
  // went or none is idle. Returns the bytes given.
  Bytes trim(Bytes goal) noexcept;
  // Gives all idle blocks upstream. Returns the bytes given.
  Bytes release_unused() noexcept { return trim(Bytes::unlimited()); }
  // Gives back what has been idle longer than ttl. Call it now and then; no thread does.
  Bytes tick() noexcept;

  PoolStats stats() const;
  // Aborts unless the invariants above hold.
  void validate() const;

  // MemoryResource
  Bytes good_size(Bytes bytes, Bytes alignment) const noexcept override;
  std::string_view name() const noexcept override;
  bool host_accessible() const noexcept override;

  // Reclaimer: idle blocks.
  Bytes reclaim(Bytes goal) noexcept override { return trim(goal); }
  Bytes reclaimable() const noexcept override;

 private:
  struct Impl;
  explicit Pool(std::unique_ptr<Impl> impl);
  Result<Buffer> acquire_block(Bytes size, const AcquireOptions& options, bool may_grow);
  Result<void*> do_allocate(Bytes bytes, Bytes alignment, Stream stream) override;
  void do_deallocate(void* block, Bytes bytes, Bytes alignment, Stream stream) noexcept override;

  std::unique_ptr<Impl> impl_;
};

}  // namespace forebay
#pragma GCC visibility pop
