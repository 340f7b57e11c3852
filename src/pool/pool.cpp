#include "forebay/pool.hpp"

#include <fmt/format.h>

#include <bit>
#include <cstdlib>
#include <string_view>
#include <system_error>
#include <utility>

#include "device/request.hpp"
#include "forebay/check.hpp"
#include "pool/pool_impl.hpp"

namespace forebay {

using detail::PoolCore;

double PoolStats::hit_rate() const noexcept {
  return acquires == 0 ? 1.0 : static_cast<double>(hits) / static_cast<double>(acquires);
}

double PoolStats::fragmentation() const noexcept {
  if (idle.is_zero()) return 0.0;
  return 1.0 - static_cast<double>(largest_free.count()) / static_cast<double>(idle.count());
}

namespace {

void check_options(const PoolOptions& options) {
  const auto refuse = [&options](const std::string& what) {
    throw Failure{Status{Code::invalid_argument, fmt::format("{}: {}", options.name, what)}};
  };
  if (options.ttl < Duration::zero()) {
    refuse(fmt::format("ttl {} ns is not allowed; it must be 0 or more", options.ttl.count()));
  }
  if (options.cleanup_interval < Duration::zero()) {
    refuse(fmt::format("cleanup_interval {} ns is not allowed; it must be 0 or more",
                       options.cleanup_interval.count()));
  }
  if (options.min_retained > options.max_retained) {
    refuse(fmt::format("min_retained {} is above max_retained {}", to_string(options.min_retained),
                       to_string(options.max_retained)));
  }
  if (!std::has_single_bit(options.min_alignment.count()) ||
      options.min_alignment > kMaxAlignment) {
    refuse(
        fmt::format("min_alignment {} B is not allowed; it must be a power of two, at most 2 MiB",
                    options.min_alignment.count()));
  }
}

// Not for a program that runs with more rights than its caller has.
bool is_paranoid() noexcept {
  const char* const paranoid = ::secure_getenv("FOREBAY_PARANOID");
  return paranoid != nullptr && std::string_view{paranoid} == "1";
}

}  // namespace

std::shared_ptr<Pool> Pool::create(std::shared_ptr<MemoryResource> upstream, PoolOptions options) {
  FOREBAY_CHECK(upstream != nullptr && options.clock != nullptr, "a pool needs both");
  check_options(options);
  options.checked = options.checked || is_paranoid();
  try {
    std::shared_ptr<Pool> pool{new Pool{std::make_unique<Impl>(std::move(upstream), options)}};
    pool->impl_->start_cleaning();
    return pool;
  } catch (const MemoryRefused&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw MemoryRefused{detail::out_of_host_memory()};
  } catch (const std::system_error& no_thread) {
    throw MemoryRefused{
        Status{Code::memory_refused, fmt::format("{}: no thread to give back by age: {}; "
                                                 "cleanup_interval 0 needs none",
                                                 options.name, no_thread.what())}};
  }
}

Pool::Pool(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Pool::~Pool() {
  impl_->stop_cleaning();
  const PoolCore& core = impl_->core;
  if (impl_->checked) impl_->checked->release_all();
  const std::uint64_t live = core.live_blocks();
  if (live != 0) {
    fmt::print(stderr, "forebay: pool '{}' ended with {} live blocks of {}\n", core.name(), live,
               to_string(stats().live));
    impl_->checked ? impl_->checked->print_live() : core.print_live();
  }
  FOREBAY_CHECK(live == 0, "a pool ended before its blocks");
}

namespace {

Status check_acquire(const PoolCore& core, Bytes size, const AcquireOptions& options) {
  if (options.tenant.id < kMaxTenants) {
    return detail::check_request(core.name(), size, options.alignment);
  }
  return {Code::invalid_argument, fmt::format("{}: tenant {} is not allowed; tenants are 0 to {}",
                                              core.name(), options.tenant.id, kMaxTenants - 1)};
}

}  // namespace

Result<Buffer> Pool::try_acquire(Bytes size, const AcquireOptions& options) {
  return acquire_slow(size, options, false, __builtin_frame_address(0));
}

Result<Buffer> Pool::acquire_slow(Bytes size, const AcquireOptions& options, bool may_grow,
                                  const void* frame) {
  return detail::refuse_bad_alloc([&]() -> Result<Buffer> {
    if (Status bad = check_acquire(impl_->core, size, options); !bad.ok()) return bad;
    if (size.is_zero()) return Buffer{this, nullptr, size, options.alignment, options.stream, 0};
    const auto taken = impl_->take_slow(impl_->need_of(size, options, may_grow, frame));
    if (!taken) return taken.status();
    return Buffer{this, taken->block, size, options.alignment, options.stream, taken->handle};
  });
}

void Pool::disown(const void* block) noexcept {
  if (block == nullptr) return;
  impl_->core.disown(impl_->checked ? impl_->checked->outer_of(block) : block);
}

void Pool::own(const void* block, Bytes bytes, const void* frame) noexcept {
  if (block == nullptr) return;
  impl_->core.own(impl_->checked ? impl_->checked->outer_of(block) : block, bytes.count(), frame);
}

void Pool::do_deallocate(void* block, Bytes bytes, Bytes alignment, Stream stream) noexcept {
  static_assert(Buffer::kByAddress == detail::kNoHandle);
  const detail::Return back{bytes.count(), impl_->core.aligned(alignment.count()), stream};
  if (impl_->checked) [[unlikely]] {
    return impl_->checked->release(block, back);
  }
  impl_->core.release(block, back);
}

void Pool::deallocate_unsized(void* block, Stream stream) noexcept {
  if (block == nullptr) return;
  if (impl_->checked) return impl_->checked->release(block, {.stream = stream});
  impl_->core.release(block, {.stream = stream});
}

void Pool::fetch(std::span<const void* const> blocks) const noexcept {
  if (impl_->checked == nullptr) impl_->core.fetch(blocks);
}

Bytes Pool::usable_size(const void* block) const noexcept {
  if (impl_->checked) return impl_->checked->usable_size(block);
  return Bytes{impl_->core.live_block_bytes(block)};
}

Bytes Pool::trim(Bytes goal) noexcept {
  if (impl_->checked) impl_->checked->release_all();
  return impl_->core.trim(goal);
}
Bytes Pool::tick() noexcept { return impl_->core.tick(); }
PoolStats Pool::stats() const {
  return impl_->checked ? impl_->checked->stats() : impl_->core.stats();
}
std::vector<PoolView> Pool::all() {
  std::vector<PoolView> views;
  detail::visit_cores([&](const PoolCore& core) {
    views.push_back({std::string{core.name()}, std::string{core.upstream().name()}, core.stats(),
                     core.segments()});
  });
  return views;
}
void Pool::validate() const {
  if (impl_->checked) impl_->checked->validate();
  impl_->core.validate();
}
Bytes Pool::reclaimable() const noexcept {
  const Bytes idle = impl_->core.reclaimable();
  return impl_->checked ? idle + impl_->checked->quarantined() : idle;
}

Bytes Pool::good_size(Bytes bytes, Bytes alignment) const noexcept {
  if (bytes.is_zero()) return bytes;
  if (bytes > detail::kLargestRequest) return Bytes::unlimited();
  const std::uint64_t aligned = impl_->core.aligned(alignment.count());
  if (impl_->checked) return impl_->checked->good_size(bytes, aligned);
  return Bytes{impl_->core.rounded(bytes.count(), aligned)};
}

std::string_view Pool::name() const noexcept { return impl_->core.name(); }
bool Pool::host_accessible() const noexcept { return impl_->core.upstream().host_accessible(); }
bool Pool::stream_ordered() const noexcept { return impl_->core.upstream().stream_ordered(); }

void Pool::stream_wait(Stream waiter, Stream earlier) noexcept {
  impl_->core.upstream().stream_wait(waiter, earlier);
}
void Pool::zero(void* data, Bytes bytes, Stream stream) noexcept {
  impl_->core.upstream().zero(data, bytes, stream);
}
void Pool::copy(void* to, const void* from, Bytes bytes, Stream stream) noexcept {
  impl_->core.upstream().copy(to, from, bytes, stream);
}

}  // namespace forebay
