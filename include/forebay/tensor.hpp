// Tensor: a block with a shape, a type and a device. TensorPool: tensors that are used again.
//
//   auto tensors = forebay::TensorPool::create(pool, {.name = "activations"});
//   for (auto& batch : batches) {
//     auto hidden = tensors->acquire({32, 512, 4096}, forebay::DataType::f16).value();
//     run_step(hidden.data());
//   }                               // each step but the first finds the tensor of the last
//
// A TensorPool stands on a Pool and keeps at most a few idle tensors of each (shape, dtype,
// device); it is of one device, so that the device is part of every key. A hit costs one
// search and no bookkeeping below; what is surplus goes to the Pool, where it serves any shape.
//
// Whose idle memory is it? An idle tensor is a live block of the Pool below: PoolStats::live
// includes it, PoolStats::idle does not, and nothing is counted twice. reclaim() first gives
// idle tensors to the Pool, which makes them idle there, then has the Pool trim as many bytes;
// reclaimable() is the idle tensors alone. So both may be registered with a budget.
//
// A TensorPool is of one tenant: content never passes to tensors of another (see pool.hpp).
// It must outlive its tensors; one that ends before them aborts and names them. A tensor that
// was exported by to_dlpack() keeps its TensorPool, and the Pool below, alive instead.
//
// Thread safety: TensorPool is thread-safe; no lock is held while the Pool below is called.
// A Tensor is one thread's at a time and may end on any.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "forebay/pool.hpp"

struct DLManagedTensor;  // of dlpack/dlpack.h, which only those who use DLPack need

#pragma GCC visibility push(default)
namespace forebay {

enum class DataType : std::uint8_t {
  f64,
  f32,
  f16,
  bf16,
  f8_e4m3,  // of the OCP 8-bit formats: finite values and NaN, no infinity ("e4m3fn")
  f8_e5m2,
  i64,
  i32,
  i16,
  i8,
  u64,
  u32,
  u16,
  u8,
  boolean,  // a byte each
  int4,     // two a byte, the first in the low half, across rows: a tensor has no padding
};
std::string_view to_string(DataType dtype) noexcept;  // "f16", "bool", ...
unsigned bits_of(DataType dtype) noexcept;            // of one element

// The extents of a tensor, outermost first; none: a scalar. An extent may be zero.
// The product of the others fits 63 bits, so that no stride and no count overflows.
class Shape {
 public:
  static constexpr std::size_t kMaxRank = 8;
  using Extents = std::array<std::uint64_t, kMaxRank>;

  Shape() noexcept = default;
  // Throws Failure (invalid_argument) where make() refuses.
  Shape(std::initializer_list<std::uint64_t> extents);  // NOLINT: {32, 512} is a shape
  // Errors: invalid_argument (more than kMaxRank extents; a product that overflows).
  static Result<Shape> make(std::span<const std::uint64_t> extents);

  std::size_t rank() const noexcept { return rank_; }
  std::uint64_t operator[](std::size_t dimension) const noexcept { return extents_[dimension]; }
  const std::uint64_t* begin() const noexcept { return extents_.data(); }
  const std::uint64_t* end() const noexcept { return extents_.data() + rank_; }
  std::uint64_t elements() const noexcept;
  // Row-major, in elements; the first rank() count, the others are zero.
  Extents strides() const noexcept;

  friend bool operator==(const Shape&, const Shape&) = default;

