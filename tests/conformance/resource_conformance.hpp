// What every MemoryResource must do, as one typed suite.
//
// To enrol a resource, add a file here that describes how to make it and how to make what
// it stands on refuse, and name the file in CMakeLists.txt:
//
//   struct MeteredSubject {
//     std::shared_ptr<SimulatedDevice> device = SimulatedDevice::create();
//     Budget budget{"process"};
//     std::shared_ptr<MemoryResource> resource = budget.meter(device);
//     void fail_after(std::uint64_t n) { device->fail_after(n); }  // allocates from below
//     void never_fail() { device->never_fail(); }
//     Bytes leaked() const { return device->stats().live; }  // asked once resource is gone
//   };
//   INSTANTIATE_TYPED_TEST_SUITE_P(Metered, ResourceConformance, MeteredSubject);
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "conformance/fork.hpp"
#include "forebay/device.hpp"

namespace forebay::conformance {

using namespace literals;

struct LiveBlock {
  void* data = nullptr;
  Bytes bytes;
  Bytes alignment;
  Stream stream;
  unsigned char pattern = 0;
};

// The naive model: every live block, filled with a pattern of its own where the CPU can
// reach it. Checks alignment and overlap at each allocate, the pattern at each deallocate.
class Model {
 public:
  explicit Model(MemoryResource& resource) : resource_(resource) {}

  // Whether it succeeded. A refusal must leave every live block as it was.
  bool allocate(Bytes bytes, Bytes alignment, Stream stream = {}) {
    const auto block = resource_.allocate(bytes, alignment, stream);
    if (!block) {
      EXPECT_EQ(block.status().code(), Code::memory_refused) << block.status().message();
      check();
      return false;
    }
    add({*block, bytes, alignment, stream, ++patterns_});
    return true;
  }

  // Gives back the block at this place in address order.
  void deallocate(std::size_t index) {
    const auto entry = std::next(live_.begin(), static_cast<std::ptrdiff_t>(index));
    give_back(resource_, take_out(entry));
  }
  void deallocate_all() {
    while (!live_.empty()) deallocate(live_.size() - 1);
  }
  std::size_t size() const { return live_.size(); }

  // The block at this place in address order is used on `stream` from now on.
  void give_to(std::size_t index, Stream stream) {
    LiveBlock& block = std::next(live_.begin(), static_cast<std::ptrdiff_t>(index))->second;
    resource_.stream_wait(stream, block.stream);
    block.stream = stream;
  }
  // Looks at every live block, or writes another pattern to it.
  void check() const {
    for (const auto& [start, live] : live_) expect_pattern(resource_, live);
  }
  void overwrite() {
    for (auto& [start, live] : live_) {
      live.pattern = ++patterns_;
      fill(live);
    }
  }

  // Takes a block out of the model, still live, for somebody else to give back.
  LiveBlock release_any() { return take_out(live_.begin()); }
  static void give_back(MemoryResource& resource, const LiveBlock& block) {
    expect_pattern(resource, block);
    resource.deallocate(block.data, block.bytes, block.alignment, block.stream);
  }

 private:
  using Blocks = std::map<std::uintptr_t, LiveBlock>;

  LiveBlock take_out(Blocks::iterator entry) {
    const LiveBlock block = entry->second;
    live_.erase(entry);
    return block;
  }

  void add(const LiveBlock& block) {
    const auto start = reinterpret_cast<std::uintptr_t>(block.data);
    ASSERT_NE(start, 0U);
    ASSERT_EQ(start % block.alignment.count(), 0U) << to_string(block.alignment);
    const auto next = live_.lower_bound(start);
    ASSERT_TRUE(next == live_.end() || start + block.bytes.count() <= next->first) << "overlap";
    if (next != live_.begin()) {
      const auto& [before, earlier] = *std::prev(next);
      ASSERT_LE(before + earlier.bytes.count(), start) << "overlap";
    }
    fill(block);
    live_.emplace(start, block);
  }

