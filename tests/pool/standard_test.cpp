// std::pmr and STL containers over memory resources.
#include "forebay/standard.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <numeric>
#include <string>
#include <thread>
#include <type_traits>
#include <unordered_map>
#include <vector>

#include "forebay/budget.hpp"
#include "forebay/pool.hpp"
#include "support/failing_new.hpp"
#include "support/watched_resource.hpp"

namespace forebay {
namespace {

using namespace literals;
using testing::WatchedResource;

struct alignas(256) Wide {
  int value = 0;
};

template <typename T>
using Vector = std::vector<T, Allocator<T>>;

using Traits = std::allocator_traits<Allocator<int>>;
static_assert(!Traits::propagate_on_container_copy_assignment::value);
static_assert(Traits::propagate_on_container_move_assignment::value);
static_assert(Traits::propagate_on_container_swap::value);
static_assert(!Traits::is_always_equal::value);
static_assert(std::is_same_v<Traits::rebind_alloc<double>, Allocator<double>>);
static_assert(std::is_nothrow_copy_constructible_v<Allocator<int>>);
static_assert(std::is_nothrow_move_constructible_v<Allocator<int>>);
static_assert(std::is_nothrow_constructible_v<Allocator<double>, const Allocator<int>&>);
static_assert(!std::is_default_constructible_v<Allocator<int>>);
static_assert(std::is_nothrow_move_assignable_v<Vector<int>>);

bool is_aligned(const void* address, std::size_t alignment) {
  return reinterpret_cast<std::uintptr_t>(address) % alignment == 0;
}

class PmrResourceTest : public ::testing::Test {
 protected:
  const std::shared_ptr<WatchedResource> upstream_ = std::make_shared<WatchedResource>();
};
using AllocatorTest = PmrResourceTest;

TEST_F(PmrResourceTest, ServesVectorsMapsAndStrings) {
  PmrResource resource{upstream_};
  {
    std::pmr::vector<int> numbers{&resource};
    for (int i = 0; i < 1000; ++i) numbers.push_back(i);
    std::pmr::map<int, std::pmr::string> names{&resource};
    for (int i = 0; i < 100; ++i) {
      names.emplace(i, "a name that is too long for the string itself to hold it");
    }
    EXPECT_EQ(std::accumulate(numbers.begin(), numbers.end(), 0), 499500);
    EXPECT_EQ(names.at(42).get_allocator().resource(), &resource);
    EXPECT_GE(upstream_->live_blocks(), 201U);
  }
  EXPECT_EQ(upstream_->live_blocks(), 0U);
}

TEST_F(PmrResourceTest, ServesAPmrPoolOnTop) {
  PmrResource resource{upstream_};
  {
    std::pmr::unsynchronized_pool_resource pool{&resource};
    std::pmr::list<int> numbers{&pool};
    for (int i = 0; i < 1000; ++i) numbers.push_front(i);
    EXPECT_LT(upstream_->live_blocks(), 100U);
  }
  EXPECT_EQ(upstream_->live_blocks(), 0U);
}

TEST_F(PmrResourceTest, EqualsOneOverTheSameResource) {
  const PmrResource resource{upstream_};
  const PmrResource same{upstream_};
  const PmrResource other{Device::host()};
  EXPECT_EQ(resource, same);
  EXPECT_NE(resource, other);
  EXPECT_NE(resource, *std::pmr::new_delete_resource());
  EXPECT_EQ(resource.resource(), upstream_);
}

TEST_F(PmrResourceTest, GivesAnAddressForZeroBytes) {
  PmrResource resource{upstream_};
  void* const first = resource.allocate(0);
  void* const second = resource.allocate(0);
  EXPECT_NE(first, nullptr);
  EXPECT_NE(first, second);
  resource.deallocate(first, 0);
  resource.deallocate(second, 0);
  EXPECT_EQ(upstream_->live_blocks(), 0U);
}

TEST_F(PmrResourceTest, KeepsAlignmentsAboveTheDefault) {
  PmrResource resource{upstream_};
  void* const page = resource.allocate(100, 4096);
  EXPECT_TRUE(is_aligned(page, 4096));
  resource.deallocate(page, 100, 4096);
  std::pmr::vector<Wide> wide{&resource};
  for (int i = 0; i < 20; ++i) {
    wide.push_back({i});
    EXPECT_TRUE(is_aligned(wide.data(), 256));
  }
  EXPECT_THROW(static_cast<void>(resource.allocate(100, 4 << 20)), Failure);
}

TEST_F(PmrResourceTest, ThrowsARefusalAsABadAllocAndTheContainerIsUnchanged) {
  Budget budget{"tokens", {.limit = 64_KiB}};
  PmrResource resource{budget.meter(upstream_)};
  std::pmr::vector<std::byte> bytes{&resource};
  bytes.resize(1000, std::byte{7});
  try {
    bytes.resize(100000);
    FAIL() << "the line did not hold";
  } catch (const std::bad_alloc& refused) {
    EXPECT_NE(std::string{refused.what()}.find("tokens"), std::string::npos);
  }
  EXPECT_EQ(bytes.size(), 1000U);
  EXPECT_EQ(bytes[999], std::byte{7});
  EXPECT_LE(budget.stats().used, 64_KiB);
}

TEST_F(PmrResourceTest, RefusesSizesThatNoBlockHas) {
  PmrResource resource{upstream_};
  volatile std::size_t all = ~std::size_t{0};  // the compiler would warn of it
  EXPECT_THROW(static_cast<void>(resource.allocate(all)), std::bad_alloc);
  EXPECT_EQ(upstream_->allocations(), 0U);
}

TEST_F(PmrResourceTest, LosesNothingWhicheverRequestFails) {
  PmrResource resource{upstream_};
  for (std::uint64_t n = 0;; ++n) {
    upstream_->failing.fail_after(n);
    bool failed = false;
    try {
      std::pmr::map<int, std::pmr::vector<int>> map{&resource};
      for (int i = 0; i < 8; ++i) map[i].assign(100, i);
    } catch (const std::bad_alloc&) {
      failed = true;
    }
    upstream_->failing.never_fail();
    EXPECT_EQ(upstream_->live_blocks(), 0U) << n;
    if (!failed) {
      EXPECT_EQ(n, 16U);
      break;
    }
  }
}

TEST_F(PmrResourceTest, RefusesMemoryThatTheCpuDoesNotReach) {
  const auto gpu = SimulatedDevice::create({.name = "gpu0"});
  try {
    const PmrResource resource{gpu};
    FAIL() << "it was made";
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.status().code(), Code::unsupported);
    EXPECT_EQ(failure.status().message(),
              "gpu0: the CPU does not reach its memory, so containers of the host cannot be there");
  }
  EXPECT_THROW(Allocator<int>{gpu}, Failure);
}

TEST_F(PmrResourceTest, KeepsItsResourceAlive) {
  auto upstream = std::make_shared<WatchedResource>();
  const std::weak_ptr<WatchedResource> watch = upstream;
  {
    const PmrResource resource{std::move(upstream)};
    EXPECT_FALSE(watch.expired());
  }
  EXPECT_TRUE(watch.expired());
}

template <typename Work>
void run_threads(Work work) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back(work, i);
  for (std::thread& thread : threads) thread.join();
}