 private:
  Extents extents_{};  // zero from rank_ on
  std::size_t rank_ = 0;
};
std::string to_string(const Shape& shape);  // "[32, 512]"

// What the elements take. Error: memory_refused (more than any block can have).
Result<Bytes> tensor_bytes(const Shape& shape, DataType dtype);

// Which memory space a tensor is in.
struct TensorDevice {
  DeviceKind kind = DeviceKind::host;
  std::uint32_t index = 0;
  friend bool operator==(TensorDevice, TensorDevice) = default;
};
std::string to_string(TensorDevice device);  // "host", "cuda:0"

namespace detail {
struct TensorBlock;
}

// Move-only owner of a block with shape and type. Its end is the return to its pool, or, if
// it was imported, the call of the exporter's deleter.
class Tensor {
 public:
  Tensor() noexcept = default;  // empty: no shape, no block
  explicit Tensor(detail::TensorBlock* block) noexcept : block_(block) {}
  Tensor(Tensor&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
  Tensor& operator=(Tensor&& other) noexcept;
  ~Tensor() { reset(); }

  bool empty() const noexcept { return block_ == nullptr; }
  const Shape& shape() const noexcept;
  DataType dtype() const noexcept;
  TensorDevice device() const noexcept;
  Shape::Extents strides() const noexcept { return shape().strides(); }

  void* data() const noexcept;  // nullptr if there are no elements
  Bytes size() const noexcept;
  // The bytes as a span. REQUIRES: the memory is host-accessible.
  std::span<std::byte> bytes() const noexcept {
    return {static_cast<std::byte*>(data()), static_cast<std::size_t>(size().count())};
  }
  // The elements as a span. REQUIRES: also that a T has as many bits as an element.
  template <typename T>
  std::span<T> as() const noexcept {
    FOREBAY_CHECK(sizeof(T) * 8 == bits_of(dtype()), "a tensor read as elements of another size");
    return {static_cast<T*>(data()), static_cast<std::size_t>(size().count()) / sizeof(T)};
  }

  Stream stream() const noexcept;
  // The last use of the block is on `stream`. REQUIRES: not empty.
  void set_stream(Stream stream) noexcept;
  // Gives the block back now.
  void reset() noexcept;

 private:
  friend Result<DLManagedTensor*> to_dlpack(Tensor&& tensor);
  detail::TensorBlock* block_ = nullptr;
};

// DLPack (Debian: libdlpack-dev): tensors between libraries without a copy. Types that its
// version 0.6 has no code for have those of version 1.1: bool 6, f8_e4m3 10, f8_e5m2 12, and
// int4 packed. A simulated device is kDLExtDev. In a build without dlpack.h both are
// `unsupported`.
//
// Hands the tensor over. The deleter of the result gives the block back; it may be called on
// any thread, by which time work on the block must be done. Errors, and the tensor is
// unchanged: invalid_argument (an empty one), memory_refused.
Result<DLManagedTensor*> to_dlpack(Tensor&& tensor);
// Takes a tensor over; its deleter is called at the end, and may be null. Errors, and it stays
// the caller's: invalid_argument (null, a negative size, misaligned data, ...), unsupported
// (strides that are not row-major, an unknown type or device, lanes), memory_refused.
Result<Tensor> from_dlpack(DLManagedTensor* managed);

// Tensors to have ready.
struct TensorSpec {
  Shape shape;
  DataType dtype = DataType::f32;
  std::size_t count = 1;
};

// The sizes of a teacher model's pass: all are counts, none may be zero.
struct TeacherShapes {
  std::uint64_t batch = 0;
  std::uint64_t sequence = 0;
  std::uint64_t hidden = 0;
  std::uint64_t vocab = 0;
  std::size_t layers = 1;  // whose activations and hidden states are kept at once
  DataType dtype = DataType::f16;
};
// Activations [batch, sequence, hidden] and hidden states [batch, hidden], one a layer, and
// logits [batch, sequence, vocab]. Error: invalid_argument, naming the field.
Result<std::vector<TensorSpec>> teacher_specs(const TeacherShapes& shapes);

struct TensorPoolOptions {
  std::string name = "tensors";
  std::size_t max_idle_per_key = 10;
  Bytes max_idle = Bytes::unlimited();  // of all keys; beyond it the longest idle goes
  // Where the pool's memory is. If not given, the host; required where the CPU does not reach.
  std::optional<TensorDevice> device{};
  Tenant tenant{};
  Bytes alignment{256};  // what CUDA's allocator gives and DLPack wants
  // Idle longer than this: to the Pool below, by tick().
  Duration ttl = std::chrono::seconds{60};
  // Keys remembered: beyond, those without a tensor are forgotten, and then the longest idle
  // tensors go to the Pool below. Keys of live tensors are never forgotten.
  std::size_t max_keys = 1024;
  Clock* clock = &Clock::steady();  // must outlive the pool
};

struct TensorPoolStats {
  Bytes live;       // of tensors handed out; sizes are those of the elements
  Bytes idle;       // of tensors kept
  Bytes peak_live;  // exact
  Bytes peak_held;  // highest live + idle
  std::uint64_t live_tensors = 0;
  std::uint64_t idle_tensors = 0;
  std::uint64_t keys = 0;          // remembered
  std::uint64_t acquires = 0;      // that succeeded: hits + misses
  std::uint64_t hits = 0;          // served by an idle tensor
  std::uint64_t misses = 0;        // served by the Pool below, from wherever it had it
  std::uint64_t refused = 0;       // acquires and try_acquires that found no memory
  std::uint64_t preallocated = 0;  // tensors that preallocate() took from the Pool below
  std::uint64_t given_below = 0;   // tensors given to it: misses + preallocated - these are
                                   // live or idle