  void fill(const LiveBlock& block) {
    if (resource_.host_accessible()) std::memset(block.data, block.pattern, block.bytes.count());
  }

  // Both ends whole, what lies between in steps that meet every cache line.
  static void expect_pattern(const MemoryResource& resource, const LiveBlock& block) {
    if (!resource.host_accessible()) return;
    const auto* const data = static_cast<const unsigned char*>(block.data);
    const std::size_t size = block.bytes.count();
    const std::size_t ends = std::min<std::size_t>(size, 128);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < ends; ++i) {
      wrong += data[i] != block.pattern ? 1U : 0U;
      wrong += data[size - 1 - i] != block.pattern ? 1U : 0U;
    }
    for (std::size_t i = ends; i < size; i += 61) wrong += data[i] != block.pattern ? 1U : 0U;
    EXPECT_EQ(wrong, 0U) << "bytes of a live block of " << size << " changed";
  }

  MemoryResource& resource_;
  Blocks live_;
  unsigned char patterns_ = 0;
};

// Sizes even in their logarithm, so that small and large ones are as common.
inline Bytes random_size(std::mt19937& random) {
  const auto bits = random() % 22;
  return Bytes{1 + random() % (2ULL << bits)};
}
inline Bytes random_alignment(std::mt19937& random) {
  return Bytes{1ULL << (random() % 8 == 0 ? random() % 22 : random() % 8)};
}

inline void allocate_or_deallocate(Model& model, std::mt19937& random, std::size_t most) {
  if (model.size() == most || (model.size() > 0 && random() % 5 < 2)) {
    model.deallocate(random() % model.size());
  } else {
    EXPECT_TRUE(
        model.allocate(random_size(random), random_alignment(random), Stream{random() % 3}));
  }
}

template <typename Subject>
class ResourceConformance : public ::testing::Test {
 protected:
  // Lets the resource go and looks at what it left behind.
  static void expect_no_leak(Subject& subject) {
    subject.resource.reset();
    EXPECT_EQ(subject.leaked(), 0_B);
  }
  void TearDown() override {
    subject_.never_fail();
    expect_no_leak(subject_);
  }
  MemoryResource& resource() { return *subject_.resource; }

  Subject subject_;
};
TYPED_TEST_SUITE_P(ResourceConformance);

TYPED_TEST_P(ResourceConformance, HasAName) { EXPECT_FALSE(this->resource().name().empty()); }

TYPED_TEST_P(ResourceConformance, GivesNullForZeroBytesAndIgnoresNull) {
  for (const Bytes alignment : {1_B, 16_B, kMaxAlignment}) {
    const auto block = this->resource().allocate(0_B, alignment);
    ASSERT_TRUE(block.ok()) << block.status().message();
    EXPECT_EQ(*block, nullptr);
    this->resource().deallocate(nullptr, 0_B, alignment);
    this->resource().deallocate(nullptr, 64_B, alignment);
  }
}

TYPED_TEST_P(ResourceConformance, RefusesWhatIsNoAlignment) {
  for (const Bytes alignment : {0_B, 3_B, 48_B, 4_MiB, Bytes::unlimited()}) {
    const auto block = this->resource().allocate(64_B, alignment);
    EXPECT_EQ(block.status().code(), Code::invalid_argument) << alignment.count();
  }
}

TYPED_TEST_P(ResourceConformance, RefusesSizesThatWouldOverflow) {
  const std::uint64_t last = Bytes::unlimited().count();
  for (const std::uint64_t bytes :
       {last, last - 1, last - 4095, last - (1UL << 21), last / 2 + 1, last / 2, last / 4}) {
    for (const Bytes alignment : {1_B, 4_KiB, kMaxAlignment}) {
      const auto block = this->resource().allocate(Bytes{bytes}, alignment);
      EXPECT_EQ(block.status().code(), Code::memory_refused) << bytes;
    }
  }
}