TEST_F(PmrResourceTest, ServesThreadsAtOnce) {
  const auto pool = Pool::create(upstream_);
  PmrResource resource{pool};
  run_threads([&](int seed) {
    for (int round = 0; round < 50; ++round) {
      std::pmr::vector<int> numbers{&resource};
      for (int i = 0; i < 200; ++i) numbers.push_back(seed);
      ASSERT_EQ(std::accumulate(numbers.begin(), numbers.end(), 0), 200 * seed);
    }
  });
  EXPECT_EQ(pool->stats().live_blocks, 0U);
}

TEST_F(AllocatorTest, ServesEveryKindOfContainer) {
  const Allocator<int> allocator{upstream_};
  {
    Vector<int> vector(10, 1, allocator);
    std::list<int, Allocator<int>> list(10, 2, allocator);
    std::deque<int, Allocator<int>> deque(10, 3, allocator);
    using Pair = std::pair<const int, int>;
    std::map<int, int, std::less<>, Allocator<Pair>> map{allocator};
    std::unordered_map<int, int, std::hash<int>, std::equal_to<>, Allocator<Pair>> table{
        8, std::hash<int>{}, std::equal_to<>{}, allocator};
    for (int i = 0; i < 100; ++i) {
      vector.push_back(i);
      list.push_back(i);
      deque.push_back(i);
      map[i] = i;
      table[i] = i;
    }
    const auto shared = std::allocate_shared<int>(allocator, 5);
    std::basic_string<char, std::char_traits<char>, Allocator<char>> text(100, 'x', allocator);
    EXPECT_EQ(table.at(42) + map.at(42) + *shared, 89);
    EXPECT_GE(upstream_->live_blocks(), 300U);
  }
  EXPECT_EQ(upstream_->live_blocks(), 0U);
}

TEST_F(AllocatorTest, EqualsOneOverTheSameResourceOfWhateverType) {
  const Allocator<int> allocator{upstream_};
  EXPECT_EQ(allocator, Allocator<int>{upstream_});
  EXPECT_EQ(allocator, Allocator<double>{allocator});
  EXPECT_NE(allocator, Allocator<int>{Device::host()});
}

TEST_F(AllocatorTest, IsTheSameAfterItWasMovedFrom) {
  Allocator<int> allocator{upstream_};
  const Allocator<int> moved{std::move(allocator)};
  EXPECT_EQ(allocator, moved);  // NOLINT(bugprone-use-after-move): the standard asks for this
  EXPECT_EQ(allocator.resource(), upstream_);
  Vector<int> vector(3, 1, allocator);
  const Vector<int> other = std::move(vector);
  vector.push_back(1);  // NOLINT(bugprone-use-after-move): a moved-from vector may be used again
  EXPECT_EQ(other.size(), 3U);
}

