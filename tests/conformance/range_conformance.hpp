// What every AddressRange must do, as one typed suite.
//
// To enrol a resource, describe how to make it, its ranges, and how to make what it stands on
// refuse:
//
//   struct SimulatedRangeSubject {
//     std::shared_ptr<SimulatedDevice> device = SimulatedDevice::create();
//     std::shared_ptr<MemoryResource> resource = device;
//     AddressRangeOptions options{};
//     void fail_after(std::uint64_t n) { device->fail_after(n); }
//     void never_fail() { device->never_fail(); }
//     // What committed pages are charged to; empty where nobody counts.
//     std::optional<Bytes> charged() const { return device->stats().live; }
//   };
//   INSTANTIATE_TYPED_TEST_SUITE_P(Simulated, RangeConformance, SimulatedRangeSubject);
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "conformance/fork.hpp"
#include "conformance/range_model.hpp"
#include "forebay/device.hpp"

namespace forebay::conformance {

using namespace literals;

// Some pages of a model.
struct Stretch {
  std::size_t page = 0;
  std::size_t count = 0;
};
inline Stretch random_stretch(std::mt19937& random, std::size_t pages, std::size_t most) {
  const std::size_t count = 1 + random() % most;
  return {random() % (pages - count + 1), count};
}

// Commits, writes, decommits or moves. Whether nothing was refused for want of memory or moves.
inline bool random_step(RangeModel& one, RangeModel& other, std::mt19937& random) {
  RangeModel& model = random() % 2 == 0 ? one : other;
  RangeModel& source = random() % 2 == 0 ? one : other;
  const auto [page, count] = random_stretch(random, model.size(), 6);
  switch (random() % 5) {
    case 0:
    case 1:
      if (!model.commit(page, count).ok()) return false;
      model.write(page, count, static_cast<unsigned char>(1 + random() % 255));
      return true;
    case 2:
      model.decommit(page, count);
      return true;
    default: {
      const std::size_t from = random() % (source.size() - count + 1);
      return model.adopt(page, source, from, count).code() != Code::unsupported;
    }
  }
}

template <typename Subject>
class RangeConformance : public ::testing::Test {
 protected:
  static constexpr std::size_t kPages = 24;

  // A range of 24 pages.
  static std::unique_ptr<AddressRange> range_of(Subject& subject) {
    auto probe = subject.resource->reserve_address(0_B, subject.options).value();
    return subject.resource->reserve_address(probe->page() * kPages, subject.options).value();
  }
  std::unique_ptr<AddressRange> range() { return range_of(subject_); }
  bool readable() const { return subject_.resource->host_accessible(); }
  void expect_charged(Bytes bytes) const { EXPECT_EQ(subject_.charged().value_or(bytes), bytes); }

  // Uses two ranges at random while what they stand on fails after n uses, once. A refusal must
  // change nothing. Returns how many there were.
  static int run_until_refused(Subject& subject, std::uint64_t n) {
    std::mt19937 random{7};
    const bool readable = subject.resource->host_accessible();
    auto first = range_of(subject);
    auto second = range_of(subject);
    RangeModel one{*first, readable};
    RangeModel two{*second, readable};
    int refused = 0;
    subject.fail_after(n);
    for (int step = 0; step < 60; ++step) {
      if (random_step(one, two, random)) continue;
      EXPECT_EQ(++refused, 1) << "refused although nothing fails";
      subject.never_fail();
      one.check();
      two.check();
    }
    const Bytes committed = one.committed() + two.committed();
    EXPECT_EQ(first->committed() + second->committed(), committed);
    EXPECT_EQ(subject.charged().value_or(committed), committed);
    return refused;
  }

  void TearDown() override {
    subject_.never_fail();
    expect_charged(0_B);
  }

  Subject subject_;
};
TYPED_TEST_SUITE_P(RangeConformance);

TYPED_TEST_P(RangeConformance, ReservesWholePagesAndChargesNothing) {
  auto range = this->range();
  const Bytes page = range->page();
  EXPECT_GE(page, this->subject_.options.page);
  EXPECT_EQ(page.count() & (page.count() - 1), 0U);
  EXPECT_EQ(range->size(), page * TestFixture::kPages);
  EXPECT_EQ(range->committed(), 0_B);
  EXPECT_EQ(range->missing(0_B, range->size()), range->size());
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(range->data()) % page.count(), 0U);
  this->expect_charged(0_B);
  range = this->subject_.resource->reserve_address(page + 1_B, this->subject_.options).value();
  EXPECT_EQ(range->size(), page * 2);
}

TYPED_TEST_P(RangeConformance, AlignsLargeRangesToAHugePage) {
  for (const Bytes bytes : {2_MiB, 6_MiB, 64_MiB + 1_B}) {
    const auto range = this->subject_.resource->reserve_address(bytes, this->subject_.options);
    ASSERT_TRUE(range.ok()) << range.status().message();
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>((*range)->data()) % kMaxAlignment.count(), 0U);
  }
}

