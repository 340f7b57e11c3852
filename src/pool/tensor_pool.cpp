#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "device/request.hpp"
#include "forebay/check.hpp"
#include "forebay/tensor.hpp"
#include "pool/tensor_store.hpp"

namespace forebay {

using detail::LeavingTensors;
using detail::TensorEntry;
using detail::TensorKey;
using detail::TensorKeyHash;
using detail::TensorRecord;

namespace {

struct Request {
  TensorKey key;
  Contents contents = Contents::uninitialized;
  Stream stream;
  bool may_grow = true;
  bool may_shed = true;  // idle tensors, before a refusal
};

std::string describe(const TensorKey& key) {
  return fmt::format("{} {}", to_string(key.shape), to_string(key.dtype));
}

}  // namespace

struct TensorPool::Impl final : detail::TensorHome {
  // Tensors that nobody has handed out yet.
  using Held = detail::IntrusiveList<TensorRecord, &TensorRecord::in_all>;
  using Counts = std::unordered_map<TensorKey, std::size_t, TensorKeyHash>;

  Impl(std::shared_ptr<Pool> below, TensorPoolOptions given)
      : pool(std::move(below)),
        options(std::move(given)),
        device(options.device.value_or(TensorDevice{})) {}

  Result<Tensor> acquire(const Request& request);
  void take_back(TensorRecord& record) noexcept override;
  std::shared_ptr<const void> keeper() noexcept override { return owner->weak_from_this().lock(); }

  Result<Counts> count_specs(std::span<const TensorSpec> specs) const;
  Status hold(const Counts& counts, Stream stream, Held& reused, Held& made);
  void put_idle(Held& held) noexcept;
  void give_below(Held& held) noexcept;

  // Gives at least `goal` bytes of idle tensors to the Pool below, or all. Returns the bytes.
  Bytes shed(Bytes goal) noexcept;
  void name_live_tensors() const noexcept;

  const std::shared_ptr<Pool> pool;
  const TensorPoolOptions options;
  const TensorDevice device;
  TensorPool* owner = nullptr;

  mutable std::mutex mutex;
  detail::TensorStore store{options};  // guarded by mutex

 private:
  // A key's place in the store, kept for a tensor that is being fetched.
  class Place {
   public:
    Place(Impl& impl, const TensorKey& key, Bytes size) : impl_(impl) {
      const std::lock_guard lock{impl_.mutex};
      entry_ = &impl_.store.open(key, size);
    }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    ~Place() {
      if (entry_ == nullptr) return;
      const std::lock_guard lock{impl_.mutex};
      impl_.store.close(*entry_);
    }
    // The entry, which is no longer this one's to close.
    TensorEntry& take() noexcept { return *std::exchange(entry_, nullptr); }

   private:
    Impl& impl_;
    TensorEntry* entry_;
  };

