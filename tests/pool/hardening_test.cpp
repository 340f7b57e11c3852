// Programs with one bug each, on every kind of block and pool, and what must be said about them.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "forebay/pool.hpp"
#include "support/watched_resource.hpp"

namespace forebay {
namespace {

using namespace literals;
using testing::WatchedResource;

// The modes here are those that each test asks for.
[[maybe_unused]] const bool g_as_asked = ::unsetenv("FOREBAY_PARANOID") == 0;

struct Kind {
  const char* name;
  Bytes size;
  Bytes alignment;
};
constexpr Kind kSmall{"Small", 100_B, 16_B};
constexpr Kind kLarge{"Large", 100000_B, 16_B};
constexpr Kind kOverAligned{"OverAligned", 10000_B, 64_KiB};

enum class Memory { pages, segments, simulated };
enum class Mode { normal, checked };

std::shared_ptr<MemoryResource> upstream_of(Memory memory) {
  switch (memory) {
    case Memory::pages:
      return Device::host();
    case Memory::segments:
      return std::make_shared<WatchedResource>();
    case Memory::simulated:
      break;
  }
  return SimulatedDevice::create({.capacity = 1_GiB});
}

std::shared_ptr<Pool> make_pool(Memory memory, Mode mode) {
  return Pool::create(
      upstream_of(memory),
      {.name = "kv", .cleanup_interval = Duration::zero(), .checked = mode == Mode::checked});
}

using Case = std::tuple<Kind, Memory, Mode>;

std::string name_of(const ::testing::TestParamInfo<Case>& info) {
  constexpr std::array kMemories{"Pages", "Segments", "Simulated"};
  const auto& [kind, memory, mode] = info.param;
  return std::string{kind.name} + kMemories[static_cast<std::size_t>(memory)] +
         (mode == Mode::checked ? "Checked" : "Normal");
}

constexpr const char* kBackAlready = "pool 'kv': block 0x.*is given back already";
constexpr const char* kForeign = "pool 'kv': block 0x.*is not of this pool";
constexpr const char* kInterior = "pool 'kv': block 0x.*is not the start of a block";
constexpr const char* kOtherSize = "pool 'kv': block 0x.*was taken with another size or alignment";

class MisuseDeathTest : public ::testing::TestWithParam<Case> {
 protected:
  void* take() { return pool_->allocate(kind_.size, kind_.alignment).value(); }
  void give(void* block) { pool_->deallocate(block, kind_.size, kind_.alignment); }
  // For the buffers of a test that ends well.
  Buffer acquire() { return pool_->acquire(kind_.size, {.alignment = kind_.alignment}).value(); }

