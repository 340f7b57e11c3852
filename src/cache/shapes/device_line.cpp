// The device's side of a cache of tensors.

#include <algorithm>

#include "cache/shapes/byte_line.hpp"
#include "forebay/cache_shapes.hpp"

namespace forebay::detail {

struct DeviceLine::Impl {
  Impl(const TensorCacheOptions& options, void* owner, Evict evict)
      : name(options.host.name),
        line(options.max_device_bytes, options.device_budget),
        budget(options.device_budget),
        priority(options.device_priority),
        resource(options.resource),
        idle(options.idle),
        cache(owner),
        evict_one(evict) {}

  Status refusal(std::uint64_t asked, const char* why) const {
    return {Code::memory_refused, "cache " + name + ": asked " + to_string(Bytes{asked}) +
                                      " of the device, used " + to_string(Bytes{line.used()}) +
                                      " of " + to_string(Bytes{line.most()}) + ": " + why};
  }

  std::string name;
  ByteLine line;
  Budget* budget;
  int priority;
  std::shared_ptr<MemoryResource> resource;
  std::shared_ptr<Reclaimer> idle;
  void* cache;
  Evict evict_one;
  std::atomic<std::uint64_t> refused{0};
  ReclaimerRegistration registration;
};

DeviceLine::DeviceLine(const TensorCacheOptions& options, void* cache, Evict evict_one)
    : impl_(std::make_unique<Impl>(options, cache, evict_one)) {
  if (!options.max_device_bytes.is_zero()) return;
  throw Failure{Status{Code::invalid_argument,
                       "cache " + options.host.name + ": max_device_bytes must be above 0"}};
}

DeviceLine::~DeviceLine() {
  FOREBAY_CHECK(impl_->line.used() == 0, "a cache that is empty is charged nothing of a device");
}

void DeviceLine::open() {
  if (impl_->budget == nullptr) return;
  impl_->registration = impl_->budget->add_reclaimer(
      *this, {.name = impl_->name + " (device)", .priority = impl_->priority});
}

void DeviceLine::close() noexcept { impl_->registration.reset(); }

std::uint64_t DeviceLine::charge_of(Bytes size, Bytes alignment) const noexcept {
  if (size.is_zero() || impl_->resource == nullptr) return size.count();
  return impl_->resource->good_size(size, alignment).count();
}

Result<bool> DeviceLine::charge(std::uint64_t bytes, void* newcomer, Evict evict_for) {
  const auto refuse = [&](Status why) {
    impl_->refused.fetch_add(1, std::memory_order_relaxed);
    return why;
  };
  if (bytes > impl_->line.most()) {
    return refuse(impl_->refusal(bytes, "it is larger than the line"));
  }
  while (!impl_->line.try_charge(bytes)) {
    const EvictionOutcome outcome =
        newcomer != nullptr ? evict_for(newcomer) : impl_->evict_one(impl_->cache);
    if (outcome == EvictionOutcome::declined) return false;
    if (outcome == EvictionOutcome::done) continue;
    if (impl_->line.try_charge(bytes)) break;  // somebody has just given room
    return refuse(impl_->refusal(bytes, "nothing is left that could be evicted"));
  }
  Status charged = impl_->line.charge_budget(bytes);
  if (!charged.ok()) return refuse(charged.with_context("cache " + impl_->name));
  return true;
}

void DeviceLine::release(std::uint64_t bytes) noexcept { impl_->line.release(bytes); }

void DeviceLine::set_max(Bytes bytes) noexcept {
  impl_->line.set_most(bytes.count());
  const std::uint64_t used = impl_->line.used();
  if (used > bytes.count()) reclaim(Bytes{used - bytes.count()});
}

void DeviceLine::add_to(TensorCacheStats& stats) const noexcept {
  stats.device_used = Bytes{impl_->line.used()};
  stats.device_peak = Bytes{impl_->line.peak()};
  stats.max_device_bytes = Bytes{impl_->line.most()};
  stats.device_refused = impl_->refused.load(std::memory_order_relaxed);
}

Bytes DeviceLine::reclaim(Bytes goal) noexcept {
  const std::uint64_t before = impl_->line.used();
  const auto freed = [&] {
    const std::uint64_t now = impl_->line.used();
    return Bytes{before > now ? before - now : 0};
  };
  while (freed() < goal && impl_->evict_one(impl_->cache) == EvictionOutcome::done) {
  }
  const Bytes given = freed();
  if (impl_->idle != nullptr) impl_->idle->reclaim(given);
  return given;
}

Bytes DeviceLine::reclaimable() const noexcept { return Bytes{impl_->line.used()}; }

}  // namespace forebay::detail