TYPED_TEST_P(ResourceConformance, TakesAtLeastWhatIsAskedAndSaturates) {
  std::mt19937 random{1};
  const MemoryResource& resource = this->resource();
  EXPECT_EQ(resource.good_size(0_B, 16_B), 0_B);
  EXPECT_TRUE(resource.good_size(Bytes::unlimited(), kMaxAlignment).is_unlimited());
  for (int i = 0; i < 1000; ++i) {
    const Bytes bytes = random_size(random);
    const Bytes alignment = random_alignment(random);
    ASSERT_GE(resource.good_size(bytes, alignment), bytes);
    ASSERT_EQ(resource.good_size(bytes, alignment), resource.good_size(bytes, alignment));
  }
}

TYPED_TEST_P(ResourceConformance, AlignsSmallAndLargeBlocksUpToAHugePage) {
  Model model{this->resource()};
  for (Bytes alignment = 1_B; alignment <= kMaxAlignment; alignment = alignment * 2) {
    for (const Bytes bytes : {1_B, 100_B, 4_KiB, 1_MiB, 1_MiB + 1_B}) {
      ASSERT_TRUE(model.allocate(bytes, alignment));
    }
  }
  model.deallocate_all();
}

// An alignment is not a size: small blocks may lie far apart, and the rest is not lost.
TYPED_TEST_P(ResourceConformance, AlignsBlocksSmallerThanTheirAlignment) {
  Model model{this->resource()};
  std::mt19937 random{9};
  for (int round = 0; round < 3; ++round) {
    for (const Bytes alignment : {64_KiB, 1_MiB, kMaxAlignment}) {
      for (const Bytes bytes : {1_B, 64_B, alignment / 2, alignment / 2 + 1_B, alignment - 1_B}) {
        ASSERT_TRUE(model.allocate(bytes, alignment));
      }
      model.deallocate(random() % model.size());
      model.deallocate(random() % model.size());
    }
  }
  model.deallocate_all();
}

TYPED_TEST_P(ResourceConformance, KeepsBlocksApartUnderRandomUse) {
  for (const unsigned seed : {1U, 2U, 3U}) {
    std::mt19937 random{seed};
    Model model{this->resource()};
    for (int step = 0; step < 800 && !this->HasFailure(); ++step) {
      allocate_or_deallocate(model, random, 60);
    }
    model.deallocate_all();
  }
}

TYPED_TEST_P(ResourceConformance, KeepsBlocksApartUnderThreadsThatFreeForEachOther) {
  std::mutex mutex;
  std::vector<LiveBlock> dropped;
  const auto exchange = [&](const LiveBlock& mine) {
    const std::lock_guard lock{mutex};
    dropped.push_back(mine);
    std::swap(dropped.front(), dropped.back());
    const LiveBlock other = dropped.back();
    dropped.pop_back();
    return other;
  };
  MemoryResource& resource = this->resource();
  const auto work = [&](unsigned seed) {
    std::mt19937 random{seed};
    Model model{resource};
    for (int step = 0; step < 400; ++step) {
      allocate_or_deallocate(model, random, 20);
      if (model.size() > 10) Model::give_back(resource, exchange(model.release_any()));
    }
    model.deallocate_all();
  };
  dropped.push_back({resource.allocate(64_B).value(), 64_B, 16_B, {}, 0});
  if (resource.host_accessible()) std::memset(dropped.front().data, 0, 64);
  std::vector<std::thread> threads;
  for (unsigned seed = 10; seed < 14; ++seed) threads.emplace_back(work, seed);
  for (std::thread& thread : threads) thread.join();
  for (const LiveBlock& block : dropped) Model::give_back(resource, block);
}

