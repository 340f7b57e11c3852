#include "conformance/resource_conformance.hpp"

namespace forebay::conformance {

struct SimulatedSubject {
  std::shared_ptr<SimulatedDevice> device = SimulatedDevice::create();
  std::shared_ptr<MemoryResource> resource = device;
  void fail_after(std::uint64_t n) { device->fail_after(n); }
  void never_fail() { device->never_fail(); }
  Bytes leaked() const { return device->stats().live; }
};
INSTANTIATE_TYPED_TEST_SUITE_P(Simulated, ResourceConformance, SimulatedSubject);

}  // namespace forebay::conformance
