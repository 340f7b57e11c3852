#include "conformance/resource_conformance.hpp"
#include "device/fail_point.hpp"

namespace forebay::conformance {

struct HostSubject {
  std::shared_ptr<MemoryResource> resource = Device::host();
  void fail_after(std::uint64_t n) { detail::host_mappings().fail_after(n); }
  void never_fail() { detail::host_mappings().never_fail(); }
  // The machine's memory has many users; what leaks here is seen by the leak sanitizer.
  Bytes leaked() const { return {}; }
};
INSTANTIATE_TYPED_TEST_SUITE_P(Host, ResourceConformance, HostSubject);

}  // namespace forebay::conformance