// Each thread has streams of its own and one that all of them use, and gives blocks from one
// to another, as a copy stream and a compute stream do.
TYPED_TEST_P(ResourceConformance, KeepsBlocksApartOnSeveralStreamsOfSeveralThreads) {
  MemoryResource& resource = this->resource();
  const auto work = [&](unsigned thread) {
    std::mt19937 random{thread};
    Model model{resource};
    const auto any_stream = [&] {
      const std::uint64_t which = random() % 3;
      return Stream{which == 0 ? 1U : 10 * thread + which};
    };
    for (int step = 0; step < 400; ++step) {
      if (model.size() == 20 || (model.size() > 0 && random() % 5 < 2)) {
        const std::size_t index = random() % model.size();
        if (random() % 2 == 0) model.give_to(index, any_stream());
        model.deallocate(index);
      } else {
        EXPECT_TRUE(model.allocate(random_size(random), 16_B, any_stream()));
      }
    }
    model.deallocate_all();
  };
  std::vector<std::thread> threads;
  for (unsigned thread = 1; thread <= 3; ++thread) threads.emplace_back(work, thread);
  for (std::thread& thread : threads) thread.join();
}

// Workers of a data loader fork from a process that holds memory: they may use what they
// inherit and allocate more, and the parent notices nothing.
TYPED_TEST_P(ResourceConformance, ServesAChildProcessAndKeepsTheParentsBlocks) {
  std::mt19937 random{11};
  Model model{this->resource()};
  for (int i = 0; i < 12; ++i) ASSERT_TRUE(model.allocate(random_size(random), 64_B));
  in_child([&] {
    model.check();
    model.overwrite();
    for (int step = 0; step < 200; ++step) allocate_or_deallocate(model, random, 30);
    model.deallocate_all();
  });
  model.check();
  for (int step = 0; step < 200; ++step) allocate_or_deallocate(model, random, 30);
  model.deallocate_all();
}

// Runs a fixed mix of operations and returns how many were refused; after the first
// refusal nothing fails any more and everything must work again.
template <typename Subject>
int run_until_refused(Subject& subject) {
  std::mt19937 random{5};
  Model model{*subject.resource};
  int refused = 0;
  for (int step = 0; step < 24; ++step) {
    const Bytes bytes = 1_MiB + Bytes{random() % 1'000'000};
    const bool succeeded = model.allocate(bytes, random_alignment(random));
    if (!succeeded) {
      EXPECT_EQ(++refused, 1) << "refused although nothing fails";
      subject.never_fail();
      EXPECT_TRUE(model.allocate(bytes, 16_B));
    }
    if (step % 3 == 2) model.deallocate(random() % model.size());
  }
  model.deallocate_all();
  return refused;
}

TYPED_TEST_P(ResourceConformance, SurvivesRefusalsFromBelowAtEveryStep) {
  for (std::uint64_t n = 0; n < 1000 && !this->HasFailure(); ++n) {
    TypeParam subject;
    subject.fail_after(n);
    const int refused = run_until_refused(subject);
    subject.never_fail();
    this->expect_no_leak(subject);
    if (refused == 0) {
      EXPECT_GT(n, 4U) << "the walk met nothing to fail";
      return;
    }
  }
  ADD_FAILURE() << "never got through";
}

REGISTER_TYPED_TEST_SUITE_P(ResourceConformance, HasAName, GivesNullForZeroBytesAndIgnoresNull,
                            RefusesWhatIsNoAlignment, RefusesSizesThatWouldOverflow,
                            TakesAtLeastWhatIsAskedAndSaturates,
                            AlignsSmallAndLargeBlocksUpToAHugePage,
                            AlignsBlocksSmallerThanTheirAlignment, KeepsBlocksApartUnderRandomUse,
                            KeepsBlocksApartUnderThreadsThatFreeForEachOther,
                            KeepsBlocksApartOnSeveralStreamsOfSeveralThreads,
                            ServesAChildProcessAndKeepsTheParentsBlocks,
                            SurvivesRefusalsFromBelowAtEveryStep);

}  // namespace forebay::conformance