TYPED_TEST_P(RangeConformance, OfNoBytesIsEmpty) {
  const auto range = this->subject_.resource->reserve_address(0_B, this->subject_.options).value();
  EXPECT_EQ(range->size(), 0_B);
  EXPECT_TRUE(range->commit(0_B, 0_B).ok());
  EXPECT_TRUE(range->adopt(0_B, *range, 0_B, 0_B).ok());
  range->decommit(0_B, 0_B);
  EXPECT_EQ(range->missing(0_B, 0_B), 0_B);
}

TYPED_TEST_P(RangeConformance, RefusesWhatIsNoPageOrFitsNoAddressSpace) {
  MemoryResource& resource = *this->subject_.resource;
  for (const Bytes page : {3_B, 4097_B, 4_MiB, Bytes::unlimited()}) {
    EXPECT_EQ(resource.reserve_address(64_MiB, {.page = page}).status().code(),
              Code::invalid_argument);
  }
  for (const Bytes bytes : {Bytes::unlimited(), Bytes{1ULL << 62}}) {
    EXPECT_EQ(resource.reserve_address(bytes, this->subject_.options).status().code(),
              Code::memory_refused);
  }
}

TYPED_TEST_P(RangeConformance, ChargesAPageOnce) {
  const auto range = this->range();
  const Bytes page = range->page();
  ASSERT_TRUE(range->commit(0_B, page * 4).ok());
  EXPECT_EQ(range->missing(page * 2, page * 4), page * 2);
  ASSERT_TRUE(range->commit(page * 2, page * 4).ok());
  ASSERT_TRUE(range->commit(page * 2, page * 4).ok());
  EXPECT_EQ(range->committed(), page * 6);
  this->expect_charged(page * 6);
  range->decommit(page * 5, page * 4);
  EXPECT_EQ(range->committed(), page * 5);
  this->expect_charged(page * 5);
  range->decommit(0_B, range->size());
  EXPECT_EQ(range->committed(), 0_B);
  this->expect_charged(0_B);
}

TYPED_TEST_P(RangeConformance, RefusesWhatAreNotItsPages) {
  const auto range = this->range();
  const Bytes page = range->page();
  ASSERT_TRUE(range->commit(0_B, page).ok());
  const std::pair<Bytes, Bytes> wrong[] = {{1_B, page},
                                           {0_B, page + 1_B},
                                           {0_B, range->size() + page},
                                           {range->size(), page},
                                           {page, Bytes::unlimited() - page + 1_B}};
  for (const auto& [offset, bytes] : wrong) {
    EXPECT_EQ(range->commit(offset, bytes).code(), Code::invalid_argument);
    EXPECT_EQ(range->adopt(offset, *range, 0_B, bytes).code(), Code::invalid_argument);
    EXPECT_EQ(range->adopt(page * 4, *range, offset, bytes).code(), Code::invalid_argument);
  }
  EXPECT_EQ(range->committed(), page);
  this->expect_charged(page);
}

TYPED_TEST_P(RangeConformance, MovesContentBetweenItsRangesAndWithinOne) {
  const auto first = this->range();
  const auto second = this->range();
  RangeModel one{*first, this->readable()};
  RangeModel two{*second, this->readable()};
  ASSERT_TRUE(one.commit(2, 8).ok());
  one.write(2, 4, 11);
  one.write(6, 4, 12);
  ASSERT_TRUE(two.adopt(10, one, 4, 4).ok());  // between two ranges
  ASSERT_TRUE(one.adopt(20, one, 2, 2).ok());  // within one
  EXPECT_EQ(first->committed(), first->page() * 4);
  EXPECT_EQ(second->committed(), first->page() * 4);
  this->expect_charged(first->page() * 8);
  one.check();
  two.check();
  ASSERT_TRUE(one.commit(0, 12).ok());  // what was left behind is empty, and usable
  one.check();
  one.write(0, 12, 13);
  ASSERT_TRUE(one.adopt(14, two, 12, 1).ok());  // pieces of what was moved, on
  ASSERT_TRUE(two.adopt(0, one, 8, 7).code() == Code::invalid_argument);
  one.check();
  two.check();
}

TYPED_TEST_P(RangeConformance, AdoptsOnlyCommittedPagesForPagesThatAreNot) {
  const auto first = this->range();
  const auto second = this->range();
  RangeModel one{*first, this->readable()};
  RangeModel two{*second, this->readable()};
  ASSERT_TRUE(one.commit(0, 4).ok());
  ASSERT_TRUE(two.commit(6, 2).ok());
  one.write(0, 4, 21);
  two.write(6, 2, 22);
  EXPECT_EQ(two.adopt(0, one, 2, 4).code(), Code::invalid_argument);  // beyond what is committed
  EXPECT_EQ(two.adopt(4, one, 0, 4).code(), Code::invalid_argument);  // over what is committed
  EXPECT_EQ(one.adopt(2, one, 0, 4).code(), Code::invalid_argument);  // over itself
  EXPECT_EQ(one.adopt(0, one, 0, 4).code(), Code::invalid_argument);
  one.check();
  two.check();
  this->expect_charged(first->page() * 6);
}

