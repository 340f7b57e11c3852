#include "conformance/range_conformance.hpp"
#include "device/fail_point.hpp"
#include "forebay/budget.hpp"

namespace forebay::conformance {

struct HostRangeSubject {
  std::shared_ptr<MemoryResource> resource = Device::host();
  AddressRangeOptions options{};
  void fail_after(std::uint64_t n) { detail::host_mappings().fail_after(n); }
  void never_fail() { detail::host_mappings().never_fail(); }
  std::optional<Bytes> charged() const { return {}; }
};
// Pages of several of the system's.
struct CoarseHostRangeSubject : HostRangeSubject {
  CoarseHostRangeSubject() { options.page = 64_KiB; }
};
struct AdvisedHostRangeSubject : HostRangeSubject {
  AdvisedHostRangeSubject() { options = {.page = 512_KiB, .huge_pages = HugePages::advise}; }
};
struct HugeHostRangeSubject : HostRangeSubject {
  HugeHostRangeSubject() { options.huge_pages = HugePages::always; }
};
INSTANTIATE_TYPED_TEST_SUITE_P(Host, RangeConformance, HostRangeSubject);
INSTANTIATE_TYPED_TEST_SUITE_P(CoarseHost, RangeConformance, CoarseHostRangeSubject);
INSTANTIATE_TYPED_TEST_SUITE_P(AdvisedHost, RangeConformance, AdvisedHostRangeSubject);
INSTANTIATE_TYPED_TEST_SUITE_P(HugeHost, RangeConformance, HugeHostRangeSubject);

struct SimulatedRangeSubject {
  std::shared_ptr<SimulatedDevice> device = SimulatedDevice::create();
  std::shared_ptr<MemoryResource> resource = device;
  AddressRangeOptions options{};
  void fail_after(std::uint64_t n) { device->fail_after(n); }
  void never_fail() { device->never_fail(); }
  std::optional<Bytes> charged() const { return device->stats().live; }
};
INSTANTIATE_TYPED_TEST_SUITE_P(Simulated, RangeConformance, SimulatedRangeSubject);

// A budget over any of them counts as the device does.
template <typename Upstream>
struct MeteredRangeSubject {
  Upstream upstream;
  Budget process{"process", {.limit = 64_GiB}};
  Budget tenant = process.child("tenant").value();
  std::shared_ptr<MemoryResource> resource = tenant.meter(upstream.resource);
  AddressRangeOptions options = upstream.options;
  void fail_after(std::uint64_t n) { upstream.fail_after(n); }
  void never_fail() { upstream.never_fail(); }
  std::optional<Bytes> charged() const {
    const Bytes used = process.stats().used;
    EXPECT_EQ(upstream.charged().value_or(used), used);
    return used;
  }
};
INSTANTIATE_TYPED_TEST_SUITE_P(MeteredHost, RangeConformance,
                               MeteredRangeSubject<HostRangeSubject>);
INSTANTIATE_TYPED_TEST_SUITE_P(MeteredHugeHost, RangeConformance,
                               MeteredRangeSubject<HugeHostRangeSubject>);
INSTANTIATE_TYPED_TEST_SUITE_P(MeteredSimulated, RangeConformance,
                               MeteredRangeSubject<SimulatedRangeSubject>);

// A chain of budgets: each sees what the last one is charged.
INSTANTIATE_TYPED_TEST_SUITE_P(MeteredTwice, RangeConformance,
                               MeteredRangeSubject<MeteredRangeSubject<SimulatedRangeSubject>>);

}  // namespace forebay::conformance
