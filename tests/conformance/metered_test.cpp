#include "conformance/resource_conformance.hpp"
#include "forebay/budget.hpp"
#include "forebay/pool.hpp"
#include "support/watched_resource.hpp"

namespace forebay::conformance {

struct MeteredSubject {
  std::shared_ptr<SimulatedDevice> device = SimulatedDevice::create();
  Budget budget{"process"};
  std::shared_ptr<MemoryResource> resource = budget.meter(device);
  void fail_after(std::uint64_t n) { device->fail_after(n); }
  void never_fail() { device->never_fail(); }
  Bytes leaked() const { return device->stats().live + budget.stats().used; }
};
INSTANTIATE_TYPED_TEST_SUITE_P(Metered, ResourceConformance, MeteredSubject);

// The usual chain: a pool whose growth asks a budget under a line, three levels deep.
struct PoolOverMeteredSubject {
  std::shared_ptr<testing::WatchedResource> host = std::make_shared<testing::WatchedResource>();
  Budget process{"process", {.limit = 64_GiB}};
  Budget tenant = process.child("tenant").value();
  Budget pools = tenant.child("pools").value();
  std::shared_ptr<MemoryResource> resource = Pool::create(pools.meter(host));
  void fail_after(std::uint64_t n) { host->failing.fail_after(n); }
  void never_fail() { host->failing.never_fail(); }
  Bytes leaked() const { return host->live() + process.stats().used; }
};
INSTANTIATE_TYPED_TEST_SUITE_P(PoolOverMetered, ResourceConformance, PoolOverMeteredSubject);

// A fresh mapping of the host is zero already: the budget in between must not hide that.
TEST(MeteredResource, SaysWhetherBlocksArriveZeroed) {
  Budget budget{"process"};
  EXPECT_TRUE(budget.meter(Device::host())->allocates_zeroed());
  EXPECT_FALSE(budget.meter(SimulatedDevice::create())->allocates_zeroed());
}

}  // namespace forebay::conformance
