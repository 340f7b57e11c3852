// Pool: a memory resource that reuses, flat in time and tight in space.
//
// Small blocks (up to 32 KiB) are cut from slabs by size class, eight classes a doubling, so
// that a block is at most 12.5 % larger than what was asked, before alignment (from 128 B on;
// below, multiples of 16 B). Large ones are runs of 4 KiB pages, found by a bitmap of size bins,
// split, and joined with their neighbours again (Masmano et al., "TLSF", ECRTS 2004). Each thread
// keeps a few free blocks of each size, taken and given without a lock or a shared write. All
// bookkeeping is beside the blocks, never in them: a device's bytes are not touched.
//
// Where upstream can reserve addresses (the host, simulated devices), the pool commits just
// the pages that it hands out, and takes idle pages from anywhere, by moving their mapping
// (Guo et al., "GMLake", ASPLOS 2024) or by giving back as much as it asks for: free pages are
// never lost to holes, and reserved bytes follow live ones. Elsewhere it takes segments and
// joins free blocks within them; consolidate() empties sparse ones.
//
// Giving back: of what lies idle, the pool keeps as much as was in use at any time in the
// past `ttl`; the rest goes upstream, longest idle first, in slices of at most 1 MiB, by a
// background thread or by tick(). An acquire gives nothing back because of its age. When
// upstream refuses, idle memory goes first and upstream is asked again, before anybody is refused.
//
// Streams: memory that was freed on a stream is used again on that stream as it is. On another,
// that one first waits for it: one event when memory changes stream, none otherwise.
//
// Tenants: content never passes from one tenant to another; what changes tenant is zeroed.
//
// Misuse aborts with a line that names the block: a second release, a pointer that is not
// the start of one of its blocks, a release with another size. A `checked` pool also finds
// overflows and writes after release.
//
// The pool must outlive its blocks; one that ends before them aborts and names them.
//
// Thread safety: thread-safe. No lock is held while calling upstream.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "forebay/buffer.hpp"
#include "forebay/clock.hpp"
#include "forebay/device.hpp"

#pragma GCC visibility push(default)
namespace forebay {

// What a block holds when it is handed out.
enum class Contents {
  uninitialized,  // whatever its last user left there, if that was the same tenant; else zeroes
  zeroed,         // zeroes; pages that arrive zeroed are not zeroed twice
};

// Who uses a pool's blocks, where several do: 0 .. kMaxTenants - 1, as the user numbers them.
struct Tenant {
  std::uint8_t id = 0;
  friend bool operator==(Tenant, Tenant) = default;
};
inline constexpr std::uint8_t kMaxTenants = 126;

struct AcquireOptions {
  Bytes alignment = kDefaultAlignment;  // a power of two, at most 2 MiB
  Contents contents = Contents::uninitialized;
  Stream stream{};
  Tenant tenant{};
};

struct PoolOptions {
  std::string name = "pool";
  Duration ttl = std::chrono::seconds{60};  // idle longer than this: back upstream
  // How often a thread of the process gives back by itself. Zero, or a clock that is not the
  // steady one: never; call tick().
  Duration cleanup_interval = std::chrono::seconds{1};
  Bytes min_retained{};  // idle bytes that age never takes
  // Idle bytes kept at most. (A slab of which a thread keeps a block stays until the next tick.)
  Bytes max_retained = Bytes::unlimited();
  HugePages huge_pages = HugePages::never;  // host pools; memory then comes in whole huge pages
  Bytes min_alignment = kDefaultAlignment;  // of every block; 256 for devices
  // One in so many large blocks of each thread ends at a page that faults when touched, and the
  // fault names the block: for that a handler of SIGSEGV is installed, once a process, in front of
  // the one that is there. For pools with reserved addresses of the host, without huge pages, that
  // are not `checked`. 0: none.
  std::uint32_t guard_every = 0;
  // A table of all blocks, guard bytes around them, and a quarantine behind them: slower by far.
  // The environment variable FOREBAY_PARANOID=1 turns it on in every pool. In stats() guard bytes
  // are part of what a block takes, and blocks in quarantine are idle.
  bool checked = false;
  Clock* clock = &Clock::steady();  // must outlive the pool
};

struct PoolStats {
  Bytes reserved;      // held from upstream
  Bytes live;          // in blocks handed out, rounded up to what they take
  Bytes idle;          // reserved - live
  Bytes largest_free;  // the largest block that could be had without asking upstream
  Bytes metadata;      // host bytes of bookkeeping, beside `reserved`
  Bytes peak_live;     // exact for one thread; with more, to within the latest few operations
                       // of the others
  Bytes peak_reserved;
  std::uint64_t live_blocks = 0;
  std::uint64_t acquires = 0;  // that succeeded: hits + misses
  std::uint64_t hits = 0;      // served without asking upstream
  std::uint64_t misses = 0;
  std::uint64_t refused = 0;  // acquires and try_acquires that found no memory
  Bytes requested_total;      // asked for and handed out since the start; their difference
  Bytes handed_out_total;     // is what rounding costs