  double hit_rate() const noexcept;  // hits / acquires; 1 if there were none
};

// What was asked for, how often.
struct TensorUse {
  Shape shape;
  DataType dtype = DataType::f32;
  std::uint64_t uses = 0;  // acquires
  std::uint64_t hits = 0;
  std::uint64_t live_tensors = 0;
  std::uint64_t idle_tensors = 0;
  Bytes bytes;  // live and idle
};
enum class TensorOrder { uses, bytes };

struct TensorCleanup {
  std::size_t tensors = 0;
  Bytes bytes;
};

class TensorPool final : public Reclaimer, public std::enable_shared_from_this<TensorPool> {
 public:
  // Throws Failure (invalid_argument): a negative ttl, no device where the CPU does not reach
  // the pool's memory, or an alignment or tenant that the pool refuses.
  static std::shared_ptr<TensorPool> create(std::shared_ptr<Pool> pool,
                                            TensorPoolOptions options = {});
  ~TensorPool() override;

  // A tensor of this very shape and type. If the Pool below refuses, idle tensors go to it,
  // longest idle first, before this does. Errors: memory_refused.
  Result<Tensor> acquire(const Shape& shape, DataType dtype,
                         Contents contents = Contents::uninitialized, Stream stream = {});
  // The same from idle memory only, here or in the Pool below.
  Result<Tensor> try_acquire(const Shape& shape, DataType dtype,
                             Contents contents = Contents::uninitialized, Stream stream = {});

  // Sees to it that as many tensors of each key are idle as the specs ask for in all: those
  // that are idle already count. All or nothing: a failure leaves no more reserved below than
  // before, and gives no idle tensor up to make room (a budget that reclaims from this pool may).
  // Meanwhile they count as live.
  // Errors: memory_refused; invalid_argument (more of a key than max_idle_per_key, or than
  // max_idle has room for).
  Status preallocate(std::span<const TensorSpec> specs, Stream stream = {});
  // The same for a teacher's tensors. Errors: also those of teacher_specs.
  Status preallocate_teacher(const TeacherShapes& shapes, Stream stream = {});

  // Gives the idle tensors of keys that were acquired fewer than `min_uses` times since the
  // last call to the Pool below.
  TensorCleanup cleanup_unused(std::uint64_t min_uses) noexcept;
  // Gives what is idle for longer than `ttl` to the Pool below. Returns the bytes given. Call
  // it several times a ttl: a tensor goes at most one call late.
  Bytes tick() noexcept;

  TensorPoolStats stats() const;
  // The `count` keys with the most uses or bytes, most first.
  std::vector<TensorUse> top(std::size_t count = 5, TensorOrder order = TensorOrder::uses) const;
  // Aborts unless lists and counters agree: each key's and the sums, hits + misses = acquires,
  // misses + preallocated - given_below = live + idle.
  void validate() const;

  std::string_view name() const noexcept;
  TensorDevice device() const noexcept;

  // Reclaimer: idle tensors. Longest idle first to the Pool below, which then trims as many
  // bytes. Returns the bytes that the Pool gave.
  Bytes reclaim(Bytes goal) noexcept override;
  Bytes reclaimable() const noexcept override;

 private:
  struct Impl;
  explicit TensorPool(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace forebay
#pragma GCC visibility pop
