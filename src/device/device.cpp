#include "forebay/device.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "device/host.hpp"

namespace forebay {
namespace {

// Whether `name` is "<kind>:<digits>".
bool is_numbered(std::string_view name, std::string_view kind) noexcept {
  if (name.size() < kind.size() + 2 || name.substr(0, kind.size()) != kind) return false;
  if (name[kind.size()] != ':') return false;
  const std::string_view index = name.substr(kind.size() + 1);
  return std::all_of(index.begin(), index.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

std::string_view to_string(DeviceKind kind) noexcept {
  switch (kind) {
    case DeviceKind::host:
      return "host";
    case DeviceKind::simulated:
      return "simulated";
    case DeviceKind::cuda:
      return "cuda";
    case DeviceKind::vulkan:
      return "vulkan";
  }
  return "unknown";
}

std::shared_ptr<Device> Device::host() {
  static const std::shared_ptr<Device> device = detail::make_host_device();
  return device;
}

Result<std::shared_ptr<Device>> Device::open(std::string_view name) {
  if (name == "host") return host();
  if (name == "simulated") return std::shared_ptr<Device>{SimulatedDevice::create()};
  if (is_numbered(name, "cuda")) {
    return Status{Code::unsupported, "no CUDA device: this build has no CUDA support"};
  }
  if (is_numbered(name, "vulkan")) {
    return Status{Code::unsupported, "no Vulkan device: this build has no Vulkan support"};
  }
  return Status{Code::invalid_argument,
                fmt::format("'{}' is not a device; allowed: host, simulated, cuda:0, cuda:1, ..., "
                            "vulkan:0, vulkan:1, ...",
                            name)};
}

}  // namespace forebay
