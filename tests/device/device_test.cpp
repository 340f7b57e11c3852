#include "forebay/device.hpp"

#include <gtest/gtest.h>

namespace forebay {
namespace {

TEST(Device, OpensTheHostAsAlwaysTheSameObject) {
  const auto opened = Device::open("host");
  ASSERT_TRUE(opened.ok());
  EXPECT_EQ(*opened, Device::host());
  EXPECT_EQ((*opened)->kind(), DeviceKind::host);
}

TEST(Device, OpensASimulatedOneOfTheDefaultSize) {
  const auto opened = Device::open("simulated");
  ASSERT_TRUE(opened.ok());
  EXPECT_EQ((*opened)->kind(), DeviceKind::simulated);
  EXPECT_EQ((*opened)->capacity(), SimulatedDeviceOptions{}.capacity);
}

TEST(Device, SaysWhyThisBuildCannotOpenAGpu) {
  const auto cuda = Device::open("cuda:0");
  ASSERT_FALSE(cuda.ok());
  EXPECT_EQ(cuda.status().code(), Code::unsupported);
  EXPECT_EQ(cuda.status().message(), "no CUDA device: this build has no CUDA support");
  const auto vulkan = Device::open("vulkan:12");
  ASSERT_FALSE(vulkan.ok());
  EXPECT_EQ(vulkan.status().code(), Code::unsupported);
  EXPECT_EQ(vulkan.status().message(), "no Vulkan device: this build has no Vulkan support");
}

TEST(Device, NamesWhatIsAllowedForAnUnknownName) {
  for (const char* name : {"", "Host", "gpu0", "cuda", "cuda:", "cuda:x", "cuda:-1", "cudax0"}) {
    const auto opened = Device::open(name);
    ASSERT_FALSE(opened.ok()) << name;
    EXPECT_EQ(opened.status().code(), Code::invalid_argument) << name;
    EXPECT_EQ(opened.status().message(),
              "'" + std::string{name} +
                  "' is not a device; allowed: host, simulated, cuda:0, cuda:1, ..., vulkan:0, "
                  "vulkan:1, ...");
  }
}

TEST(Device, SpellsItsKinds) {
  EXPECT_EQ(to_string(DeviceKind::host), "host");
  EXPECT_EQ(to_string(DeviceKind::simulated), "simulated");
  EXPECT_EQ(to_string(DeviceKind::cuda), "cuda");
  EXPECT_EQ(to_string(DeviceKind::vulkan), "vulkan");
}

}  // namespace
}  // namespace forebay
