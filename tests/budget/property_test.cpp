// Random sequences of operations on a tree of budgets, against a model that is naive: it
// has no leases, adds everything up anew each time, and knows only the rules of budget.hpp.
// After every step each figure must be the same, and the invariants must hold.

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <memory>

#include "budget/store.hpp"

namespace forebay {
namespace {

using Size = std::uint64_t;  // the model computes in plain numbers

constexpr Size kUnit = 1024;

struct ModelNode {
  int parent = -1;
  Size limit = 0;
  Size guarantee = 0;
  Size own = 0;     // what its store holds included
  Size stored = 0;  // in its store
  Size peak = 0;
  std::uint64_t denials = 0;
  bool alive = true;
};

class Model {
 public:
  std::vector<ModelNode> nodes;

  Size charged(int node) const {
    Size sum = at(node).own;
    for (int child = 0; child < count(); ++child) {
      if (at(child).alive && at(child).parent == node) sum += charge(child);
    }
    return sum;
  }
  Size charge(int node) const { return std::max(at(node).guarantee, charged(node)); }
  Size used(int node) const {
    Size sum = at(node).own;
    for (int child = 0; child < count(); ++child) {
      if (at(child).alive && at(child).parent == node) sum += used(child);
    }
    return sum;
  }
  static Size less(Size a, Size b) { return a > b ? a - b : 0; }

  // Room for a charge at a node, and the lowest node that has no more.
  std::pair<Size, int> room(int node) const {
    std::pair<Size, int> least{~Size{0}, node};
    Size slack = 0;
    for (int n = node; n >= 0; n = at(n).parent) {
      const Size here = slack + less(at(n).limit, charged(n));
      if (here < least.first) least = {here, n};
      slack += less(at(n).guarantee, charged(n));
    }
    return least;
  }

  bool within(int node, int ancestor) const {
    while (node >= 0 && node != ancestor) node = at(node).parent;
    return node >= 0;
  }

  // What node's store can give for the sake of `requester`.
  Size reach(int node, int limiter, int requester) const {
    Size reach = at(node).stored;
    for (int n = node; n != limiter && !within(requester, n); n = at(n).parent) {
      reach = std::min(reach, less(charged(n), at(n).guarantee));
    }
    return reach;
  }

  // Asks stores under the full node, in the order of their numbers (their priorities), until
  // `missing` (which tells what is missing where) says nothing, or nothing moves.
  template <typename Missing>
  void reclaim(int requester, int spare, Missing missing) {
    // As many rounds as a thread does for others: a transfer can want the same bytes again and
    // again, where giving back in a guarantee frees nothing above.
    constexpr int kMostRounds = 16;
    bool moved = true;
    for (int round = 0; round != kMostRounds && moved; ++round) {
      moved = false;
      for (int n = 0; n < count(); ++n) {
        const auto [lacks, limiter] = missing();
        if (lacks == 0) return;
        if (!at(n).alive || !within(n, limiter) || (spare >= 0 && within(n, spare))) continue;
        const Size given = std::min(lacks, reach(n, limiter, requester));
        at(n).own -= given;
        at(n).stored -= given;
        if (given == 0) continue;
        moved = true;
        // The full node may be another one now: then its stores are asked from the first.
        if (missing().second != limiter) break;
      }
    }
  }

  // Whether it would not fit even into an empty tree.
  bool hopeless(int node, Size bytes) const {
    for (int n = node; n >= 0; n = at(n).parent) {
      if (bytes > at(n).limit) return true;
      bytes = less(bytes, at(n).guarantee);
    }
    return false;
  }

  // What is to be given back before `bytes` more fit at `node`, and where.
  std::pair<Size, int> missing_for(int node, Size bytes) const {
    const auto [fits, limiter] = room(node);
    if (bytes <= fits) return {0, limiter};
    return {bytes - fits + less(charged(limiter), at(limiter).limit), limiter};
  }

  // The bytes granted, or none.
  std::optional<Size> reserve(int node, Size bytes, Size minimum, bool reclaims) {
    const auto missing = [&] { return missing_for(node, minimum); };
    if (reclaims && !hopeless(node, minimum)) reclaim(node, -1, missing);
    if (missing().first > 0) {
      ++at(missing().second).denials;
      return std::nullopt;
    }
    const Size granted = std::min(bytes, room(node).first);
    at(node).own += granted;
    note_peaks();
    return granted;
  }

