// Devices and memory resources: where bytes come from.
//
// A MemoryResource allocates and deallocates; an adaptor is one over an upstream
// resource (the field's words: std::pmr, RMM, CCCL). A Device is the resource at the
// root of such a chain: one memory space with a capacity. Resources are shared by
// std::shared_ptr, so an adaptor keeps what it stands on alive.
//
// Everything is ordered by streams: a block is ready for work on the stream that it was
// allocated on, and deallocation takes the stream of its last use. Who gives a block to
// another stream makes that one wait first (stream_wait). The host's stream does nothing.
//
// Not here: reuse (pool.hpp), limits (budget.hpp).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "forebay/bytes.hpp"
#include "forebay/clock.hpp"
#include "forebay/status.hpp"

#pragma GCC visibility push(default)
namespace forebay {

// A queue of work on a device, by its native handle (a CUstream, a VkQueue, ...).
// Default: the device's default stream; on the host, nothing. A value, not an owner.
struct Stream {
  std::uintptr_t handle = 0;
  friend bool operator==(Stream, Stream) = default;
};

// Fundamental alignment of host blocks, in bytes.
inline constexpr Bytes kDefaultAlignment{16};
// The largest alignment that every resource must offer: a huge page.
inline constexpr Bytes kMaxAlignment{2ULL << 20};

// Which pages the host's kernel may back with huge ones (2 MiB).
enum class HugePages {
  never,   // memory follows what is committed page by page
  advise,  // where whole huge pages are committed at once
  always,  // everywhere: memory comes and goes in whole huge pages only
};

struct AddressRangeOptions {
  // Granularity of commit and decommit; a power of two. Zero: the finest of the resource.
  Bytes page{};
  HugePages huge_pages = HugePages::never;  // other than host: ignored
};

class AddressRange;

// Anything that allocates and deallocates bytes.
//
// Contract of every resource (tests/conformance holds each to it):
// - allocate(bytes, alignment, stream) gives a block of at least `bytes`, aligned, that
//   overlaps no other live block. Its content is unspecified.
// - Zero bytes is a valid request: it succeeds with nullptr and charges nothing.
// - A failed allocate changes nothing. Codes: memory_refused (does not fit, or the host
//   has no memory left for bookkeeping), invalid_argument (alignment not a power of two in
//   [1, 2 MiB]). It throws no std::bad_alloc.
// - deallocate takes the same bytes and alignment, cannot fail, and may be called from
//   any thread. nullptr is ignored.
// Thread safety: all implementations are thread-safe unless they say otherwise.
class MemoryResource {
 public:
  virtual ~MemoryResource() = default;
  MemoryResource(const MemoryResource&) = delete;
  MemoryResource& operator=(const MemoryResource&) = delete;

  Result<void*> allocate(Bytes bytes, Bytes alignment = kDefaultAlignment, Stream stream = {});
  void deallocate(void* block, Bytes bytes, Bytes alignment = kDefaultAlignment,
                  Stream stream = {}) noexcept;

  // The bytes that a request really takes from this resource's capacity, rounding
  // included; what a budget is charged. At least `bytes`; saturates at unlimited.
  virtual Bytes good_size(Bytes bytes, Bytes alignment) const noexcept;

  // Reserves `bytes` of address space, rounded up to pages, taking no memory but a bit or
  // two a page; what is committed later is charged as blocks are. The range keeps this
  // resource alive. Errors: unsupported where there is no virtual-memory management;
  // memory_refused if the process has no such addresses left; invalid_argument (page).
  Result<std::unique_ptr<AddressRange>> reserve_address(Bytes bytes,
                                                        const AddressRangeOptions& options = {});

  // A short name for reports: "host", "gpu0", "pool tensors".
  virtual std::string_view name() const noexcept = 0;
  // Whether the CPU may read and write the blocks.
  virtual bool host_accessible() const noexcept = 0;

  // Whether work on different streams may overlap. If not, the next three run at once.
  virtual bool stream_ordered() const noexcept { return false; }
  // Work submitted to `waiter` from now on waits for what `earlier` holds now (an event
  // recorded on one stream and waited for on the other).
  virtual void stream_wait(Stream waiter, Stream earlier) noexcept;
  // Zeroes, copies bytes of blocks of this resource, in the order of `stream`. The regions
  // must not overlap. What the CPU does not reach must override both.
  virtual void zero(void* data, Bytes bytes, Stream stream) noexcept;
  virtual void copy(void* to, const void* from, Bytes bytes, Stream stream) noexcept;
  // Whether every block arrives zeroed, so that nobody needs to zero it again. An adaptor
  // that does not reuse blocks forwards its upstream's answer.
  virtual bool allocates_zeroed() const noexcept { return false; }

 protected:
  MemoryResource() = default;