TYPED_TEST_P(RangeConformance, AdoptsNothingFromAnotherResource) {
  const auto range = this->range();
  const auto foreign =
      SimulatedDevice::create()->reserve_address(64_MiB, this->subject_.options).value();
  ASSERT_TRUE(foreign->commit(0_B, 4_MiB).ok());
  ASSERT_TRUE(range->commit(0_B, range->page()).ok());
  EXPECT_EQ(range->adopt(range->page() * 4, *foreign, 0_B, 2_MiB).code(), Code::invalid_argument);
  EXPECT_EQ(foreign->adopt(8_MiB, *range, 0_B, range->page()).code(), Code::invalid_argument);
  EXPECT_EQ(foreign->committed(), 4_MiB);
  EXPECT_EQ(range->committed(), range->page());
}

TYPED_TEST_P(RangeConformance, IsAsItsModelUnderRandomUse) {
  for (const unsigned seed : {1U, 2U, 3U, 4U}) {
    std::mt19937 random{seed};
    const auto first = this->range();
    const auto second = this->range();
    RangeModel one{*first, this->readable()};
    RangeModel two{*second, this->readable()};
    for (int step = 0; step < 300 && !this->HasFailure(); ++step) {
      EXPECT_TRUE(random_step(one, two, random));
      if (step % 10 != 0) continue;
      one.check();
      two.check();
      EXPECT_EQ(first->committed(), one.committed());
      this->expect_charged(one.committed() + two.committed());
    }
  }
}

// Each thread has a third of both ranges.
TYPED_TEST_P(RangeConformance, ServesThreadsThatUseDifferentPages) {
  const auto first = this->range();
  const auto second = this->range();
  const auto work = [&](unsigned thread) {
    std::mt19937 random{thread};
    RangeModel one{*first, this->readable(), thread * 8, 8};
    RangeModel two{*second, this->readable(), thread * 8, 8};
    for (int step = 0; step < 300; ++step) {
      EXPECT_TRUE(random_step(one, two, random));
      if (step % 50 != 0) continue;
      one.check();
      two.check();
    }
    one.decommit(0, 8);
    two.decommit(0, 8);
  };
  std::vector<std::thread> threads;
  for (unsigned thread = 0; thread < 3; ++thread) threads.emplace_back(work, thread);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(first->committed() + second->committed(), 0_B);
  this->expect_charged(0_B);
}

TYPED_TEST_P(RangeConformance, SurvivesRefusalsFromBelowAtEveryStep) {
  for (std::uint64_t n = 0; n < 1000 && !this->HasFailure(); ++n) {
    TypeParam subject;
    const int refused = TestFixture::run_until_refused(subject, n);
    subject.never_fail();
    EXPECT_EQ(subject.charged().value_or(0_B), 0_B);
    if (refused == 0) {
      EXPECT_GT(n, 4U) << "the walk met nothing to fail";
      return;
    }
  }
  EXPECT_TRUE(this->HasFailure()) << "never got through";
}

TYPED_TEST_P(RangeConformance, GivesBackWhatIsCommittedAndKeepsItsResource) {
  auto range = this->range();
  ASSERT_TRUE(range->commit(0_B, range->page() * 3).ok());
  this->expect_charged(range->page() * 3);
  range.reset();
  this->expect_charged(0_B);
  range = this->range();
  this->subject_.resource.reset();
  EXPECT_TRUE(range->commit(0_B, range->page()).ok());
  range->decommit(0_B, range->page());
}

TYPED_TEST_P(RangeConformance, IsNotTouchedByAChildProcess) {
  const auto first = this->range();
  const auto second = this->range();
  RangeModel one{*first, this->readable()};
  RangeModel two{*second, this->readable()};
  ASSERT_TRUE(one.commit(0, 6).ok());
  one.write(0, 6, 31);
  in_child([&] {
    one.check();
    one.write(0, 2, 32);
    one.decommit(2, 1);
    EXPECT_TRUE(two.commit(8, 2).ok());
    two.write(8, 2, 33);
    EXPECT_TRUE(two.adopt(0, one, 3, 3).ok());
    one.check();
    two.check();
  });
  one.check();
  two.check();
}

REGISTER_TYPED_TEST_SUITE_P(RangeConformance, ReservesWholePagesAndChargesNothing,
                            AlignsLargeRangesToAHugePage, OfNoBytesIsEmpty,
                            RefusesWhatIsNoPageOrFitsNoAddressSpace, ChargesAPageOnce,
                            RefusesWhatAreNotItsPages, MovesContentBetweenItsRangesAndWithinOne,
                            AdoptsOnlyCommittedPagesForPagesThatAreNot,
                            AdoptsNothingFromAnotherResource, IsAsItsModelUnderRandomUse,
                            ServesThreadsThatUseDifferentPages,
                            SurvivesRefusalsFromBelowAtEveryStep,
                            GivesBackWhatIsCommittedAndKeepsItsResource,
                            IsNotTouchedByAChildProcess);

}  // namespace forebay::conformance
