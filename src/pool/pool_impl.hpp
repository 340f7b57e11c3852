// What a Pool is made of.
#pragma once

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include "forebay/pool.hpp"
#include "pool/checked_blocks.hpp"
#include "pool/cleaning.hpp"
#include "pool/core.hpp"
#include "pool/relocatable.hpp"

namespace forebay {

struct Pool::Impl final : detail::Upkeep::Charge {
  Impl(std::shared_ptr<MemoryResource> upstream, const PoolOptions& options)
      : core(std::move(upstream), options) {
    if (options.checked) checked = std::make_unique<detail::CheckedBlocks>(core);
    core.attach(checked.get(), &relocatables.mutex());
  }
  ~Impl() { core.attach(nullptr, nullptr); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  // What the calling thread's cache cannot serve. A checked pool's threads have none.
  Result<detail::Taken> take_slow(const detail::Need& need) {
    return checked ? checked->acquire(need) : core.acquire_slow(need);
  }

  detail::Need need_of(Bytes size, const AcquireOptions& options, bool may_grow,
                       const void* frame) const noexcept {
    return {.bytes = size.count(),
            .alignment = core.aligned(options.alignment.count()),
            .stream = options.stream,
            .soil = static_cast<detail::Soil>(options.tenant.id + 1),
            .zeroed = options.contents == Contents::zeroed,
            .may_grow = may_grow,
            .frame = frame};
  }

  // Ages are of the machine's own time only: another clock does not move while a thread sleeps.
  void start_cleaning() {
    const PoolOptions& options = core.options();
    if (options.cleanup_interval == Duration::zero() || options.clock != &Clock::steady()) return;
    detail::cleaning().add(*this, next_cleaning());
    cleaned = true;
  }
  detail::Upkeep::TimePoint look() noexcept override {
    core.tick();
    return next_cleaning();
  }
  detail::Upkeep::TimePoint next_cleaning() const noexcept {
    return std::chrono::steady_clock::now() +
           std::min<Duration>(core.options().cleanup_interval, std::chrono::hours{24});
  }
  void stop_cleaning() noexcept {
    if (cleaned) detail::cleaning().remove(*this);
    cleaned = false;
  }

  detail::PoolCore core;
  std::unique_ptr<detail::CheckedBlocks> checked;
  detail::Relocatables relocatables;
  bool cleaned = false;  // by the thread that does
};

}  // namespace forebay
