// Reserved addresses of the host.
#pragma once

#include <memory>

#include "device/mapping.hpp"
#include "forebay/device.hpp"

namespace forebay::detail {

// Granularity of a range with these options: the system's page, or more.
Bytes host_range_page(const AddressRangeOptions& options) noexcept;

// A range over `mapping`: read_write, whole pages of the options, aligned to a huge page if as
// large. Throws std::bad_alloc.
std::unique_ptr<AddressRange> make_host_range(Mapping mapping, const AddressRangeOptions& options);

}  // namespace forebay::detail
