// Rows about time on one thread.
#include <fmt/format.h>

#include <cmath>

#include "pool/replay.hpp"
#include "pool/rows.hpp"

namespace forebay::bench {
namespace {

constexpr std::uint32_t kMiB = 1U << 20;
constexpr std::uint64_t kRmmCap = 16'000ULL * kMiB;  // what RMM's benchmark lets live at once

// The figure is CPU nanoseconds an operation (times `factor`) of `repeats` times the body.
template <bool kTouch>
auto player_round(const Trace& trace, int repeats, double factor = 1) {
  return [&trace, repeats, factor](auto ops) -> std::function<double()> {
    using Ops = decltype(ops);
    const auto player = std::make_shared<Player<Ops>>(std::move(ops), trace);
    return [player, &trace, repeats, factor] {
      const double took = timed([&] {
        for (int i = 0; i < repeats; ++i) player->template play<kTouch>();
      });
      return factor * took / (trace.operations() * repeats);
    };
  };
}

// Every contender once through the trace, watched.
void check_blocks(Row& row, const Settings& settings, const Trace& trace) {
  for_each_contender(
      settings.peers, {.nobody = false},
      [&](const std::string& name, Role, const std::shared_ptr<Ours>& ours, auto ops) {
        const std::uint64_t faults = count_faults(std::move(ops), trace);
        if (faults > 0) {
          row.failures.push_back(
              fmt::format("{}: {} blocks overlap others or lost their content", name, faults));
        }
        if (ours != nullptr) ours->pool->validate();
      });
}

// What our pools hold and say at the end.
void check_ours(Row& row, Part& part, const std::vector<Arm>& arms, const Trace& trace) {
  for (std::size_t i = 0; i < arms.size(); ++i) {
    if (arms[i].ours == nullptr) continue;
    const Pool& pool = *arms[i].ours->pool;
    pool.validate();
    const PoolStats stats = pool.stats();
    if (stats.hits + stats.misses != stats.acquires || stats.live + stats.idle != stats.reserved) {
      row.failures.push_back(arms[i].name + ": its counters do not add up");
    }
    part.figures[i].note = fmt::format(
        "reserved/live {:.3f}, metadata {:.2f} %, hits {:.2f} %",
        static_cast<double>(stats.peak_reserved.count()) / static_cast<double>(trace.peak_bytes),
        100 * static_cast<double>(stats.metadata.count()) /
            static_cast<double>(std::max(stats.peak_reserved, Bytes{1}).count()),
        100 * stats.hit_rate());
  }
}

double reserved_over_live(const Arm& arm, const Trace& trace) {
  return static_cast<double>(arm.ours->pool->stats().peak_reserved.count()) /
         static_cast<double>(trace.peak_bytes);
}

Part& add(Row& row, Part part) {
  row.parts.push_back(std::move(part));
  return row.parts.back();
}

std::string live_text(const Trace& trace) {
  return fmt::format("{} live at most, {}", trace.peak_blocks,
                     size_text(static_cast<double>(trace.peak_bytes)));
}

}  // namespace

Row random_row(const Settings& settings) {
  Row row;
  check_blocks(row, settings, random_allocations(settings.scaled(2000, 100), kMiB, kRmmCap));
  for (const std::uint32_t full : {1000U, 10'000U, 100'000U, 1'000'000U}) {
    const std::uint32_t count = settings.scaled(full, 100);
    const Trace trace = random_allocations(count, kMiB, kRmmCap);
    const int repeats = static_cast<int>(std::max(1.0, settings.scale * 50'000 / count));
    auto arms = make_arms(settings.peers, {}, player_round<false>(trace, repeats));
    run_rounds(arms, settings.rounds);
    Part& part = add(
        row,
        part_of(row, fmt::format("random ≤ 1 MiB, {} allocations ({})", count, live_text(trace)),
                "ns/op", arms));
    check_ours(row, part, arms, trace);
    if (full != 100'000 || judged(part) == nullptr) continue;
    judge_by_best(part, 0.2);
    const double space = reserved_over_live(arms[0], trace);
    judge(part, "reserved / live", fmt::format("{:.3f}", space), "≤ 1.15", space <= 1.15);
  }
  return row;
}

Row flat_row(const Settings& settings) {
  Row row;
  double at_10k = 0;
  for (const std::uint32_t full : {1000U, 10'000U, 100'000U, 1'000'000U}) {
    const std::uint32_t count = settings.scaled(full, 100);
    const Trace trace = random_replacement(count, kMiB, settings.scaled(200'000, 1000));
    // A million of them, mostly untouched, is more than general mallocs can hold in 24 GiB:
    // each keeps a page or more of its own beside every block.
    Peers only_ours;
    only_ours.with_ours = settings.peers.with_ours;
    const bool alone = full == 1'000'000;
    auto arms = make_arms(alone ? only_ours : settings.peers, {}, player_round<false>(trace, 1));
    run_rounds(arms, settings.rounds);
    Part& part = add(row, part_of(row,
                                  fmt::format("replace ≤ 1 MiB at random, {} live ({})", count,
                                              size_text(static_cast<double>(trace.peak_bytes))),
                                  "ns/op", arms));
    check_ours(row, part, arms, trace);
    const Figure* const ours = judged(part);
    if (ours == nullptr) continue;
    if (full == 10'000) at_10k = ours->samples.median();
    if (!alone || at_10k == 0) continue;
    part.notes.emplace_back("only Forebay: the others take too much memory at this count");
    const double growth = ours->samples.median() / at_10k;
    judge(part, "time, of that at 10 000 live", fmt::format("{:.2f}×", growth), "< 2×", growth < 2);
  }
  return row;
}

Row step_row(const Settings& settings) {
  Row row;
  check_blocks(row, settings, transformer_steps(1));
  const Trace trace = transformer_steps(settings.scaled(20));
  auto arms = make_arms(settings.peers, {},
                        player_round<false>(trace, static_cast<int>(settings.scaled(25))));
  run_rounds(arms, settings.rounds);
  Part& part =
      add(row, part_of(row, fmt::format("transformer step ({})", live_text(trace)), "ns/op", arms));
  check_ours(row, part, arms, trace);
  judge_by_best(part, 1.0);
  return row;
}

Row hot_row(const Settings& settings) {
  Row row;
  const std::uint32_t turns = settings.scaled(2'000'000, 2000);
  for (const auto& [bytes, name] : {std::pair<std::size_t, const char*>{256, "256 B"},
                                    {64U << 10, "64 KiB"},
                                    {16U << 20, "16 MiB"}}) {
    const auto make = [turns, bytes = bytes](auto ops) -> std::function<double()> {
      return [ops, turns, bytes]() mutable {
        return timed([&] {
                 for (std::uint32_t i = 0; i < turns; ++i) {
                   auto block = ops.take(bytes);
                   keep(decltype(ops)::address(block));
                   ops.give(block, bytes);
                 }
               }) /
               turns;
      };
    };
    auto arms = make_arms(settings.peers, {.judged = Cast::Door::buffers}, make);
    run_rounds(arms, settings.rounds);
    Part& part = add(
        row, part_of(row, fmt::format("one hot size, {}, acquire + drop", name), "ns/pair", arms));
    judge_by_best(part, 1.5);
    judge_at_most(part, 8, "time");
  }
  return row;
}

Row churn_row(const Settings& settings) {
  Row row;
  const Trace trace = random_allocations(settings.scaled(1000, 20), kMiB, kRmmCap);
  check_blocks(row, settings, trace);
  auto arms = make_arms(settings.peers, {.nobody = false},
                        player_round<true>(trace, static_cast<int>(settings.scaled(5)), 1e-3));
  run_rounds(arms, settings.rounds);
  Part& part = add(row, part_of(row, fmt::format("touched ≤ 1 MiB churn ({})", live_text(trace)),
                                "µs/op", arms));
  check_ours(row, part, arms, trace);
  judge_by_best(part, 1.1);
  const Figure* const ours = judged(part);
  const Figure* const glibc = find(part, "glibc");
  if (ours != nullptr && glibc != nullptr) {
    const double times = glibc->samples.median() / ours->samples.median();
    part.verdicts.push_back({"against glibc", number(ours->samples.median()) + " µs/op",
                             "glibc " + number(glibc->samples.median()),
                             fmt::format("{:.0f}× faster", times), "≥ 30× faster", times >= 30});
  }
  return row;
}

namespace {

template <bool kTouch, typename Ops>
std::function<double()> pairs_of(Ops ops, std::size_t bytes, std::uint32_t turns) {
  return [ops, bytes, turns]() mutable {
    return timed([&] {
             for (std::uint32_t i = 0; i < turns; ++i) {
               auto block = ops.take(bytes);
               keep(Ops::address(block));
               if constexpr (kTouch) touch(Ops::address(block), bytes);
               ops.give(block, bytes);
             }
           }) /
           turns;
  };
}

template <bool kTouch>
void fresh_part(Row& row, const Settings& settings, std::size_t bytes, const char* title) {
  const auto ours = std::make_shared<Ours>();
  const auto host = Device::host();
  const std::uint32_t turns = std::max(
      10U, settings.scaled(static_cast<std::uint32_t>((kTouch ? 1ULL << 29 : 1ULL << 32) / bytes)));
  std::vector<Arm> arms;
  arms.push_back({kBuffers,
                  Role::ours,
                  ours,
                  pairs_of<kTouch>(BufferOps{ours->pool.get()}, bytes, turns),
                  {},
                  {}});
  // Fewer turns: each takes up to milliseconds.
  arms.push_back({"fresh from the host",
                  Role::peer,
                  nullptr,
                  pairs_of<kTouch>(ResourceOps{host.get()}, bytes, std::max(5U, turns / 10)),
                  {},
                  {}});
  run_rounds(arms, settings.rounds);
  Part part = part_of(row, title, "ns/pair", arms);
  const double times = 1 / ratio_to_best(part);
  if (!std::isnan(times)) {
    part.verdicts.push_back({"", number(judged(part)->samples.median()) + " ns/pair",
                             "fresh " + number(best_peer(part)->samples.median()),
                             fmt::format("{:.0f}× faster", times), "≥ 10× faster", times >= 10});
  }
  row.parts.push_back(std::move(part));
}

}  // namespace

Row fresh_row(const Settings& settings) {
  Row row;
  fresh_part<false>(row, settings, 64U << 10, "pool hit and fresh block, 64 KiB, not touched");
  fresh_part<false>(row, settings, 1U << 20, "pool hit and fresh block, 1 MiB, not touched");
  fresh_part<false>(row, settings, 16U << 20, "pool hit and fresh block, 16 MiB, not touched");
  fresh_part<true>(row, settings, 64U << 10, "pool hit and fresh block, 64 KiB, each page written");
  fresh_part<true>(row, settings, 1U << 20, "pool hit and fresh block, 1 MiB, each page written");
  fresh_part<true>(row, settings, 16U << 20, "pool hit and fresh block, 16 MiB, each page written");
  return row;
}

Row accounting_row(const Settings& settings) {
  Row row;
  const Trace trace = transformer_steps(settings.scaled(20));
  const auto make = player_round<false>(trace, static_cast<int>(settings.scaled(25)));
  std::vector<Arm> arms;
  for (const bool metered : {true, false}) {
    const auto ours = std::make_shared<Ours>(metered);
    arms.push_back({metered ? "forebay over a budget" : "forebay over the bare host",
                    metered ? Role::ours : Role::peer,
                    ours,
                    make(ResourceOps{ours->pool.get()}),
                    {},
                    {}});
  }
  run_rounds(arms, settings.rounds);
  Part& part = add(row, part_of(row, "accounting on and off, transformer step", "ns/op", arms));
  check_ours(row, part, arms, trace);
  if (judged(part) == nullptr || best_peer(part) == nullptr) return row;
  const double on = judged(part)->samples.median();
  const double off = best_peer(part)->samples.median();
  part.verdicts.push_back({"", number(on) + " ns/op", "off " + number(off),
                           fmt::format("{:.2f}", on / off), "≤ 1.10× and ≤ 6 ns more",
                           on <= 1.10 * off && on - off <= 6});
  return row;
}

}  // namespace forebay::bench
