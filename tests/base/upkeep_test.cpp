#include "base/upkeep.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <future>
#include <utility>

namespace forebay::detail {
namespace {

class Looked final : public Upkeep::Charge {
 public:
  explicit Looked(std::function<Upkeep::TimePoint()> looking) : looking_(std::move(looking)) {}
  Upkeep::TimePoint look() noexcept override { return looking_(); }

 private:
  std::function<Upkeep::TimePoint()> looking_;
};

constexpr char kThread[] = "upkeep-test";
Upkeep& upkeep = the_upkeep<kThread>();  // its thread may be there for a little after a test

Upkeep::TimePoint now() { return std::chrono::steady_clock::now(); }

TEST(Upkeep, LooksAgainAndAgainUntilItIsRemoved) {
  std::atomic<int> looks{0};
  std::promise<void> enough;
  Looked charge{[&] {
    if (++looks == 3) enough.set_value();
    return now();
  }};
  upkeep.add(charge, now());
  enough.get_future().wait();
  upkeep.remove(charge);
  const int at_the_end = looks;
  // Another one's look comes after any that would still be on its way.
  std::promise<void> other_looked;
  Looked other{[&] {
    other_looked.set_value();
    return Upkeep::kNever;
  }};
  upkeep.add(other, now());
  other_looked.get_future().wait();
  upkeep.remove(other);
  EXPECT_EQ(looks, at_the_end);
}

TEST(Upkeep, WakesWhatIsNeverDue) {
  std::promise<void> looked;
  Looked charge{[&] {
    looked.set_value();
    return Upkeep::kNever;
  }};
  upkeep.add(charge, Upkeep::kNever);
  upkeep.wake(charge, now());
  looked.get_future().wait();
  upkeep.remove(charge);
}

TEST(Upkeep, LooksOnceMoreAtWhatIsWokenMeanwhile) {
  int looks = 0;
  std::promise<void> twice;
  Looked* self = nullptr;
  Looked charge{[&] {
    if (++looks == 1) upkeep.wake(*self, now());
    if (looks == 2) twice.set_value();
    return Upkeep::kNever;
  }};
  self = &charge;
  upkeep.add(charge, now());
  twice.get_future().wait();
  upkeep.remove(charge);
  EXPECT_EQ(looks, 2);
}

TEST(Upkeep, TakesWhatIsDueFirst) {
  std::promise<void> looked;
  bool early = false;
  Looked late{[&] {
    early = true;
    return Upkeep::kNever;
  }};
  Looked soon{[&] {
    looked.set_value();
    return Upkeep::kNever;
  }};
  upkeep.add(late, now() + std::chrono::hours{1});
  upkeep.add(soon, now());
  looked.get_future().wait();
  upkeep.remove(soon);
  upkeep.remove(late);
  EXPECT_FALSE(early);
}

}  // namespace
}  // namespace forebay::detail
