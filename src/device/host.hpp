// The host device, for Device::open and Device::host.
#pragma once

#include <memory>

#include "forebay/device.hpp"

namespace forebay::detail {

std::shared_ptr<Device> make_host_device();

}  // namespace forebay::detail