  double hit_rate() const noexcept;       // hits / acquires; 1 if there were none
  double fragmentation() const noexcept;  // 1 - largest_free / idle; 0 if nothing is idle
};

// A pool as others see it.
struct PoolView {
  // Addresses that hold memory of upstream's.
  struct Segment {
    std::uintptr_t address = 0;
    Bytes bytes;
  };
  std::string name;
  std::string upstream;
  PoolStats stats;
  std::vector<Segment> segments;  // by address
};

// Whoever can move blocks that it has taken from a pool: Pool::consolidate() empties sparse memory
// with its help. Called with no lock held; all but list() must not take or give back blocks of the
// pool.
class MovableBlocks {
 public:
  struct Block {
    void* data = nullptr;
    Bytes size;               // as it was asked for
    std::uintptr_t name = 0;  // the owner's own
  };
  virtual ~MovableBlocks() = default;
  // All that may be moved now. May throw std::bad_alloc.
  virtual void list(std::vector<Block>& blocks) = 0;
  // From here to release() the block stays and nobody changes it. False: it is in use, or gone.
  virtual bool claim(const Block& block) noexcept = 0;
  // Copies what is in a block that is claimed to `to`, which is the owner's from here on, in place
  // of block.data. False, and nothing changed: it could not.
  virtual bool move(const Block& block, void* to) noexcept = 0;
  virtual void release(const Block& block) noexcept = 0;
  // How it was asked for.
  virtual AcquireOptions options(const Block&) const noexcept { return {}; }
  // What was listed last is not asked for any more.
  virtual void surveyed() noexcept {}
};

class Pool final : public MemoryResource,
                   public Reclaimer,
                   public std::enable_shared_from_this<Pool> {
 public:
  // Throws Failure (invalid_argument) for a negative ttl or interval, min_retained above
  // max_retained, or a min_alignment that is no alignment; MemoryRefused if the process has no
  // addresses left.
  static std::shared_ptr<Pool> create(std::shared_ptr<MemoryResource> upstream,
                                      PoolOptions options = {});
  // Aborts, and names them, if blocks are still live: their owners would write into memory of
  // others.
  ~Pool() override;

  // A buffer of at least `size` bytes. Its end is the return. Errors: those of
  // MemoryResource::allocate; invalid_argument also for a tenant out of range.
  Result<Buffer> acquire(Bytes size);
  Result<Buffer> acquire(Bytes size, const AcquireOptions& options);
  // The same from idle memory only: never grows, waits or reclaims.
  Result<Buffer> try_acquire(Bytes size, const AcquireOptions& options = {});
  // A buffer that consolidate() may move. Errors: as acquire.
  Result<RelocatableBuffer> acquire_relocatable(Bytes size, const AcquireOptions& options = {});

  // Gives a block back of which only the address is known. `stream` is that of its last use.
  void deallocate_unsized(void* block, Stream stream = {}) noexcept;
  // These live blocks of the pool come back next, in any order: what that touches is on its way
  // from memory then, for all of them side by side. Changes nothing.
  void fetch(std::span<const void* const> blocks) const noexcept;
  // The bytes usable in a live block of this pool.
  Bytes usable_size(const void* block) const noexcept;

  // Gives idle memory upstream, longest idle first, until `goal` bytes went or none is left.
  // Returns the bytes given.
  Bytes trim(Bytes goal) noexcept;
  // Gives all idle memory upstream. Returns the bytes given.
  Bytes release_unused() noexcept { return trim(Bytes::unlimited()); }
  // One round of giving back by age and by max_retained. Returns the bytes given. Without a
  // background thread, call it several times a ttl: memory goes at most one call late.
  Bytes tick() noexcept;
  // Moves relocatable blocks that nobody has pinned out of the sparsest memory, and gives what
  // that frees upstream. Returns the bytes given. Sparse: less than half of a segment (where
  // upstream has address ranges: of a slab of small blocks) is live, and all of that may move. A
  // move is an acquire and a release in stats().
  Bytes consolidate() noexcept;
  // The same with blocks that their owner moves. Nothing is done while another call of this is.
  Bytes consolidate(MovableBlocks& blocks) noexcept;

  PoolStats stats() const;
  // Every pool of the process, a view of each.
  static std::vector<PoolView> all();
  // Aborts unless every structure is consistent: blocks tile the memory, lists and counters
  // agree, hits + misses = acquires, live + idle = reserved.
  void validate() const;

  // MemoryResource
  Bytes good_size(Bytes bytes, Bytes alignment) const noexcept override;
  std::string_view name() const noexcept override;
  bool host_accessible() const noexcept override;
  bool stream_ordered() const noexcept override;
  void stream_wait(Stream waiter, Stream earlier) noexcept override;
  void zero(void* data, Bytes bytes, Stream stream) noexcept override;
  void copy(void* to, const void* from, Bytes bytes, Stream stream) noexcept override;

  // Reclaimer: idle memory.
  Bytes reclaim(Bytes goal) noexcept override { return trim(goal); }
  Bytes reclaimable() const noexcept override;

 private:
  friend class Buffer;
  friend class TensorPool;
  struct Impl;
  explicit Pool(std::unique_ptr<Impl> impl);
  Result<Buffer> acquire_slow(Bytes size, const AcquireOptions& options, bool may_grow,
                              const void* frame);
  // A block that its user keeps for later is nobody's to the tracker, until it is used again.
  void disown(const void* block) noexcept;
  void own(const void* block, Bytes bytes, const void* frame) noexcept;
  Result<void*> do_allocate(Bytes bytes, Bytes alignment, Stream stream) override;
  void do_deallocate(void* block, Bytes bytes, Bytes alignment, Stream stream) noexcept override;

  std::unique_ptr<Impl> impl_;
};

}  // namespace forebay
#pragma GCC visibility pop