  bool set_guarantee(int node, Size guarantee) {
    if (guarantee > at(node).limit) return false;
    const auto growth = [&] { return less(std::max(guarantee, charged(node)), charge(node)); };
    const auto missing = [&] { return missing_for(at(node).parent, growth()); };
    if (!hopeless(at(node).parent, growth())) reclaim(at(node).parent, node, missing);
    if (missing().first > 0) {
      ++at(missing().second).denials;
      return false;
    }
    at(node).guarantee = guarantee;
    note_peaks();
    return true;
  }

  bool transfer(int from, int to, Size bytes) {
    const auto missing = [&]() -> std::pair<Size, int> {
      std::map<int, Size> before;
      for (int n = to; n >= 0; n = at(n).parent) before[n] = charged(n);
      at(from).own -= bytes;
      at(to).own += bytes;
      std::pair<Size, int> lacks{0, to};
      for (int n = to; n >= 0 && lacks.first == 0; n = at(n).parent) {
        // A node that is over its limit may stay so, but not grow.
        lacks = {charged(n) > before[n] ? less(charged(n), at(n).limit) : 0, n};
      }
      at(from).own += bytes;
      at(to).own -= bytes;
      return lacks;
    };
    reclaim(to, -1, missing);
    if (missing().first > 0) {
      ++at(missing().second).denials;
      return false;
    }
    at(from).own -= bytes;
    at(to).own += bytes;
    note_peaks();
    return true;
  }

  void note_peaks() {
    for (int n = 0; n < count(); ++n) {
      if (at(n).alive) at(n).peak = std::max(at(n).peak, charged(n));
    }
  }

  int count() const { return static_cast<int>(nodes.size()); }
  ModelNode& at(int node) { return nodes[static_cast<std::size_t>(node)]; }
  const ModelNode& at(int node) const { return nodes[static_cast<std::size_t>(node)]; }
};

enum class Kind {
  reserve,
  try_reserve,
  reserve_minimum,
  release,
  resize,
  commit,
  split,
  merge,
  transfer,
  store,
  set_limit,
  set_guarantee,
  add_child,
  drop_child,
  reset_peak,
  kinds
};

// Numbers that are taken modulo what there is.
struct Operation {
  Kind kind;
  unsigned node;
  unsigned held;
  Size bytes;
  Size more;
};

std::ostream& operator<<(std::ostream& out, const Operation& operation) {
  return out << "{" << static_cast<int>(operation.kind) << ", node " << operation.node << ", held "
             << operation.held << ", " << operation.bytes << ", " << operation.more << "}";
}

struct Held {
  Reservation reservation;
  int node;
};

class Run {
 public:
  explicit Run(Size limit) {
    add(std::make_unique<Budget>("root", BudgetOptions{.limit = Bytes{limit}}), -1, limit, 0);
  }