TEST_F(AllocatorTest, MovesMemoryAlongWithItsContainer) {
  const auto other_upstream = std::make_shared<WatchedResource>();
  Vector<int> from(1000, 7, Allocator<int>{upstream_});
  Vector<int> to(10, 1, Allocator<int>{other_upstream});
  const int* const data = from.data();
  to = std::move(from);
  EXPECT_EQ(to.data(), data) << "moved, not copied";
  EXPECT_EQ(to.get_allocator().resource(), upstream_);
  EXPECT_EQ(other_upstream->live_blocks(), 0U);
}

TEST_F(AllocatorTest, SwapsMemoryAlongWithContainers) {
  const auto other_upstream = std::make_shared<WatchedResource>();
  Vector<int> one(1000, 1, Allocator<int>{upstream_});
  Vector<int> two(10, 2, Allocator<int>{other_upstream});
  std::swap(one, two);
  EXPECT_EQ(one.get_allocator().resource(), other_upstream);
  EXPECT_EQ(two.get_allocator().resource(), upstream_);
  EXPECT_EQ(one.size(), 10U);
}

TEST_F(AllocatorTest, ChargesACopyOfContentToItsTarget) {
  const auto other_upstream = std::make_shared<WatchedResource>();
  const Vector<int> from(1000, 7, Allocator<int>{upstream_});
  Vector<int> to{Allocator<int>{other_upstream}};
  to = from;
  EXPECT_EQ(to.get_allocator().resource(), other_upstream);
  EXPECT_GE(other_upstream->live(), 4000_B);
  const Vector<int> copy{from};
  EXPECT_EQ(copy.get_allocator().resource(), upstream_);
}

TEST_F(AllocatorTest, KeepsTheAlignmentOfItsType) {
  Vector<Wide> wide{Allocator<Wide>{upstream_}};
  for (int i = 0; i < 20; ++i) {
    wide.push_back({i});
    EXPECT_TRUE(is_aligned(wide.data(), 256));
  }
  std::list<Wide, Allocator<Wide>> list{Allocator<Wide>{upstream_}};
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(is_aligned(&list.emplace_back(), 256));
}

TEST_F(AllocatorTest, ThrowsARefusalAsABadAllocAndTheContainerIsUnchanged) {
  Budget budget{"scores", {.limit = 64_KiB}};
  const auto metered = budget.meter(upstream_);
  Vector<int> scores(1000, 3, Allocator<int>{metered});
  const Vector<int> before = scores;
  EXPECT_THROW(scores.resize(1 << 20), MemoryRefused);
  EXPECT_THROW(scores.reserve(1 << 20), std::bad_alloc);
  EXPECT_EQ(scores, before);
  const Bytes used = budget.stats().used;
  std::list<int, Allocator<int>> list{Allocator<int>{metered}};
  EXPECT_THROW(
      {
        while (true) list.push_back(1);
      },
      std::bad_alloc);
  EXPECT_GT(list.size(), 100U);
  list.clear();
  EXPECT_EQ(budget.stats().used, used);
}

TEST_F(AllocatorTest, RefusesCountsThatOverflow) {
  Allocator<double> allocator{upstream_};
  EXPECT_THROW(static_cast<void>(allocator.allocate(~std::size_t{0} / 4)),
               std::bad_array_new_length);
  EXPECT_THROW(static_cast<void>(allocator.allocate(~std::size_t{0} / 8)), MemoryRefused);
}

TEST_F(AllocatorTest, LosesNothingWhicheverRequestFails) {
  const Allocator<int> allocator{upstream_};
  for (std::uint64_t n = 0;; ++n) {
    upstream_->failing.fail_after(n);
    bool failed = false;
    try {
      std::list<int, Allocator<int>> list{allocator};
      for (int i = 0; i < 20; ++i) list.push_back(i);
      Vector<int> vector(list.begin(), list.end(), allocator);
    } catch (const std::bad_alloc&) {
      failed = true;
    }
    upstream_->failing.never_fail();
    EXPECT_EQ(upstream_->live_blocks(), 0U) << n;
    if (!failed) {
      EXPECT_EQ(n, 21U);
      break;
    }
  }
}

TEST_F(AllocatorTest, KeepsItsPoolAliveWhileAContainerHasIt) {
  auto pool = Pool::create(upstream_);
  const std::weak_ptr<Pool> watch = pool;
  {
    Vector<int> vector(100, 1, Allocator<int>{std::move(pool)});
    EXPECT_FALSE(watch.expired());
  }
  EXPECT_TRUE(watch.expired());
  EXPECT_EQ(upstream_->live_blocks(), 0U);
}

TEST_F(AllocatorTest, ServesThreadsAtOnce) {
  const auto pool = Pool::create(upstream_);
  const Allocator<int> allocator{pool};
  run_threads([&](int seed) {
    for (int round = 0; round < 50; ++round) {
      std::list<int, Allocator<int>> list(100, seed, allocator);
      ASSERT_EQ(std::accumulate(list.begin(), list.end(), 0), 100 * seed);
    }
  });
  EXPECT_EQ(pool->stats().live_blocks, 0U);
}

}  // namespace
}  // namespace forebay
