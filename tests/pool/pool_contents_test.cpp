// What a block shows to whoever gets it: never another tenant's bytes, and zeroes where promised.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "forebay/pool.hpp"
#include "support/watched_ranges.hpp"
#include "support/watched_resource.hpp"

namespace forebay {
namespace {

using namespace literals;
using testing::WatchedRanges;

std::byte mark_of(Tenant tenant) { return static_cast<std::byte>(0x80 + tenant.id); }

class PoolContents : public ::testing::Test {
 protected:
  Buffer acquire(Bytes size, Tenant tenant, Contents contents = Contents::uninitialized) {
    return pool_->acquire(size, {.contents = contents, .tenant = tenant}).value();
  }
  // All that the block can hold, which may be more than what was asked.
  std::span<std::byte> usable(const Buffer& buffer) const {
    return {static_cast<std::byte*>(buffer.data()), pool_->usable_size(buffer.data()).count()};
  }
  void soil(const Buffer& buffer, Tenant tenant) const {
    std::ranges::fill(usable(buffer), mark_of(tenant));
  }
  void expect_clean(const Buffer& buffer, Tenant tenant) const {
    const auto bytes = usable(buffer);
    const auto foreign = std::ranges::count_if(
        bytes, [&](std::byte b) { return b != std::byte{0} && b != mark_of(tenant); });
    EXPECT_EQ(foreign, 0) << "bytes of another tenant in a block of " << bytes.size();
  }
  static void expect_zero(std::span<const std::byte> bytes) {
    EXPECT_TRUE(std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; }))
        << bytes.size();
  }

  ManualClock clock_;
  const std::shared_ptr<WatchedRanges> upstream_ = std::make_shared<WatchedRanges>();
  const std::shared_ptr<Pool> pool_ = Pool::create(upstream_, {.clock = &clock_});
};

constexpr Bytes kSizes[] = {16_B, 100_B, 1000_B, 8_KiB, 32_KiB, 40_KiB, 1_MiB, 5_MiB};

TEST_F(PoolContents, ZeroedIsZeroFreshAndReused) {
  for (const Bytes size : kSizes) {
    for (int round = 0; round < 3; ++round) {
      const Buffer buffer = acquire(size, {}, Contents::zeroed);
      expect_zero(buffer.bytes());
      soil(buffer, {});
    }
  }
}

TEST_F(PoolContents, FreshPagesAreNotZeroedTwice) {
  std::vector<Buffer> buffers;
  for (const Bytes size : kSizes) buffers.push_back(acquire(size, {}, Contents::zeroed));
  for (const Bytes size : kSizes) buffers.push_back(acquire(size, {5}));
  EXPECT_EQ(upstream_->seen().zeroes, 0U);
  for (const Buffer& buffer : buffers) expect_zero(usable(buffer));
}

TEST_F(PoolContents, PagesThatWentUpstreamAndCameBackAreNotZeroedEither) {
  for (const Bytes size : kSizes) soil(acquire(size, {1}), {1});
  pool_->release_unused();
  for (const Bytes size : kSizes) expect_zero(acquire(size, {2}, Contents::zeroed).bytes());
  // A slab is cut for each size anew, and what is left of a thread's blocks is fresh.
  EXPECT_EQ(upstream_->seen().zeroes, 0U);
}

TEST_F(PoolContents, ZeroesOnlyWhatWasAskedForTheSameTenant) {
  soil(acquire(1000_B, {}), {});
  upstream_->clear();
  expect_zero(acquire(980_B, {}, Contents::zeroed).bytes());
  EXPECT_EQ(upstream_->seen().zeroes, 1U);
  EXPECT_EQ(upstream_->seen().zeroed, 980_B);
}

TEST_F(PoolContents, LeavesATenantsOwnBytesAsTheyWere) {
  for (const Bytes size : kSizes) {
    soil(acquire(size, {3}), {3});
    upstream_->clear();
    EXPECT_EQ(acquire(size, {3}).bytes().back(), mark_of({3}));
    EXPECT_EQ(upstream_->seen().zeroes, 0U);
  }
}

