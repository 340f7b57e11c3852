// How long single acquires take once a pool is warm: not the mean but the worst of them.
#include <fmt/format.h>

#include <algorithm>

#include "pool/replay.hpp"
#include "pool/rows.hpp"

namespace forebay::bench {
namespace {

struct Latency {
  std::vector<std::uint64_t> ticks;  // of all rounds

  double at(double share) {
    const auto rank = static_cast<std::size_t>(share * static_cast<double>(ticks.size() - 1));
    std::nth_element(ticks.begin(), ticks.begin() + static_cast<std::ptrdiff_t>(rank), ticks.end());
    return static_cast<double>(ticks[rank]) * nanoseconds_per_tick();
  }
};

// Replays the body, timing each block taken, less what timing nothing takes.
template <typename Ops>
void time_each(Ops& ops, const Trace& trace, Slots<Ops>& slots, std::vector<std::uint64_t>& out) {
  const std::uint64_t nothing = ticks_of_nothing();
  for (const Op op : trace.body) {
    auto& slot = slots[op.slot()];
    if (op.gives()) {
      ops.give(slot, op.bytes);
      continue;
    }
    const std::uint64_t start = ticks_before();
    slot = ops.take(op.bytes);
    const std::uint64_t took = ticks_after() - start;
    out.push_back(took - std::min(took, nothing));
  }
}

// The figure of a round is its 99.9th percentile, in ns.
template <typename Ops>
std::function<double()> latency_round(Ops ops, const Trace& trace, int repeats,
                                      const std::shared_ptr<Latency>& all) {
  struct State {
    State(Ops given, const Trace& of) : ops(std::move(given)), trace(of), slots(of.slots) {
      replay<false>(ops, trace.setup, slots);
    }
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    ~State() {
      if (whole) replay<false>(ops, trace.teardown, slots);
    }
    Ops ops;
    const Trace& trace;
    Slots<Ops> slots;
    bool whole = true;  // not if a block was refused in the middle
    bool warm = false;  // the first round is not counted
  };
  const auto state = std::make_shared<State>(std::move(ops), trace);
  return [state, repeats, all] {
    Latency round;
    round.ticks.reserve(state->trace.body.size() * static_cast<std::size_t>(repeats) / 2);
    state->whole = false;
    for (int i = 0; i < repeats; ++i) {
      time_each(state->ops, state->trace, state->slots, round.ticks);
    }
    state->whole = true;
    const double result = round.at(0.999);
    if (!std::exchange(state->warm, true)) return result;
    all->ticks.insert(all->ticks.end(), round.ticks.begin(), round.ticks.end());
    return result;
  };
}

Part latency_part(Row& row, const Settings& settings, const std::string& title, const Trace& trace,
                  int repeats) {
  std::vector<std::shared_ptr<Latency>> latencies;
  auto arms = make_arms(settings.peers, {}, [&](auto ops) {
    latencies.push_back(std::make_shared<Latency>());
    return latency_round(std::move(ops), trace, repeats, latencies.back());
  });
  run_rounds(arms, settings.rounds);
  Part part = part_of(row, title, "ns, 99.9th percentile", arms);
  for (std::size_t i = 0; i < arms.size(); ++i) {
    Latency& all = *latencies[i];
    if (arms[i].samples.empty()) continue;
    part.figures[i].note = fmt::format("of {} median {}, 99th {}, 99.99th {}, worst {}",
                                       all.ticks.size(), number(all.at(0.5)), number(all.at(0.99)),
                                       number(all.at(0.9999)), number(all.at(1.0)));
  }
  const Figure* const ours = judged(part);
  if (ours != nullptr) {
    const Figure* const best = best_peer(part);
    const double value = ours->samples.median();
    part.verdicts.push_back(
        {"", number(value) + " ns",
         best == nullptr ? "" : best->name + " " + number(best->samples.median()),
         best == nullptr ? "" : fmt::format("{:.2f}", value / best->samples.median()), "≤ 2000 ns",
         value <= 2000});
  }
  return part;
}

}  // namespace

Row latency_row(const Settings& settings) {
  Row row;
  const Trace steps = transformer_steps(settings.scaled(20));
  row.parts.push_back(latency_part(row, settings, "p99.9 of a warm acquire, transformer step",
                                   steps, static_cast<int>(settings.scaled(50))));
  const Trace random =
      random_replacement(settings.scaled(1000, 20), 1U << 20, settings.scaled(20'000, 500));
  row.parts.push_back(latency_part(row, settings, "p99.9 of a warm acquire, random ≤ 1 MiB", random,
                                   static_cast<int>(settings.scaled(10))));
  return row;
}

}  // namespace forebay::bench