  ~Run() {
    held_.clear();
    stores_.clear();
    while (!budgets_.empty()) budgets_.pop_back();  // children first
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  void step(const Operation& operation) {
    apply(operation);
    compare();
  }

 private:
  void add(std::unique_ptr<Budget> budget, int parent, Size limit, Size guarantee) {
    const int number = model_.count();
    model_.nodes.push_back({parent, limit, guarantee});
    stores_.push_back(std::make_unique<testing::Store>(
        *budget, ReclaimerOptions{.name = "store", .priority = number}));
    budgets_.push_back(std::move(budget));
    model_.note_peaks();
  }

  int pick_node(unsigned number) const {
    std::vector<int> alive;
    for (int n = 0; n < model_.count(); ++n) {
      if (model_.at(n).alive) alive.push_back(n);
    }
    return alive[number % alive.size()];
  }
  Held* pick_held(unsigned number) {
    return held_.empty() ? nullptr : &held_[number % held_.size()];
  }
  Budget& budget(int node) { return *budgets_[static_cast<std::size_t>(node)]; }
  testing::Store& store(int node) { return *stores_[static_cast<std::size_t>(node)]; }

  int depth(int node) const {
    int depth = 0;
    while (node >= 0) {
      node = model_.at(node).parent;
      ++depth;
    }
    return depth;
  }

  void apply(const Operation& operation) {
    switch (operation.kind) {
      case Kind::reserve:
      case Kind::try_reserve:
      case Kind::reserve_minimum:
        return reserve(operation);
      case Kind::release:
      case Kind::resize:
      case Kind::commit:
      case Kind::split:
      case Kind::merge:
      case Kind::transfer:
        if (Held* held = pick_held(operation.held)) use(operation, *held);
        return;
      case Kind::store:
        return fill_store(operation);
      case Kind::set_limit:
        return set_limit(operation);
      case Kind::set_guarantee:
        return set_guarantee(operation);
      case Kind::add_child:
        return add_child(operation);
      case Kind::drop_child:
        return drop_child(operation);
      case Kind::reset_peak: {
        const int node = pick_node(operation.node);
        budget(node).reset_peak();
        model_.at(node).peak = model_.charged(node);
        return;
      }
      case Kind::kinds:
        return;
    }
  }

  void reserve(const Operation& operation) {
    const int node = pick_node(operation.node);
    const Size minimum = operation.kind == Kind::reserve_minimum
                             ? std::min(operation.bytes, operation.more)
                             : operation.bytes;
    auto got = operation.kind == Kind::try_reserve
                   ? budget(node).try_reserve(Bytes{operation.bytes})
                   : budget(node).reserve(Bytes{operation.bytes}, {.minimum = Bytes{minimum}});
    if (operation.bytes == 0) {
      RC_ASSERT(got.ok());
      return;
    }
    const auto expected =
        model_.reserve(node, operation.bytes, minimum, operation.kind != Kind::try_reserve);
    RC_ASSERT(got.ok() == expected.has_value());
    if (!expected) {
      RC_ASSERT(got.status().refusal() != nullptr);
      return;
    }
    RC_ASSERT(got->bytes().count() == *expected);
    held_.push_back({std::move(*got), node});
  }

  void use(const Operation& operation, Held& held) {
    const Size bytes = held.reservation.bytes().count();
    ModelNode& node = model_.at(held.node);
    switch (operation.kind) {
      case Kind::resize: {
        const bool grows = operation.bytes > bytes;
        const bool fits = !grows || model_.reserve(held.node, operation.bytes - bytes,
                                                   operation.bytes - bytes, true);
        RC_ASSERT(held.reservation.resize(Bytes{operation.bytes}).ok() == fits);
        if (!grows) model_.at(held.node).own -= bytes - operation.bytes;
        return;
      }
      case Kind::commit: {
        const Size actual = operation.bytes % (bytes + 1);
        held.reservation.commit(Bytes{actual});
        node.own -= bytes - actual;
        return;
      }
      case Kind::split: {
        auto part = held.reservation.split(Bytes{operation.bytes % (bytes + 1)});
        const int of = held.node;
        held_.push_back({std::move(part).value(), of});
        return;
      }
      case Kind::merge: {
        Held& other = *pick_held(static_cast<unsigned>(operation.more));
        const bool same = other.node == held.node;
        if (&other != &held) {
          RC_ASSERT(held.reservation.merge(std::move(other.reservation)).ok() == same);
          if (same) erase(other);
        }
        return;
      }
      case Kind::transfer: {
        const int to = pick_node(operation.node);
        const bool fits = to == held.node || bytes == 0 || model_.transfer(held.node, to, bytes);
        RC_ASSERT(held.reservation.transfer(budget(to)).ok() == fits);
        if (fits) held.node = to;
        return;
      }
      default:
        node.own -= bytes;
        erase(held);
    }
  }

  void erase(Held& held) {
    std::swap(held, held_.back());
    held_.pop_back();
  }

  void fill_store(const Operation& operation) {
    const int node = pick_node(operation.node);
    if (operation.bytes == 0) return;
    auto got = budget(node).reserve(Bytes{operation.bytes});
    const auto expected = model_.reserve(node, operation.bytes, operation.bytes, true);
    RC_ASSERT(got.ok() == expected.has_value());
    if (!got) return;
    store(node).put(std::move(*got));
    model_.at(node).stored += operation.bytes;
  }

  void set_limit(const Operation& operation) {
    const int node = pick_node(operation.node);
    const Size limit = operation.bytes * 8;
    const bool valid = limit >= model_.at(node).guarantee;
    RC_ASSERT(budget(node).set_limit(Bytes{limit}).ok() == valid);
    if (valid) model_.at(node).limit = limit;
  }

  void set_guarantee(const Operation& operation) {
    const int node = pick_node(operation.node);
    if (node == 0) return;
    const bool granted = model_.set_guarantee(node, operation.bytes);
    RC_ASSERT(budget(node).set_guarantee(Bytes{operation.bytes}).ok() == granted);
  }

  void add_child(const Operation& operation) {
    const int parent = pick_node(operation.node);
    if (depth(parent) >= 4 || budgets_.size() >= 12) return;
    const Size limit = operation.more * 8;
    const Size guarantee = std::min(operation.bytes / 4, limit);
    auto made = budget(parent).child(std::string{"c"}.append(std::to_string(model_.count())),
                                     {.limit = Bytes{limit}, .guarantee = Bytes{guarantee}});
    model_.nodes.push_back({parent, limit, 0});
    const bool granted = model_.set_guarantee(model_.count() - 1, guarantee);
    model_.nodes.pop_back();
    RC_ASSERT(made.ok() == granted);
    if (granted) add(std::make_unique<Budget>(std::move(*made)), parent, limit, guarantee);
  }

  void drop_child(const Operation& operation) {
    const int node = pick_node(operation.node);
    bool in_use = node == 0 || model_.charged(node) != 0;
    for (const ModelNode& other : model_.nodes) in_use |= other.alive && other.parent == node;
    for (const Held& held : held_) in_use |= held.node == node;
    if (in_use) return;
    stores_[static_cast<std::size_t>(node)].reset();
    budgets_[static_cast<std::size_t>(node)].reset();
    model_.at(node).alive = false;
  }

  void compare() {
    budget(0).validate();
    for (int n = 0; n < model_.count(); ++n) {
      if (!model_.at(n).alive) continue;
      const BudgetStats stats = budget(n).stats();
      RC_ASSERT(stats.used.count() == model_.used(n));
      RC_ASSERT(stats.charged.count() >= model_.charged(n));
      RC_ASSERT(stats.available.count() == model_.room(n).first);
      RC_ASSERT(stats.peak.count() == model_.at(n).peak);
      RC_ASSERT(stats.denials == model_.at(n).denials);
      RC_ASSERT(stats.limit.count() == model_.at(n).limit);
      RC_ASSERT(stats.guarantee.count() == model_.at(n).guarantee);
      RC_ASSERT(store(n).bytes().count() == model_.at(n).stored);
    }
  }

  Model model_;
  std::vector<std::unique_ptr<Budget>> budgets_;
  std::vector<std::unique_ptr<testing::Store>> stores_;
  std::vector<Held> held_;
};

}  // namespace
}  // namespace forebay

namespace rc {

// Half of the sizes fit into a lease, half do not.
template <>
struct Arbitrary<forebay::Operation> {
  static Gen<forebay::Operation> arbitrary() {
    using forebay::Kind;
    using forebay::kUnit;
    using forebay::Operation;
    const auto size =
        gen::map(gen::pair(gen::inRange<int>(0, 2), gen::inRange<std::uint64_t>(0, 1024)),
                 [](const std::pair<int, std::uint64_t>& of) {
                   return of.first == 0 ? of.second % 9 * kUnit : of.second * kUnit;
                 });
    // Plain reservations and releases are what there is most of.
    const auto kind = gen::map(gen::inRange<int>(0, static_cast<int>(Kind::kinds) + 8), [](int n) {
      if (n < static_cast<int>(Kind::kinds)) return static_cast<Kind>(n);
      return n % 2 == 0 ? Kind::reserve : Kind::release;
    });
    return gen::construct<Operation>(kind, gen::inRange(0U, 64U), gen::inRange(0U, 64U), size,
                                     size);
  }
};

}  // namespace rc

namespace forebay {
namespace {

RC_GTEST_PROP(BudgetProperty, AgreesWithTheNaiveModel, ()) {
  const auto limit = *rc::gen::inRange<Size>(64, 8192);
  const auto operations = *rc::gen::resize(400, rc::gen::arbitrary<std::vector<Operation>>());
  Run run{limit * kUnit};
  for (const Operation& operation : operations) run.step(operation);
}

}  // namespace
}  // namespace forebay
