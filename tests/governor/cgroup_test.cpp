#include "governor/cgroup.hpp"

#include <gtest/gtest.h>

#include "forebay/governor.hpp"
#include "governor/fake_tree.hpp"

namespace forebay {
namespace {

using namespace forebay::literals;
using testing::FakeTree;

constexpr std::string_view kV1Mount =
    "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n";
constexpr std::string_view kV2Mount =
    "26 24 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
constexpr std::string_view kHybridV2Mount =
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
constexpr std::string_view kV1Unlimited = "9223372036854771712\n";

MemoryReading read(const FakeTree& tree) {
  return PressureMonitor{{.root = tree.root()}}.read().value();
}

class CgroupReading : public ::testing::Test {
 protected:
  void expect_limit(Bytes limit, Bytes used, std::string_view source) {
    const MemoryReading reading = read(tree_);
    ASSERT_TRUE(reading.cgroup_limit.has_value());
    EXPECT_EQ(*reading.cgroup_limit, limit);
    ASSERT_TRUE(reading.cgroup_used.has_value());
    EXPECT_EQ(*reading.cgroup_used, used);
    EXPECT_EQ(reading.cgroup_source, (tree_.root() / source).string());
    EXPECT_EQ((PressureMonitor{{.root = tree_.root()}}.allowed()), limit);
  }
  void expect_none() {
    const MemoryReading reading = read(tree_);
    EXPECT_FALSE(reading.cgroup_limit.has_value());
    EXPECT_FALSE(reading.cgroup_used.has_value());
    EXPECT_EQ(reading.cgroup_source, "");
    EXPECT_EQ((PressureMonitor{{.root = tree_.root()}}.allowed()), 8_GiB);
  }