  const Kind kind_ = std::get<Kind>(GetParam());
  const std::shared_ptr<Pool> pool_ =
      make_pool(std::get<Memory>(GetParam()), std::get<Mode>(GetParam()));
};

TEST_P(MisuseDeathTest, ASecondReleaseIsFound) {
  void* const block = take();
  give(block);
  EXPECT_DEATH(give(block), kBackAlready);
  EXPECT_DEATH(pool_->deallocate_unsized(block), kBackAlready);
}

TEST_P(MisuseDeathTest, ASecondReleaseWithAnotherInBetweenIsFound) {
  void* const a = take();
  void* const b = take();
  give(a);
  give(b);
  EXPECT_DEATH(give(a), kBackAlready);
  EXPECT_DEATH(pool_->deallocate_unsized(a), kBackAlready);
}

TEST_P(MisuseDeathTest, ASecondReleaseAfterTheMemoryWentUpstreamIsFound) {
  void* const block = take();
  give(block);
  pool_->release_unused();
  EXPECT_DEATH(give(block), "pool 'kv': block 0x.*is (given back already|not of this pool)");
}

TEST_P(MisuseDeathTest, ARawReleaseOfABuffersBlockIsFoundAtTheBuffersEnd) {
  EXPECT_DEATH(
      {
        const Buffer buffer = acquire();
        give(buffer.data());
      },
      kBackAlready);
  EXPECT_DEATH(
      {
        Buffer buffer = acquire();
        void* const block = buffer.data();
        buffer.reset();
        give(block);
      },
      kBackAlready);
}

TEST_P(MisuseDeathTest, ABlockOfSomebodyElseIsFound) {
  const auto other = make_pool(std::get<Memory>(GetParam()), Mode::normal);
  void* const others = other->allocate(kind_.size, kind_.alignment).value();
  std::array<std::byte, 64> on_stack{};
  const std::unique_ptr<std::byte[]> on_heap{new std::byte[64]};
  void* const mine = take();
  EXPECT_DEATH(give(others), kForeign);
  EXPECT_DEATH(give(on_stack.data()), kForeign);
  EXPECT_DEATH(give(on_heap.get()), kForeign);
  EXPECT_DEATH(pool_->deallocate_unsized(others), kForeign);
  EXPECT_DEATH(static_cast<void>(pool_->usable_size(others)), kForeign);
  give(mine);
  other->deallocate(others, kind_.size, kind_.alignment);
}

TEST_P(MisuseDeathTest, APointerIntoABlockIsFound) {
  auto* const block = static_cast<std::byte*>(take());
  for (const std::uint64_t offset :
       {std::uint64_t{1}, std::uint64_t{16}, kind_.size.count() / 2, kind_.size.count() - 1}) {
    EXPECT_DEATH(give(block + offset), kInterior) << offset;
    EXPECT_DEATH(pool_->deallocate_unsized(block + offset), kInterior) << offset;
  }
  EXPECT_DEATH(static_cast<void>(pool_->usable_size(block + 16)), kInterior);
  give(block);
}

TEST_P(MisuseDeathTest, AReleaseWithAnotherSizeIsFound) {
  void* const block = take();
  EXPECT_DEATH(pool_->deallocate(block, kind_.size * 2, kind_.alignment), kOtherSize);
  EXPECT_DEATH(pool_->deallocate(block, 1_B, kind_.alignment), kOtherSize);
  give(block);
}

TEST_P(MisuseDeathTest, WhatIsUsedWellIsNotComplainedOf) {
  std::vector<void*> blocks;
  for (int round = 0; round != 3; ++round) {
    for (int i = 0; i != 20; ++i) blocks.push_back(take());
    const Buffer buffer = acquire();
    pool_->validate();
    EXPECT_EQ(pool_->stats().live_blocks, 21U);
    EXPECT_GE(pool_->usable_size(blocks[0]), kind_.size);
    pool_->deallocate_unsized(blocks.back());
    blocks.pop_back();
    for (void* const block : blocks) give(block);
    blocks.clear();
    pool_->validate();
  }
  EXPECT_EQ(pool_->stats().live_blocks, 0U);
  EXPECT_EQ(pool_->stats().live, Bytes{});
  pool_->release_unused();
  EXPECT_EQ(pool_->stats().reserved, Bytes{});
}

INSTANTIATE_TEST_SUITE_P(Each, MisuseDeathTest,
                         ::testing::Combine(::testing::Values(kSmall, kLarge, kOverAligned),
                                            ::testing::Values(Memory::pages, Memory::segments,
                                                              Memory::simulated),
                                            ::testing::Values(Mode::normal, Mode::checked)),
                         name_of);

// What must be said of each bug, in each mode; null: the mode does not look for it.
struct Bug {
  std::string name;
  const char* normal;
  const char* checked;
  std::function<void(Pool&, const Kind&)> run;
};

void* take(Pool& pool, const Kind& kind) {
  return pool.allocate(kind.size, kind.alignment).value();
}
void give(Pool& pool, const Kind& kind, void* block) {
  pool.deallocate(block, kind.size, kind.alignment);
}

void overflow(Pool& pool, const Kind& kind, std::uint64_t bytes) {
  void* const block = take(pool, kind);
  std::memset(block, 1, kind.size.count() + bytes);
  give(pool, kind, block);
}

// Aborts, as a pool does, if the second tenant sees what the first wrote.
void look_for_old_data(Pool& pool, const Kind& kind) {
  AcquireOptions options{.alignment = kind.alignment};
  Buffer first = pool.acquire(kind.size, options).value();
  std::memset(first.data(), 0x5a, kind.size.count());
  first.reset();
  pool.trim(Bytes{});  // lets it out of quarantine; keeps the memory
  options.tenant = Tenant{1};
  for (int i = 0; i != 64; ++i) {
    const Buffer second = pool.acquire(kind.size, options).value();
    for (const std::byte byte : second.bytes()) {
      if (byte != std::byte{0}) FAIL() << "content of another tenant";
    }
  }
}

const std::vector<Bug>& bugs() {
  static const std::vector<Bug> all{
      {"DoubleRelease", "is given back already", "is given back already",
       [](Pool& pool, const Kind& kind) {
         void* const block = take(pool, kind);
         give(pool, kind, block);
         give(pool, kind, block);
       }},
      {"AbaRelease", "is given back already", "is given back already",
       [](Pool& pool, const Kind& kind) {
         void* const a = take(pool, kind);
         void* const b = take(pool, kind);
         give(pool, kind, a);
         give(pool, kind, b);
         give(pool, kind, a);
       }},
      {"ForeignPointer", "is not of this pool", "is not of this pool",
       [](Pool& pool, const Kind& kind) {
         std::array<std::byte, 8> foreign{};
         give(pool, kind, foreign.data());
       }},
      {"InteriorPointer", "is not the start of a block", "is not the start of a block",
       [](Pool& pool, const Kind& kind) {
         give(pool, kind, static_cast<std::byte*>(take(pool, kind)) + 16);
       }},
      {"StaleWrite", nullptr, "was written after it was given back, at offset 40; found",
       [](Pool& pool, const Kind& kind) {
         auto* const block = static_cast<volatile std::byte*>(take(pool, kind));
         give(pool, kind, const_cast<std::byte*>(block));
         block[40] = std::byte{1};
         pool.release_unused();
       }},
      {"OverflowBy1", nullptr, "was written 1 B past its end, at offset [0-9]+; found",
       [](Pool& pool, const Kind& kind) { overflow(pool, kind, 1); }},
      {"OverflowBy24", nullptr, "was written 1 B past its end, at offset [0-9]+; found",
       [](Pool& pool, const Kind& kind) { overflow(pool, kind, 24); }},
  };
  return all;
}

struct BugCase {
  std::size_t bug;
  Kind kind;
  Memory memory;
  Mode mode;