  Tensor hand_out(TensorRecord& record, const Request& request) noexcept;
  // A new record, live; `count` then tells the store what it is for, with the lock held.
  template <typename Count>
  Result<TensorRecord*> make(const Request& request, Bytes size, Count count);
  Result<Buffer> fetch(const Request& request, Bytes size);
};

Result<Tensor> TensorPool::Impl::acquire(const Request& request) {
  TensorRecord* record = nullptr;
  {
    const std::lock_guard lock{mutex};
    record = store.reuse(request.key, request.stream);
    if (record != nullptr) store.count_use(*record->entry, true);
  }
  if (record != nullptr) return hand_out(*record, request);

  return detail::refuse_bad_alloc([&]() -> Result<Tensor> {
    const auto size = tensor_bytes(request.key.shape, request.key.dtype);
    auto made =
        size ? make(request, *size, [&](TensorEntry& entry) { store.count_use(entry, false); })
             : Result<TensorRecord*>{size.status()};
    if (made) return Tensor{*made};
    if (made.status().code() == Code::memory_refused) {
      const std::lock_guard lock{mutex};
      ++store.stats.refused;
    }
    return made.status().with_context(fmt::format("{} {}", options.name, describe(request.key)));
  });
}

Tensor TensorPool::Impl::hand_out(TensorRecord& record, const Request& request) noexcept {
  if (record.stream != request.stream) pool->stream_wait(request.stream, record.stream);
  record.stream = request.stream;
  pool->own(record.data, record.size, __builtin_frame_address(0));
  if (request.contents == Contents::zeroed && !record.size.is_zero()) {
    pool->zero(record.data, record.size, record.stream);
  }
  return Tensor{&record};
}

// All that may fail comes before the record becomes the store's.
template <typename Count>
Result<TensorRecord*> TensorPool::Impl::make(const Request& request, Bytes size, Count count) {
  auto record = std::make_unique<TensorRecord>(*this, request.key, device, size);
  Place place{*this, request.key, size};
  auto buffer = fetch(request, size);
  if (!buffer) return buffer.status();
  record->buffer = *std::move(buffer);
  record->data = record->buffer.data();
  record->stream = request.stream;
  const std::lock_guard lock{mutex};
  TensorEntry& entry = place.take();
  store.add(entry, *record);
  count(entry);
  return record.release();
}

// Idle tensors that are in the way go first, twice as many each time: a small request costs
// little of what is warm, and a large one few tries.
Result<Buffer> TensorPool::Impl::fetch(const Request& request, Bytes size) {
  const AcquireOptions how{.alignment = options.alignment,
                           .contents = request.contents,
                           .stream = request.stream,
                           .tenant = options.tenant};
  if (!request.may_grow) return pool->try_acquire(size, how);
  auto buffer = pool->acquire(size, how);
  const auto refused = [&] { return !buffer && buffer.status().code() == Code::memory_refused; };
  for (Bytes goal = size; request.may_shed && refused();) {
    if (shed(goal).is_zero()) break;
    goal = checked_mul(goal, 2).value_or(Bytes::unlimited());
    buffer = pool->acquire(size, how);
  }
  return buffer;
}

void TensorPool::Impl::take_back(TensorRecord& record) noexcept {
  record.buffer.set_stream(record.stream);
  pool->disown(record.data);
  LeavingTensors leaving;
  const std::lock_guard lock{mutex};
  store.put_idle(record, leaving);
}

Bytes TensorPool::Impl::shed(Bytes goal) noexcept {
  LeavingTensors leaving;
  const std::lock_guard lock{mutex};
  store.remove_idle(goal, leaving);
  return leaving.bytes();
}

Result<TensorPool::Impl::Counts> TensorPool::Impl::count_specs(
    std::span<const TensorSpec> specs) const {
  Counts counts;
  Bytes total;
  for (const TensorSpec& spec : specs) {
    if (spec.count == 0) continue;
    const TensorKey key{spec.shape, spec.dtype};
    const auto size = tensor_bytes(spec.shape, spec.dtype);
    if (!size) return size.status().with_context(options.name);
    std::size_t& count = counts[key];
    if (spec.count > options.max_idle_per_key || count > options.max_idle_per_key - spec.count) {
      return Status{
          Code::invalid_argument,
          fmt::format("{} {}: {} more to preallocate after {}, but max_idle_per_key keeps "
                      "only {}",
                      options.name, describe(key), spec.count, count, options.max_idle_per_key)};
    }
    count += spec.count;
    const auto bytes = checked_mul(*size, spec.count);
    const auto sum = bytes ? checked_add(total, *bytes) : bytes;
    if (!sum || *sum > options.max_idle) {
      return Status{
          Code::invalid_argument,
          fmt::format("{} {}: with {} of these there is more to preallocate than the {} "
                      "that max_idle keeps",
                      options.name, describe(key), spec.count, to_string(options.max_idle))};
    }
    total = *sum;
  }
  return counts;
}

// They are held while the rest is fetched, so that no reclaimer can take them away meanwhile.
Status TensorPool::Impl::hold(const Counts& counts, Stream stream, Held& reused, Held& made) {
  for (const auto& [key, count] : counts) {
    const Request request{.key = key, .stream = stream, .may_shed = false};
    for (std::size_t i = 0; i < count; ++i) {
      TensorRecord* record = nullptr;
      {
        const std::lock_guard lock{mutex};
        record = store.reuse(key, stream);
      }
      if (record != nullptr) {
        reused.push_front(*record);
        continue;
      }
      const Bytes size = tensor_bytes(key.shape, key.dtype).value();
      auto fresh = make(request, size, [&](TensorEntry&) { ++store.stats.preallocated; });
      if (!fresh) return fresh.status().with_context(options.name + " " + describe(key));
      made.push_front(**fresh);
    }
  }
  return {};
}

void TensorPool::Impl::put_idle(Held& held) noexcept {
  while (!held.empty()) take_back(*held.pop_back());
}

void TensorPool::Impl::give_below(Held& held) noexcept {
  LeavingTensors leaving;
  const std::lock_guard lock{mutex};
  while (!held.empty()) store.remove_live(*held.pop_back(), leaving);
}

void TensorPool::Impl::name_live_tensors() const noexcept {
  fmt::print(stderr, "forebay: tensor pool '{}' ended with {} live tensors of {}\n", options.name,
             store.stats.live_tensors, to_string(store.stats.live));
  store.for_each_live([](const TensorKey& key, std::uint64_t count) {
    fmt::print(stderr, "forebay:   {} of {}\n", count, describe(key));
  });
}

std::shared_ptr<TensorPool> TensorPool::create(std::shared_ptr<Pool> pool,
                                               TensorPoolOptions options) {
  FOREBAY_CHECK(pool != nullptr && options.clock != nullptr, "a tensor pool needs both");
  if (options.ttl < Duration::zero()) {
    throw Failure{Status{Code::invalid_argument,
                         fmt::format("{}: ttl {} ns is not allowed; it must be 0 or more",
                                     options.name, options.ttl.count())}};
  }
  if (!options.device && !pool->host_accessible()) {
    throw Failure{
        Status{Code::invalid_argument,
               fmt::format("{}: the CPU does not reach the memory of {}; say which device "
                           "that is (TensorPoolOptions::device)",
                           options.name, pool->name())}};
  }
  // The pool's own checks, once and here instead of at each acquire.
  const AcquireOptions how{.alignment = options.alignment, .tenant = options.tenant};
  (void)pool->acquire(Bytes{}, how).value();
  auto impl = std::make_unique<Impl>(std::move(pool), std::move(options));
  return std::shared_ptr<TensorPool>{new TensorPool{std::move(impl)}};
}

TensorPool::TensorPool(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) { impl_->owner = this; }

TensorPool::~TensorPool() {
  if (impl_->store.stats.live_tensors != 0) impl_->name_live_tensors();
  FOREBAY_CHECK(impl_->store.stats.live_tensors == 0, "a tensor pool ended before its tensors");
  impl_->shed(Bytes::unlimited());
}

Result<Tensor> TensorPool::acquire(const Shape& shape, DataType dtype, Contents contents,
                                   Stream stream) {
  return impl_->acquire({.key = {shape, dtype}, .contents = contents, .stream = stream});
}

Result<Tensor> TensorPool::try_acquire(const Shape& shape, DataType dtype, Contents contents,
                                       Stream stream) {
  return impl_->acquire(
      {.key = {shape, dtype}, .contents = contents, .stream = stream, .may_grow = false});
}

Status TensorPool::preallocate(std::span<const TensorSpec> specs, Stream stream) {
  const Bytes reserved = impl_->pool->stats().reserved;
  Impl::Held reused;
  Impl::Held made;
  const auto done = detail::refuse_bad_alloc([&]() -> Result<bool> {
    const auto counts = impl_->count_specs(specs);
    if (!counts) return counts.status();
    Status held = impl_->hold(*counts, stream, reused, made);
    if (!held.ok()) return held;
    return true;
  });
  impl_->put_idle(reused);
  if (done) {
    impl_->put_idle(made);
  } else if (!made.empty()) {
    impl_->give_below(made);
    impl_->pool->trim(saturating_sub(impl_->pool->stats().reserved, reserved));
  }
  return done.status();
}

Status TensorPool::preallocate_teacher(const TeacherShapes& shapes, Stream stream) {
  const auto specs = teacher_specs(shapes);
  return specs ? preallocate(*specs, stream) : specs.status();
}

TensorCleanup TensorPool::cleanup_unused(std::uint64_t min_uses) noexcept {
  LeavingTensors leaving;
  const std::lock_guard lock{impl_->mutex};
  impl_->store.remove_idle_of_rare(min_uses, leaving);
  return {leaving.count(), leaving.bytes()};
}

Bytes TensorPool::tick() noexcept {
  const auto now = impl_->options.clock->now();
  LeavingTensors leaving;
  const std::lock_guard lock{impl_->mutex};
  impl_->store.see_idle(now);
  impl_->store.remove_idle_since(now - impl_->options.ttl, leaving);
  return leaving.bytes();
}

double TensorPoolStats::hit_rate() const noexcept {
  return acquires == 0 ? 1.0 : static_cast<double>(hits) / static_cast<double>(acquires);
}

TensorPoolStats TensorPool::stats() const {
  const std::lock_guard lock{impl_->mutex};
  return impl_->store.stats;
}

std::vector<TensorUse> TensorPool::top(std::size_t count, TensorOrder order) const {
  const std::size_t known = stats().keys;
  std::vector<TensorUse> best(std::min(count, known));
  const std::lock_guard lock{impl_->mutex};
  impl_->store.find_top(best, order);
  return best;
}

void TensorPool::validate() const {
  const std::lock_guard lock{impl_->mutex};
  impl_->store.validate();
}

std::string_view TensorPool::name() const noexcept { return impl_->options.name; }
TensorDevice TensorPool::device() const noexcept { return impl_->device; }

Bytes TensorPool::reclaim(Bytes goal) noexcept {
  const Bytes given = impl_->shed(goal);
  return given.is_zero() ? given : impl_->pool->trim(given);
}

Bytes TensorPool::reclaimable() const noexcept {
  const std::lock_guard lock{impl_->mutex};
  return impl_->store.stats.idle;
}

}  // namespace forebay