  FakeTree tree_;
};

TEST_F(CgroupReading, ReadsTheLimitOfVersionOne) {
  tree_.process().file("proc/self/mountinfo", kV1Mount);
  tree_.file("proc/self/cgroup", "4:memory:/jobs/mine\n1:cpu:/\n");
  tree_.file("sys/fs/cgroup/memory/memory.limit_in_bytes", kV1Unlimited);
  tree_.file("sys/fs/cgroup/memory/jobs/memory.limit_in_bytes", kV1Unlimited);
  tree_.file("sys/fs/cgroup/memory/jobs/mine/memory.limit_in_bytes", "1073741824\n");
  tree_.file("sys/fs/cgroup/memory/jobs/mine/memory.usage_in_bytes", "4096\n");
  expect_limit(1_GiB, 4_KiB, "sys/fs/cgroup/memory/jobs/mine/memory.limit_in_bytes");
}

TEST_F(CgroupReading, ReadsTheLimitOfVersionTwo) {
  tree_.process().file("proc/self/mountinfo", kV2Mount).file("proc/self/cgroup", "0::/app\n");
  tree_.file("sys/fs/cgroup/app/memory.max", "2147483648\n");
  tree_.file("sys/fs/cgroup/app/memory.high", "max\n");
  tree_.file("sys/fs/cgroup/app/memory.current", "8192\n");
  expect_limit(2_GiB, 8_KiB, "sys/fs/cgroup/app/memory.max");
}

TEST_F(CgroupReading, TakesTheThrottlingMarkOfVersionTwoWhereItIsLower) {
  tree_.process().file("proc/self/mountinfo", kV2Mount).file("proc/self/cgroup", "0::/app\n");
  tree_.file("sys/fs/cgroup/app/memory.max", "2147483648\n");
  tree_.file("sys/fs/cgroup/app/memory.high", "1073741824\n");
  tree_.file("sys/fs/cgroup/app/memory.current", "8192\n");
  expect_limit(1_GiB, 8_KiB, "sys/fs/cgroup/app/memory.high");
}

TEST_F(CgroupReading, FindsMemoryOnVersionOneOfAHybrid) {
  tree_.process().file("proc/self/mountinfo", std::string{kHybridV2Mount}.append(kV1Mount));
  tree_.file("proc/self/cgroup", "4:memory:/a\n0::/a\n");
  tree_.file("sys/fs/cgroup/unified/a/cgroup.controllers", "hugetlb\n");
  tree_.file("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "3221225472\n");
  tree_.file("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "12288\n");
  expect_limit(3_GiB, 12_KiB, "sys/fs/cgroup/memory/a/memory.limit_in_bytes");
}

TEST_F(CgroupReading, FindsMemoryOnVersionTwoOfAHybrid) {
  tree_.process().file("proc/self/mountinfo", std::string{kV1Mount}.append(kHybridV2Mount));
  tree_.file("proc/self/cgroup", "1:cpu:/a\n0::/a\n");
  tree_.file("sys/fs/cgroup/unified/a/memory.max", "3221225472\n");
  tree_.file("sys/fs/cgroup/unified/a/memory.current", "12288\n");
  expect_limit(3_GiB, 12_KiB, "sys/fs/cgroup/unified/a/memory.max");
}

TEST_F(CgroupReading, HasNoLimitWithoutCgroups) {
  tree_.process();
  expect_none();
  tree_.file("proc/self/cgroup", "").file("proc/self/mountinfo", "22 1 254:0 / / rw - ext4 d rw\n");
  expect_none();
}

TEST_F(CgroupReading, TakesTheLeastLimitOfNestedGroups) {
  tree_.process().file("proc/self/mountinfo", kV2Mount).file("proc/self/cgroup", "0::/a/b/c\n");
  tree_.file("sys/fs/cgroup/a/memory.max", "4294967296\n");
  tree_.file("sys/fs/cgroup/a/b/memory.max", "1073741824\n");
  tree_.file("sys/fs/cgroup/a/b/memory.current", "16384\n");
  tree_.file("sys/fs/cgroup/a/b/c/memory.max", "2147483648\n");
  tree_.file("sys/fs/cgroup/a/b/c/memory.current", "4096\n");
  expect_limit(1_GiB, 16_KiB, "sys/fs/cgroup/a/b/memory.max");
}

TEST_F(CgroupReading, CountsTheLimitOfTheMountItself) {
  tree_.process().file("proc/self/mountinfo", kV1Mount).file("proc/self/cgroup", "4:memory:/\n");
  tree_.file("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n");
  tree_.file("sys/fs/cgroup/memory/memory.usage_in_bytes", "4096\n");
  expect_limit(1_GiB, 4_KiB, "sys/fs/cgroup/memory/memory.limit_in_bytes");
}

TEST_F(CgroupReading, TakesBothSpellingsOfUnlimitedAsNone) {
  tree_.process().file("proc/self/mountinfo", std::string{kV1Mount}.append(kHybridV2Mount));
  tree_.file("proc/self/cgroup", "4:memory:/a\n0::/a\n");
  tree_.file("sys/fs/cgroup/memory/a/memory.limit_in_bytes", kV1Unlimited);
  tree_.file("sys/fs/cgroup/unified/a/memory.max", "max\n");
  expect_none();
}

TEST_F(CgroupReading, TakesGarbageAsNone) {
  const std::string_view garbage[] = {"",
                                      "\n",
                                      "-1\n",
                                      "12 GiB\n",
                                      "99999999999999999999999\n",
                                      "0x1000\n",
                                      "10\n20\n",
                                      std::string_view{"\0\xff", 2}};
  tree_.process().file("proc/self/mountinfo", kV2Mount).file("proc/self/cgroup", "0::/a\n");
  for (const std::string_view text : garbage) {
    SCOPED_TRACE(text);
    tree_.file("sys/fs/cgroup/a/memory.max", text);
    expect_none();
  }
}

TEST_F(CgroupReading, LimitWithoutReadableUseIsStillALimit) {
  tree_.process().file("proc/self/mountinfo", kV2Mount).file("proc/self/cgroup", "0::/a\n");
  tree_.file("sys/fs/cgroup/a/memory.max", "1073741824\n");
  tree_.file("sys/fs/cgroup/a/memory.current", "lots\n");
  const MemoryReading reading = read(tree_);
  EXPECT_EQ(reading.cgroup_limit, std::optional{1_GiB});
  EXPECT_EQ(reading.cgroup_used, std::nullopt);
}

// Docker on v1 without a cgroup namespace: the path is the host's, the mount shows just
// the container.
TEST_F(CgroupReading, ReadsTheMountWhenItsRootIsOurGroup) {
  tree_.process().file("proc/self/cgroup", "4:memory:/docker/f00d\n");
  tree_.file("proc/self/mountinfo",
             "35 31 0:32 /docker/f00d /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
  tree_.file("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n");
  tree_.file("sys/fs/cgroup/memory/memory.usage_in_bytes", "4096\n");
  expect_limit(512_MiB, 4_KiB, "sys/fs/cgroup/memory/memory.limit_in_bytes");
}

TEST_F(CgroupReading, ReadsTheMountWhenOurPathIsNotVisible) {
  const std::string_view paths[] = {"0::/host/pod/f00d\n", "0::/../elsewhere\n", "0::/..\n"};
  tree_.process().file("proc/self/mountinfo", kV2Mount);
  tree_.file("sys/fs/cgroup/memory.max", "536870912\n");
  tree_.file("sys/fs/cgroup/memory.current", "4096\n");
  for (const std::string_view path : paths) {
    SCOPED_TRACE(path);
    tree_.file("proc/self/cgroup", path);
    expect_limit(512_MiB, 4_KiB, "sys/fs/cgroup/memory.max");
  }
}

TEST_F(CgroupReading, NeverLeavesTheMount) {
  tree_.process().file("proc/self/mountinfo", kV2Mount).file("proc/self/cgroup", "0::/../secret\n");
  tree_.file("sys/fs/secret/memory.max", "4096\n");
  expect_none();
}

TEST_F(CgroupReading, PrefersTheMountThatShowsOurGroup) {
  tree_.process().file("proc/self/cgroup", "0::/a/b\n");
  tree_.file("proc/self/mountinfo",
             "26 24 0:22 /other /mnt/other rw - cgroup2 cgroup2 rw\n"
             "27 24 0:22 /a /mnt/a\\040group rw - cgroup2 cgroup2 rw\n");
  tree_.file("mnt/other/memory.max", "4096\n");
  tree_.file("mnt/a group/b/memory.max", "1073741824\n");
  tree_.file("mnt/a group/b/memory.current", "4096\n");
  expect_limit(1_GiB, 4_KiB, "mnt/a group/b/memory.max");
}

TEST(CgroupLevels, IgnoreLinesThatMakeNoSense) {
  EXPECT_TRUE(detail::cgroup_levels("0::/a\nnonsense\n:\n::", "", "/").empty());
  EXPECT_TRUE(detail::cgroup_levels("0:/a\n", kV2Mount, "/").empty());
  EXPECT_TRUE(
      detail::cgroup_levels("0::/a\n", "26 24 0:22 / /sys/fs/cgroup\n- cgroup2\n-", "/").empty());
  EXPECT_TRUE(detail::cgroup_levels("0::/a\n", "1 2 3 4 5 6 - cgroup2\n", "/").empty());
}

TEST(CgroupLevels, RunFromOurGroupUpToTheMount) {
  const auto levels = detail::cgroup_levels("0::/a/b\n", kV2Mount, "/fake");
  ASSERT_EQ(levels.size(), 3u);
  EXPECT_EQ(levels[0].directory, "/fake/sys/fs/cgroup/a/b");
  EXPECT_EQ(levels[1].directory, "/fake/sys/fs/cgroup/a");
  EXPECT_EQ(levels[2].directory, "/fake/sys/fs/cgroup");
}

}  // namespace
}  // namespace forebay
