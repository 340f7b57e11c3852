#include "forebay/pool.hpp"

#include "conformance/resource_conformance.hpp"
#include "support/watched_resource.hpp"

namespace forebay::conformance {

struct PoolOverHostSubject {
  std::shared_ptr<testing::WatchedResource> host = std::make_shared<testing::WatchedResource>();
  std::shared_ptr<MemoryResource> resource = Pool::create(host);
  void fail_after(std::uint64_t n) { host->failing.fail_after(n); }
  void never_fail() { host->failing.never_fail(); }
  Bytes leaked() const { return host->live(); }
};
INSTANTIATE_TYPED_TEST_SUITE_P(PoolOverHost, ResourceConformance, PoolOverHostSubject);

// Retains little, so that blocks go back upstream all the time.
struct PoolOverSimulatedSubject {
  std::shared_ptr<SimulatedDevice> device = SimulatedDevice::create();
  std::shared_ptr<MemoryResource> resource = Pool::create(device, {.max_retained = 3_MiB});
  void fail_after(std::uint64_t n) { device->fail_after(n); }
  void never_fail() { device->never_fail(); }
  Bytes leaked() const { return device->stats().live; }
};
INSTANTIATE_TYPED_TEST_SUITE_P(PoolOverSimulated, ResourceConformance, PoolOverSimulatedSubject);

}  // namespace forebay::conformance