TEST_F(PoolContents, ZeroesAllOfABlockThatChangesTenant) {
  for (const Bytes size : kSizes) {
    soil(acquire(size, {1}), {1});
    const Buffer other = acquire(size, {2});
    expect_zero(usable(other));
  }
}

TEST_F(PoolContents, RefusesATenantOutOfRange) {
  EXPECT_EQ(pool_->acquire(1_KiB, {.tenant = {kMaxTenants}}).status().code(),
            Code::invalid_argument);
  EXPECT_EQ(pool_->try_acquire(1_KiB, {.tenant = {255}}).status().code(), Code::invalid_argument);
  EXPECT_TRUE(pool_->acquire(1_KiB, {.tenant = {kMaxTenants - 1}}).ok());
}

// A canary scan: every block is filled with its tenant's mark, and whoever gets memory, in
// whatever shape it comes back (split, joined, moved, a slab, no longer a slab), looks for marks
// of others.
void scan(std::shared_ptr<MemoryResource> upstream, unsigned seed, int steps) {
  ManualClock clock;
  const auto pool = Pool::create(std::move(upstream), {.clock = &clock});
  std::mt19937 random{seed};
  struct Held {
    Buffer buffer;
    Tenant tenant;
  };
  std::vector<Held> held;
  const auto usable = [&](const Buffer& buffer) {
    return std::span{static_cast<std::byte*>(buffer.data()),
                     pool->usable_size(buffer.data()).count()};
  };
  for (int step = 0; step < steps; ++step) {
    if (held.size() > 40 || (!held.empty() && random() % 5 < 2)) {
      std::swap(held[random() % held.size()], held.back());
      held.pop_back();
    } else {
      const Tenant tenant{static_cast<std::uint8_t>(random() % 3)};
      const bool zeroed = random() % 4 == 0;
      const Bytes size{1 + random() % (64ULL << (random() % 16))};
      Buffer buffer =
          pool->acquire(size, {.alignment = Bytes{1ULL << (random() % 14)},
                               .contents = zeroed ? Contents::zeroed : Contents::uninitialized,
                               .tenant = tenant})
              .value();
      for (const std::byte b : zeroed ? buffer.bytes() : usable(buffer)) {
        ASSERT_TRUE(b == std::byte{0} || (!zeroed && b == mark_of(tenant)))
            << "step " << step << ", a block of " << size.count() << " for " << +tenant.id
            << " shows " << static_cast<int>(b);
      }
      std::ranges::fill(usable(buffer), mark_of(tenant));
      held.push_back({std::move(buffer), tenant});
    }
    if (random() % 50 == 0) pool->tick();
    if (random() % 50 == 0) pool->trim(Bytes{random() % (4ULL << 20)});
    if (random() % 200 == 0) held.clear();
  }
  pool->validate();
}

TEST(PoolTenants, NoByteOfAnotherTenantIsEverSeen) {
  scan(std::make_shared<WatchedRanges>(), 1, 4000);
  scan(std::make_shared<WatchedRanges>(), 2, 4000);
}

TEST(PoolTenants, NoByteOfAnotherTenantIsEverSeenInSegments) {
  scan(std::make_shared<testing::WatchedResource>(), 3, 4000);
}

// The pool below hands out used memory as its own.
TEST(PoolTenants, NoByteOfAnotherTenantIsEverSeenOverAPool) {
  const auto below = Pool::create(Device::host());
  std::vector<Buffer> dirty;
  for (int i = 0; i < 8; ++i) {
    dirty.push_back(below->acquire(2_MiB).value());
    std::memset(dirty.back().data(), 0xEE, 2 << 20);
  }
  dirty.clear();
  scan(below, 4, 2000);
}

}  // namespace
}  // namespace forebay
