#include "forebay/pool.hpp"

#include "conformance/resource_conformance.hpp"
#include "device/fail_point.hpp"
#include "forebay/budget.hpp"
#include "support/watched_ranges.hpp"
#include "support/watched_resource.hpp"

namespace forebay::conformance {

// Ranges of the host; refusals come from the resource in between.
struct PoolOverHostSubject {
  std::shared_ptr<testing::WatchedRanges> host = std::make_shared<testing::WatchedRanges>();
  std::shared_ptr<MemoryResource> resource = Pool::create(host);
  void fail_after(std::uint64_t n) { host->failing.fail_after(n); }
  void never_fail() { host->failing.never_fail(); }
  Bytes leaked() const { return host->live(); }
};
INSTANTIATE_TYPED_TEST_SUITE_P(PoolOverHost, ResourceConformance, PoolOverHostSubject);

// Nothing in between; refusals are the system's own.
struct PoolOverBareHostSubject {
  std::shared_ptr<MemoryResource> resource = Pool::create(Device::host());
  void fail_after(std::uint64_t n) { detail::host_mappings().fail_after(n); }
  void never_fail() { detail::host_mappings().never_fail(); }
  Bytes leaked() const { return {}; }
};
INSTANTIATE_TYPED_TEST_SUITE_P(PoolOverBareHost, ResourceConformance, PoolOverBareHostSubject);

// An upstream without ranges: memory comes in segments.
struct PoolOverSegmentsSubject {
  std::shared_ptr<testing::WatchedResource> host = std::make_shared<testing::WatchedResource>();
  std::shared_ptr<MemoryResource> resource = Pool::create(host);
  void fail_after(std::uint64_t n) { host->failing.fail_after(n); }
  void never_fail() { host->failing.never_fail(); }
  Bytes leaked() const { return host->live(); }
};
INSTANTIATE_TYPED_TEST_SUITE_P(PoolOverSegments, ResourceConformance, PoolOverSegmentsSubject);

// Retains little, so that blocks go back upstream all the time.
struct PoolOverSimulatedSubject {
  std::shared_ptr<SimulatedDevice> device = SimulatedDevice::create();
  std::shared_ptr<MemoryResource> resource = Pool::create(device, {.max_retained = 3_MiB});
  void fail_after(std::uint64_t n) { device->fail_after(n); }
  void never_fail() { device->never_fail(); }
  Bytes leaked() const { return device->stats().live; }
};
INSTANTIATE_TYPED_TEST_SUITE_P(PoolOverSimulated, ResourceConformance, PoolOverSimulatedSubject);

// Memory that changes stream has to be waited for.
struct PoolOverStreamsSubject {
  std::shared_ptr<SimulatedDevice> device = SimulatedDevice::create({.stream_ordered = true});
  std::shared_ptr<MemoryResource> resource = Pool::create(device);
  void fail_after(std::uint64_t n) { device->fail_after(n); }
  void never_fail() { device->never_fail(); }
  Bytes leaked() const { return device->stats().live; }
};
INSTANTIATE_TYPED_TEST_SUITE_P(PoolOverStreams, ResourceConformance, PoolOverStreamsSubject);

// Ranges that are charged to a budget as they are committed.
struct PoolOverMeteredRangesSubject {
  std::shared_ptr<SimulatedDevice> device = SimulatedDevice::create();
  Budget process{"process", {.limit = 64_GiB}};
  std::shared_ptr<MemoryResource> resource = Pool::create(process.meter(device));
  void fail_after(std::uint64_t n) { device->fail_after(n); }
  void never_fail() { device->never_fail(); }
  Bytes leaked() const { return device->stats().live + process.stats().used; }
};
INSTANTIATE_TYPED_TEST_SUITE_P(PoolOverMeteredRanges, ResourceConformance,
                               PoolOverMeteredRangesSubject);

// A pool is a resource like any other; on streams, so that its segments are shared by them.
struct PoolOverPoolSubject {
  std::shared_ptr<SimulatedDevice> device = SimulatedDevice::create({.stream_ordered = true});
  std::shared_ptr<MemoryResource> resource = Pool::create(Pool::create(device));
  void fail_after(std::uint64_t n) { device->fail_after(n); }
  void never_fail() { device->never_fail(); }
  Bytes leaked() const { return device->stats().live; }
};
INSTANTIATE_TYPED_TEST_SUITE_P(PoolOverPool, ResourceConformance, PoolOverPoolSubject);

}  // namespace forebay::conformance
