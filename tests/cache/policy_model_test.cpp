// Policies against naive ones, request by request.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <functional>

#include "naive_cache.hpp"
#include "naive_ghosts.hpp"
#include "naive_lirs.hpp"

namespace forebay::testing {
namespace {

using detail::CacheRequest;
using detail::EntryId;
using detail::Objective;
using detail::PolicyKind;
using detail::SimulatedCache;

struct Step {
  enum class What { request, erase, resize } what = What::request;
  CacheRequest request;
  std::uint64_t capacity = 1;
};

std::ostream& operator<<(std::ostream& out, const Step& step) {
  switch (step.what) {
    case Step::What::request:
      return out << "request " << step.request.key << " of " << step.request.bytes << " cost "
                 << step.request.cost << " utility " << step.request.utility;
    case Step::What::erase:
      return out << "erase " << step.request.key;
    case Step::What::resize:
      return out << "resize to " << step.capacity;
  }
  return out;
}

// Sizes of an entry: all alike; small; over six orders of magnitude.
rc::Gen<std::uint64_t> sizes(int mode) {
  if (mode == 0) return rc::gen::just<std::uint64_t>(1);
  if (mode == 1) return rc::gen::inRange<std::uint64_t>(0, 9);
  return rc::gen::map(rc::gen::pair(rc::gen::inRange(0, 20), rc::gen::inRange<std::uint64_t>(0, 9)),
                      [](const auto& drawn) {
                        return (std::uint64_t{1} << static_cast<unsigned>(drawn.first)) +
                               drawn.second;
                      });
}

std::uint64_t most(int mode) { return mode == 0 ? 12 : mode == 1 ? 60 : 3'000'000; }

rc::Gen<Step> steps(int mode) {
  const auto request = rc::gen::build<CacheRequest>(
      rc::gen::set(&CacheRequest::key, rc::gen::inRange<std::uint64_t>(0, 24)),
      rc::gen::set(&CacheRequest::bytes, sizes(mode)),
      rc::gen::set(
          &CacheRequest::cost,
          rc::gen::map(rc::gen::inRange(0, 50), [](int cost) { return static_cast<float>(cost); })),
      rc::gen::set(&CacheRequest::utility, rc::gen::map(rc::gen::inRange(-2, 3), [](int score) {
        return static_cast<float>(score);
      })));
  return rc::gen::build<Step>(
      rc::gen::set(&Step::what, rc::gen::weightedElement<Step::What>({{40, Step::What::request},
                                                                      {3, Step::What::erase},
                                                                      {1, Step::What::resize}})),
      rc::gen::set(&Step::request, request),
      rc::gen::set(&Step::capacity, rc::gen::inRange<std::uint64_t>(1, most(mode))));
}

std::vector<std::uint64_t> keys_in_order(const SimulatedCache& cache) {
  std::vector<EntryId> entries;
  cache.policy().order(entries);
  std::vector<std::uint64_t> keys;
  keys.reserve(entries.size());
  for (const EntryId id : entries) keys.push_back(cache.key_of(id));
  return keys;
}

using MakeNaive = std::function<std::unique_ptr<NaiveCache>(std::uint64_t capacity)>;

// Whether order() is to be what goes when nothing more is asked for: it is no more than a guess for
// a policy that decides when somebody has to go.
enum class Order { exact, guessed };

void check_against(PolicyKind kind, Objective objective, const MakeNaive& make_naive,
                   Order order = Order::exact) {
  const int mode = *rc::gen::inRange(0, 3);
  const std::uint64_t capacity = *rc::gen::inRange<std::uint64_t>(1, most(mode));
  const auto naive = make_naive(capacity);
  SimulatedCache cache(kind, {.capacity = capacity, .objective = objective});
  for (const Step& step :
       *rc::gen::scale(4.0, rc::gen::container<std::vector<Step>>(steps(mode)))) {
    switch (step.what) {
      case Step::What::request:
        RC_ASSERT(cache.request(step.request) == naive->request(step.request));
        break;
      case Step::What::erase:
        cache.erase(step.request.key);
        naive->erase(step.request.key);
        break;
      case Step::What::resize:
        cache.resize(step.capacity);
        naive->resize(step.capacity);
        break;
    }
    std::vector<std::uint64_t> keys = keys_in_order(cache);
    std::sort(keys.begin(), keys.end());
    RC_ASSERT(keys == naive->keys());
    RC_ASSERT(cache.used() == naive->used());
  }
  if (order == Order::exact) RC_ASSERT(keys_in_order(cache) == naive->drain());
}

template <typename Naive, typename... Arguments>
MakeNaive naive(Arguments... arguments) {
  return [=](std::uint64_t capacity) { return std::make_unique<Naive>(capacity, arguments...); };
}

using Weight = NaiveGreedyDual::Weight;

RC_GTEST_PROP(PolicyModel, LruDoesAsTheNaiveOne, ()) {
  check_against(PolicyKind::lru, Objective::objects, naive<NaiveLru>());
}
RC_GTEST_PROP(PolicyModel, FifoDoesAsTheNaiveOne, ()) {
  check_against(PolicyKind::fifo, Objective::objects, naive<NaiveFifo>());
}
RC_GTEST_PROP(PolicyModel, ClockDoesAsTheNaiveOne, ()) {
  check_against(PolicyKind::clock, Objective::objects, naive<NaiveClock>());
}
RC_GTEST_PROP(PolicyModel, SieveDoesAsTheNaiveOne, ()) {
  check_against(PolicyKind::sieve, Objective::objects, naive<NaiveSieve>());
}
RC_GTEST_PROP(PolicyModel, UtilityDoesAsTheNaiveOne, ()) {
  check_against(PolicyKind::utility, Objective::objects, naive<NaiveUtility>());
}
RC_GTEST_PROP(PolicyModel, S3FifoDoesAsTheNaiveOne, ()) {
  check_against(PolicyKind::s3fifo, Objective::objects, naive<NaiveS3Fifo>(), Order::guessed);
}
RC_GTEST_PROP(PolicyModel, TwoQDoesAsTheNaiveOne, ()) {
  check_against(PolicyKind::twoq, Objective::objects, naive<NaiveTwoQ>(), Order::guessed);
}
RC_GTEST_PROP(PolicyModel, ArcDoesAsTheNaiveOne, ()) {
  check_against(PolicyKind::arc, Objective::objects, naive<NaiveArc>(), Order::guessed);
}
RC_GTEST_PROP(PolicyModel, LirsDoesAsTheNaiveOne, ()) {
  check_against(PolicyKind::lirs, Objective::objects, naive<NaiveLirs>());
}
RC_GTEST_PROP(PolicyModel, LfuDoesAsTheNaiveOne, ()) {
  check_against(PolicyKind::lfu, Objective::cost, naive<NaiveGreedyDual>(Weight::one));
}
RC_GTEST_PROP(PolicyModel, GdsfForObjectsDoesAsTheNaiveOne, ()) {
  check_against(PolicyKind::gdsf, Objective::objects, naive<NaiveGreedyDual>(Weight::one_by_size));
}
RC_GTEST_PROP(PolicyModel, GdsfForBytesDoesAsTheNaiveOne, ()) {
  check_against(PolicyKind::gdsf, Objective::bytes, naive<NaiveGreedyDual>(Weight::one));
}
RC_GTEST_PROP(PolicyModel, GdsfForCostDoesAsTheNaiveOne, ()) {
  check_against(PolicyKind::gdsf, Objective::cost, naive<NaiveGreedyDual>(Weight::cost_by_size));
}

}  // namespace
}  // namespace forebay::testing
