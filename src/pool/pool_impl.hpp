// What a Pool is made of.
#pragma once

#include <memory>
#include <utility>

#include "forebay/pool.hpp"
#include "pool/core.hpp"

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

  detail::PoolCore core;
};

}  // namespace forebay
