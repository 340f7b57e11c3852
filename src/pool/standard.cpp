#include "forebay/standard.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "forebay/check.hpp"

namespace forebay {
namespace {

// std::pmr wants an address for zero bytes too, a MemoryResource gives none.
Bytes at_least_one(std::size_t bytes) noexcept { return Bytes{std::max<std::size_t>(bytes, 1)}; }

}  // namespace

std::shared_ptr<MemoryResource> detail::host_resource(std::shared_ptr<MemoryResource> resource) {
  FOREBAY_CHECK(resource != nullptr, "a standard face needs a resource");
  if (!resource->host_accessible()) {
    throw Failure{Status{Code::unsupported,
                         fmt::format("{}: the CPU does not reach its memory, so containers of the "
                                     "host cannot be there",
                                     resource->name())}};
  }
  return resource;
}

void* PmrResource::do_allocate(std::size_t bytes, std::size_t alignment) {
  return resource_->allocate(at_least_one(bytes), Bytes{alignment}).value();
}

void PmrResource::do_deallocate(void* block, std::size_t bytes, std::size_t alignment) {
  resource_->deallocate(block, at_least_one(bytes), Bytes{alignment});
}

bool PmrResource::do_is_equal(const std::pmr::memory_resource& other) const noexcept {
  const auto* const face = dynamic_cast<const PmrResource*>(&other);
  return face != nullptr && face->resource_ == resource_;
}

}  // namespace forebay