  const char* said() const {
    return mode == Mode::checked ? bugs()[bug].checked : bugs()[bug].normal;
  }
};

std::vector<BugCase> what_must_be_found() {
  std::vector<BugCase> cases;
  for (std::size_t bug = 0; bug != bugs().size(); ++bug) {
    for (const Kind& kind : {kSmall, kLarge, kOverAligned}) {
      for (const Memory memory : {Memory::pages, Memory::segments}) {
        for (const Mode mode : {Mode::normal, Mode::checked}) {
          const BugCase one{bug, kind, memory, mode};
          if (one.said() != nullptr) cases.push_back(one);
        }
      }
    }
  }
  return cases;
}

class OneBugDeathTest : public ::testing::TestWithParam<BugCase> {};

TEST_P(OneBugDeathTest, IsFound) {
  const BugCase& one = GetParam();
  const auto pool = make_pool(one.memory, one.mode);
  EXPECT_DEATH(bugs()[one.bug].run(*pool, one.kind), one.said());
}

INSTANTIATE_TEST_SUITE_P(
    Each, OneBugDeathTest, ::testing::ValuesIn(what_must_be_found()), [](const auto& with) {
      const BugCase& one = with.param;
      return bugs()[one.bug].name + name_of({Case{one.kind, one.memory, one.mode}, 0});
    });

// The eighth bug is the pool's own to prevent.
class OldData : public ::testing::TestWithParam<Case> {};

TEST_P(OldData, IsNotSeenByAnotherTenant) {
  const auto& [kind, memory, mode] = GetParam();
  const auto pool = make_pool(memory, mode);
  look_for_old_data(*pool, kind);
}

TEST_P(OldData, IsNotSeenBehindTheBytesAskedFor) {
  const auto& [kind, memory, mode] = GetParam();
  const auto pool = make_pool(memory, mode);
  Buffer first = pool->acquire(kind.size, {.alignment = kind.alignment}).value();
  const Bytes usable = pool->usable_size(first.data());
  std::memset(first.data(), 0x5a, usable.count());
  first.reset();
  const Buffer second =
      pool->acquire(kind.size - 1_B, {.alignment = kind.alignment, .tenant = Tenant{1}}).value();
  const auto* const bytes = static_cast<const std::byte*>(second.data());
  for (std::uint64_t i = 0; i != pool->usable_size(second.data()).count(); ++i) {
    ASSERT_EQ(bytes[i], std::byte{0}) << i;
  }
}

TEST_P(OldData, IsZeroedForThoseWhoAsk) {
  const auto& [kind, memory, mode] = GetParam();
  const auto pool = make_pool(memory, mode);
  const AcquireOptions options{.alignment = kind.alignment, .contents = Contents::zeroed};
  for (int i = 0; i != 3; ++i) {
    const Buffer buffer = pool->acquire(kind.size, options).value();
    for (const std::byte byte : buffer.bytes()) ASSERT_EQ(byte, std::byte{0});
    std::memset(buffer.data(), 0x5a, kind.size.count());
    if (i == 1) pool->release_unused();
  }
}

INSTANTIATE_TEST_SUITE_P(Each, OldData,
                         ::testing::Combine(::testing::Values(kSmall, kLarge, kOverAligned),
                                            ::testing::Values(Memory::pages, Memory::segments),
                                            ::testing::Values(Mode::normal, Mode::checked)),
                         name_of);

// The map of pages still names what began there.
TEST(PageRunDeathTest, APointerIntoABlockIsFoundWhereOthersBegan) {
  for (const Memory memory : {Memory::pages, Memory::segments, Memory::simulated}) {
    const auto pool = make_pool(memory, Mode::normal);
    std::vector<void*> blocks;
    for (int i = 0; i != 4; ++i) blocks.push_back(pool->allocate(40_KiB).value());
    for (void* const block : blocks) pool->deallocate(block, 40_KiB);
    pool->trim(Bytes{});  // they join
    void* const whole = pool->allocate(160_KiB).value();
    for (void* const block : blocks) {
      if (block == whole) continue;
      EXPECT_DEATH(pool->deallocate_unsized(block), "pool 'kv': block 0x.* is ");
    }
    pool->deallocate(whole, 160_KiB);
  }
}

// ---- Checked pools

class CheckedPoolDeathTest : public ::testing::TestWithParam<Kind> {
 protected:
  std::byte* take() { return static_cast<std::byte*>(forebay::take(*pool_, GetParam())); }
  void give(void* block) { forebay::give(*pool_, GetParam(), block); }
  std::shared_ptr<Pool> pool_ = make_pool(Memory::pages, Mode::checked);
};

TEST_P(CheckedPoolDeathTest, ValidateSeesAnOverflowOfALiveBlock) {
  std::byte* const block = take();
  const std::uint64_t size = GetParam().size.count();
  for (const std::uint64_t past : {0U, 23U, 31U}) {
    EXPECT_DEATH((block[size + past] = std::byte{}, pool_->validate()),
                 "block 0x.* of .*\\(acquire 1\\) was written [0-9]+ B past its end.*by validate")
        << past;
  }
  give(block);
}

TEST_P(CheckedPoolDeathTest, ValidateAndTrimSeeAStaleWrite) {
  std::byte* const block = take();
  give(block);
  EXPECT_DEATH((block[0] = std::byte{}, pool_->validate()),
               "was written after it was given back, at offset 0; found by validate");
  EXPECT_DEATH((block[0] = std::byte{}, pool_->trim(1_B)),
               "was written after it was given back, at offset 0; found when it left quarantine");
  EXPECT_DEATH((block[0] = std::byte{}, pool_->reclaim(1_B)), "was written after");
}

TEST_P(CheckedPoolDeathTest, ThePoolsEndSeesAStaleWrite) {
  std::byte* const block = take();
  give(block);
  EXPECT_DEATH((block[1] = std::byte{}, pool_.reset()), "at offset 1; found when it left");
}

TEST_P(CheckedPoolDeathTest, AnUnderflowIsSeenWhereAlignmentLeavesRoom) {
  if (GetParam().alignment > 256_B) return;  // no guard before blocks aligned so far
  std::byte* const block = take();
  block[-5] = std::byte{};
  EXPECT_DEATH(give(block), "was written 5 B before its start; found when it was given back");
  EXPECT_DEATH(pool_->validate(), "was written 5 B before its start; found by validate");
  block[-5] = std::byte{0xfb};
  give(block);
}

TEST_P(CheckedPoolDeathTest, TheEndOfThePoolNamesWhatIsLive) {
  EXPECT_DEATH((static_cast<void>(take()), pool_.reset()),
               "ended with 1 live blocks.*\n.*block 0x.* of .*\\(acquire 1\\)");
}

INSTANTIATE_TEST_SUITE_P(Each, CheckedPoolDeathTest,
                         ::testing::Values(kSmall, kLarge, kOverAligned));

TEST(CheckedPoolDeathTest, TheSizeOfAReleaseIsHeldToTheByte) {
  const auto pool = make_pool(Memory::pages, Mode::checked);
  void* const block = pool->allocate(100_B).value();
  EXPECT_DEATH(pool->deallocate(block, 101_B), kOtherSize);
  pool->deallocate(block, 100_B);
}

TEST(CheckedPool, CountsWhatUsersHold) {
  const auto pool = make_pool(Memory::pages, Mode::checked);
  Buffer buffer = pool->acquire(1_MiB).value();
  const Bytes taken = pool->good_size(1_MiB, kDefaultAlignment);
  EXPECT_EQ(pool->usable_size(buffer.data()), 1_MiB);
  EXPECT_EQ(pool->stats().live, taken);
  EXPECT_GT(taken, 1_MiB);
  buffer.reset();
  const PoolStats stats = pool->stats();
  EXPECT_EQ(stats.live, Bytes{});
  EXPECT_EQ(stats.live_blocks, 0U);
  EXPECT_EQ(stats.idle, stats.reserved);
  EXPECT_GE(stats.reserved, taken);  // in quarantine
  EXPECT_EQ(stats.peak_live, taken);
  EXPECT_EQ(stats.requested_total, 1_MiB);
  EXPECT_EQ(stats.acquires, stats.hits + stats.misses);
  EXPECT_GE(pool->reclaimable(), taken);
  EXPECT_GE(pool->release_unused(), taken);
  EXPECT_EQ(pool->stats().reserved, Bytes{});
}

TEST(CheckedPool, QuarantineGoesBeforeAnybodyIsRefused) {
  const auto device = SimulatedDevice::create({.capacity = 8_MiB});
  const auto pool =
      Pool::create(device, {.name = "kv", .cleanup_interval = Duration::zero(), .checked = true});
  for (int i = 0; i != 5; ++i) {
    auto buffer = pool->acquire(6_MiB);
    ASSERT_TRUE(buffer.ok()) << buffer.status().message();
  }
  EXPECT_EQ(pool->stats().refused, 0U);
  EXPECT_FALSE(pool->acquire(64_MiB).ok());
  EXPECT_EQ(pool->stats().refused, 1U);
  pool->validate();
}

TEST(CheckedPool, QuarantineIsBounded) {
  const auto upstream = std::make_shared<WatchedResource>();
  const auto pool = Pool::create(upstream, {.cleanup_interval = Duration::zero(), .checked = true});
  for (int i = 0; i != 400; ++i) pool->acquire(1_MiB).value().reset();
  EXPECT_LE(upstream->live(), 100_MiB);
}

TEST(CheckedPool, QuarantineAges) {
  ManualClock clock;
  const auto pool = Pool::create(
      Device::host(), {.ttl = std::chrono::seconds{10}, .checked = true, .clock = &clock});
  pool->acquire(1_MiB).value().reset();
  for (int i = 0; i != 30; ++i) {
    clock.advance(std::chrono::seconds{1});
    pool->tick();
  }
  EXPECT_EQ(pool->stats().reserved, Bytes{});
}

TEST(CheckedPool, KeepsTheContentAndAlignmentOfEveryBlock) {
  const auto pool = make_pool(Memory::pages, Mode::checked);
  std::vector<Buffer> buffers;
  for (std::uint64_t alignment = 1; alignment <= kMaxAlignment.count(); alignment *= 2) {
    for (const Bytes size : {1_B, 31_B, 4_KiB, 33_KiB}) {
      buffers.push_back(pool->acquire(size, {.alignment = Bytes{alignment}}).value());
      const Buffer& buffer = buffers.back();
      ASSERT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % alignment, 0U);
      std::memset(buffer.data(), static_cast<int>(buffers.size()), size.count());
    }
  }
  pool->validate();
  for (std::size_t i = 0; i != buffers.size(); ++i) {
    for (const std::byte byte : buffers[i].bytes()) ASSERT_EQ(byte, std::byte(i + 1));
  }
}

TEST(CheckedPool, IsAskedForByTheEnvironment) {
  ASSERT_EQ(::setenv("FOREBAY_PARANOID", "1", 1), 0);
  const auto paranoid = make_pool(Memory::pages, Mode::normal);
  ASSERT_EQ(::setenv("FOREBAY_PARANOID", "0", 1), 0);
  const auto normal = make_pool(Memory::pages, Mode::normal);
  ASSERT_EQ(::unsetenv("FOREBAY_PARANOID"), 0);
  EXPECT_GT(paranoid->good_size(1_KiB, 16_B), 1_KiB);
  EXPECT_EQ(normal->good_size(1_KiB, 16_B), 1_KiB);
}

TEST(PoolRefusal, SizesBeyondAllRegionsAreRefusedNotCut) {
  for (const Mode mode : {Mode::normal, Mode::checked}) {
    const auto pool = make_pool(Memory::pages, mode);
    pool->acquire(4_KiB, {.alignment = 64_KiB}).value().reset();  // one that lies in the cache
    for (const std::uint64_t bytes : {(1ULL << 44) + 4096, 1ULL << 50, (1ULL << 63) - 1}) {
      const auto refused = pool->acquire(Bytes{bytes}, {.alignment = 64_KiB});
      ASSERT_FALSE(refused.ok()) << bytes;
      EXPECT_EQ(refused.status().code(), Code::memory_refused);
    }
  }
}

}  // namespace
}  // namespace forebay