 private:
  // REQUIRES (checked above): bytes > 0; alignment a power of two in [1, 2 MiB].
  virtual Result<void*> do_allocate(Bytes bytes, Bytes alignment, Stream stream) = 0;
  virtual void do_deallocate(void* block, Bytes bytes, Bytes alignment, Stream stream) noexcept = 0;
  // REQUIRES (checked above): page zero or a power of two, at most kMaxAlignment. Default:
  // unsupported.
  virtual Result<std::unique_ptr<AddressRange>> do_reserve_address(
      Bytes bytes, const AddressRangeOptions& options);
};

// Anything that can shrink when asked: a pool's idle blocks, a cache's entries, ...
//
// reclaim() is called with no Forebay lock held, from whichever thread needs room. It
// must not reserve memory (such a call fails at once) and must not wait for a thread
// that may be waiting for memory.
class Reclaimer {
 public:
  virtual ~Reclaimer() = default;
  // Gives back about `goal` bytes, or what it can. Returns what it believes it gave; the
  // caller trusts only the budget's counter.
  virtual Bytes reclaim(Bytes goal) noexcept = 0;
  // What reclaim() could give back now, for reports and for choosing. A fast estimate.
  virtual Bytes reclaimable() const noexcept = 0;
  // What it holds and cannot give back, and why (pins by owner and age), in one line for the
  // account of a refusal; empty: nothing. Called with no lock held. May throw std::bad_alloc.
  virtual std::string kept_because() const { return {}; }
};

enum class DeviceKind { host, simulated, cuda, vulkan };
std::string_view to_string(DeviceKind kind) noexcept;

// Reserved address space whose pages take memory only once committed and written.
//
// Offsets and sizes of commit and decommit are multiples of page(). On the host, pages
// that are not committed read as zero (kernels read padded rows past the end) and take no
// memory; writing them is a bug of accounting that nothing stops. Ranges of a simulated
// device must not be touched.
// A device whose streams overlap makes decommit and adopt wait for the work that uses the pages.
// Thread safety: threads may commit, decommit, adopt and ask about different pages at once; the
// same pages, one thread at a time. No lock is held while a resource below is called.
class AddressRange {
 public:
  virtual ~AddressRange() = default;
  AddressRange(const AddressRange&) = delete;
  AddressRange& operator=(const AddressRange&) = delete;

  virtual std::byte* data() const noexcept = 0;
  virtual Bytes size() const noexcept = 0;       // reserved
  virtual Bytes committed() const noexcept = 0;  // now backed by the device, at most
  virtual Bytes page() const noexcept = 0;       // granularity
  // Bytes of [offset, offset + bytes) that are not committed. REQUIRES: pages of the range.
  virtual Bytes missing(Bytes offset, Bytes bytes) const noexcept = 0;
  // Makes [offset, offset + bytes) usable; it reads as zero. Committing a committed page
  // keeps its content and charges nothing. Errors, and nothing changes: memory_refused
  // when the device is full; invalid_argument for what are not pages of this range.
  virtual Status commit(Bytes offset, Bytes bytes) = 0;
  // Gives the pages back; their content is gone.
  virtual void decommit(Bytes offset, Bytes bytes) noexcept = 0;
  // Moves the memory of committed pages of `source`, content and all, to pages of this range
  // that are not committed: `source` no longer has it, nothing is charged, nothing copied
  // (the CUDA driver's unmap and map of one handle; mremap on the host).
  // Both ranges must come from the same resource; they may be the same range. Errors, and
  // nothing changes: invalid_argument (not such pages, not such ranges); unsupported (also
  // when their options differ, or the system is out of mappings): decommit there and commit
  // here instead.
  virtual Status adopt(Bytes offset, AddressRange& source, Bytes source_offset, Bytes bytes) = 0;

 protected:
  AddressRange() = default;
};

// One memory space with capacity: the root of every chain of resources.
class Device : public MemoryResource {
 public:
  // Opens "host", "cuda:0", ... Error: unsupported, in words for a person ("no CUDA
  // device: libcuda.so.1 not found"); invalid_argument for a name of no known kind.
  static Result<std::shared_ptr<Device>> open(std::string_view name);
  // The process's own memory. Always the same object. Its blocks arrive zeroed; those of
  // 1 MiB and more go back to the system as soon as they are deallocated.
  static std::shared_ptr<Device> host();

  virtual DeviceKind kind() const noexcept = 0;
  // Bytes that exist in this space, and bytes not used by anybody. For the host: the
  // machine's (see PressureMonitor for limits of the cgroup).
  virtual Bytes capacity() const noexcept = 0;
  virtual Bytes free() const noexcept = 0;
};

// What a simulated device pretends to be.
struct SimulatedDeviceOptions {
  std::string name = "simulated";
  Bytes capacity{40ULL << 30};
  Bytes granularity{512};          // each block takes a multiple of this (cudaMalloc: 512 B)
  bool stream_ordered = false;     // work on its streams may overlap, as on a GPU
  Duration allocate_latency{0};    // virtual time that an allocate / deallocate takes,
  Duration deallocate_latency{0};  // told to on_latency
  // E.g. advances a ManualClock; may be empty. Called with no lock held, for each attempt
  // to allocate or commit and each deallocation or decommit. Must not throw.
  std::function<void(Duration)> on_latency{};
};

// A device whose capacity, latency and failures are scripted: plans for an A100 can be
// run on a laptop. Blocks are addresses in reserved, untouched address space: real
// enough to be distinct and aligned, never to be read or written.
//
// Thread safety: thread-safe.
class SimulatedDevice : public Device {
 public:
  // Throws Failure (invalid_argument) unless the granularity is a power of two.
  static std::shared_ptr<SimulatedDevice> create(SimulatedDeviceOptions options = {});

  // Lets the next n allocates (and commits) succeed, then fails each one with
  // memory_refused until never_fail() is called.
  virtual void fail_after(std::uint64_t n) noexcept = 0;
  virtual void never_fail() noexcept = 0;
  // Changes the capacity, as if another process took or gave memory. May be below use.
  virtual void set_capacity(Bytes capacity) noexcept = 0;

  struct Stats {
    Bytes live;  // bytes allocated or committed now
    Bytes peak;  // highest live
    std::uint64_t live_blocks = 0;
    std::uint64_t allocations = 0;
    std::uint64_t deallocations = 0;
    std::uint64_t refusals = 0;      // full or scripted
    std::uint64_t stream_waits = 0;  // events that one stream was made to wait for
  };
  virtual Stats stats() const noexcept = 0;
};

}  // namespace forebay
#pragma GCC visibility pop
