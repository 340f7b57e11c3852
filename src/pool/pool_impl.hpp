// What a Pool is made of.
#pragma once

#include <memory>
#include <utility>

#include "forebay/pool.hpp"
#include "pool/core.hpp"
#include "pool/janitor.hpp"

namespace forebay {

struct Pool::Impl {
  Impl(std::shared_ptr<MemoryResource> upstream, const PoolOptions& options)
      : core(std::move(upstream), options) {}

  detail::Need need_of(Bytes size, const AcquireOptions& options, bool may_grow) const noexcept {
    return {.bytes = size.count(),
            .alignment = core.aligned(options.alignment.count()),
            .stream = options.stream,
            .soil = static_cast<detail::Soil>(options.tenant.id + 1),
            .zeroed = options.contents == Contents::zeroed,
            .may_grow = may_grow};
  }

  // Ages are of the machine's own time only: another clock does not move while a thread sleeps.
  void start_cleaning() {
    const PoolOptions& options = core.options();
    if (options.cleanup_interval == Duration::zero() || options.clock != &Clock::steady()) return;
    detail::start_cleaning(&core, options.cleanup_interval);
    cleaned = true;
  }
  void stop_cleaning() noexcept {
    if (cleaned) detail::stop_cleaning(&core);
    cleaned = false;
  }

  detail::PoolCore core;
  bool cleaned = false;  // by the thread that does
};

}  // namespace forebay
