// Rows about space, each contender in a process of its own: what counts is the memory that
// the kernel says it holds.
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <stdexcept>
#include <thread>
#include <unordered_map>

#include "pool/replay.hpp"
#include "pool/rows.hpp"

namespace forebay::bench {
namespace {

// Names of those that run, ours first.
std::vector<std::string> contenders(const Settings& settings) {
  std::vector<std::string> names;
  if (settings.peers.with_ours) names.emplace_back(kRaw);
  for (const Peer& peer : settings.peers.here) names.push_back(peer.name);
  if (settings.peers.pmr) names.emplace_back("pmr");
  return names;
}

// Calls use(ops, pool) with the contender of that name; pool is null for peers.
template <typename Use>
Figures with_contender(const Settings& settings, const std::string& name, PoolOptions options,
                       Bytes limit, Use use) {
  if (name == kRaw) {
    auto ours = std::make_unique<Ours>(true, std::move(options), limit);
    try {
      return use(ResourceOps{ours->pool.get()}, ours->pool.get());
    } catch (const MemoryRefused&) {
      const PoolStats stats = ours->pool->stats();
      static_cast<void>(ours.release());  // with its blocks: this process ends here
      return {{"gave_up_at", static_cast<double>(stats.live.count())}};
    }
  }
  Figures figures;
  bool found = false;
  for_each_contender(settings.peers, {.nobody = false},
                     [&](const std::string& other, Role role, const auto&, auto ops) {
                       if (role != Role::peer || other != name) return;
                       figures = use(std::move(ops), static_cast<Pool*>(nullptr));
                       found = true;
                     });
  if (!found) throw std::runtime_error{"no contender " + name};
  return figures;
}

// Resident memory since the start, and its peak.
class Residence {
 public:
  Residence() : start_(resident_bytes()) {}
  double now() {
    const double grown = std::max(0.0, resident_bytes() - start_);
    peak_ = std::max(peak_, grown);
    return grown;
  }
  double peak() const { return peak_; }

 private:
  double start_;
  double peak_ = 0;
};

void add_pool_figures(Figures& figures, const Pool* pool) {
  if (pool == nullptr) return;
  pool->validate();
  const PoolStats stats = pool->stats();
  figures["peak_reserved"] = static_cast<double>(stats.peak_reserved.count());
  figures["metadata"] = static_cast<double>(stats.metadata.count());
}

// Replays once, writing each page, looking at the process at each height.
template <typename Ops>
Figures peak_of(Ops ops, Pool* pool, const Trace& trace) {
  Slots<Ops> slots(trace.slots);
  Residence residence;
  bool grew = false;
  for (const Op op : trace.body) {
    auto& slot = slots[op.slot()];
    if (op.gives()) {
      if (std::exchange(grew, false)) residence.now();
      ops.give(slot, op.bytes);
    } else {
      slot = ops.take(op.bytes);
      touch(Ops::address(slot), op.bytes);
      grew = true;
    }
  }
  residence.now();
  Figures figures{{"peak_live", static_cast<double>(trace.peak_bytes)},
                  {"peak_resident", residence.peak()}};
  add_pool_figures(figures, pool);
  for (const Op op : trace.teardown) ops.give(slots[op.slot()], op.bytes);
  return figures;
}

double at(const Figures& figures, const char* key) {
  const auto found = figures.find(key);
  return found == figures.end() ? 0 : found->second;
}

// Runs each contender in turn; figure(figures) is what is compared.
template <typename Figure, typename Note>
Part child_part(Row& row, const Settings& settings, const char* child, std::string title,
                std::string unit, Figure figure, Note note) {
  std::vector<Arm> arms;
  std::vector<std::shared_ptr<Figures>> latest;
  for (const std::string& name : contenders(settings)) {
    auto figures = std::make_shared<Figures>();
    Arm arm;
    arm.name = name;
    arm.role = name == kRaw ? Role::ours : Role::peer;
    arm.round = [&settings, child, name, figures, figure] {
      *figures = run_child(settings, child, name);
      return figure(*figures);
    };
    arms.push_back(std::move(arm));
    latest.push_back(std::move(figures));
  }
  // The work is the same each time, to the byte: one counted round, no warm one.
  for (Arm& arm : arms) {
    try {
      const double value = arm.round();
      if (std::isnan(value)) continue;
      arm.samples.add(value);
    } catch (const std::exception& error) {
      arm.trouble = error.what();
    }
  }
  Part part = part_of(row, std::move(title), std::move(unit), arms);
  for (std::size_t i = 0; i < arms.size(); ++i) {
    if (!arms[i].samples.empty()) part.figures[i].note = note(*latest[i]);
    const double live = at(*latest[i], "gave_up_at");
    if (live == 0) continue;
    part.figures[i].note = "refused a block, with live " + size_text(live);
    judge(part, "", part.figures[i].note, "nothing that fits is refused", false);
  }
  return part;
}

double resident_over_live(const Figures& figures) {
  return at(figures, "peak_resident") / at(figures, "peak_live");  // 0 / 0 if it gave up
}

std::string peaks(const Figures& figures) {
  std::string text = fmt::format("live {}, resident {}", size_text(at(figures, "peak_live")),
                                 size_text(at(figures, "peak_resident")));
  if (at(figures, "peak_reserved") > 0) {
    text += fmt::format(", reserved/live {:.3f}",
                        at(figures, "peak_reserved") / at(figures, "peak_live"));
  }
  return text;
}

constexpr const char* kResidentOverLive = "peak resident / peak live, each page written";

void judge_ratio(Part& part, const char* what, double most) {
  const Figure* const ours = judged(part);
  if (ours == nullptr) return;
  const double ratio = ours->samples.median();
  judge(part, what, fmt::format("{:.3f}", ratio), fmt::format("≤ {:.2f}", most), ratio <= most);
}

std::uint32_t growth_to(const Settings& settings) { return settings.scaled(64, 6); }

constexpr std::uint64_t kReplaceLimit = 4ULL << 30;

std::uint64_t replace_limit(const Settings& settings) {
  return std::min(kReplaceLimit,
                  static_cast<std::uint64_t>(std::max(96e6, kReplaceLimit * settings.scale)));
}

}  // namespace

Figures growth_child(const Settings& settings, const std::string& contender) {
  const Trace trace = growing_batches(std::min(64U, growth_to(settings)));
  return with_contender(settings, contender, {}, Bytes{1ULL << 43},
                        [&](auto ops, Pool* pool) { return peak_of(std::move(ops), pool, trace); });
}

Row growth_row(const Settings& settings) {
  Row row;
  double reserved = 0;
  Part part = child_part(row, settings, "growth", "growing batch", kResidentOverLive,
                         resident_over_live, [&](const Figures& figures) {
                           if (at(figures, "peak_reserved") > 0) {
                             reserved = at(figures, "peak_reserved") / at(figures, "peak_live");
                           }
                           return peaks(figures);
                         });
  if (reserved > 0) {
    judge(part, "reserved / live", fmt::format("{:.3f}", reserved), "≤ 1.10", reserved <= 1.10);
  }
  judge_ratio(part, "resident / live", 1.10);
  row.parts.push_back(std::move(part));
  return row;
}

namespace {

constexpr std::uint64_t kPage = 4096;

// How many pages hold a byte of a live block: others are free, wherever they are.
class PageCount {
 public:
  void add(const void* block, std::uint64_t bytes) { change(block, bytes, true); }
  void remove(const void* block, std::uint64_t bytes) { change(block, bytes, false); }
  std::uint64_t bytes() const { return (whole_ + shared_.size()) * kPage; }

 private:
  // Pages between a block's first and last are its own.
  void change(const void* block, std::uint64_t bytes, bool more) {
    const std::uint64_t first = reinterpret_cast<std::uintptr_t>(block) / kPage;
    const std::uint64_t last = (reinterpret_cast<std::uintptr_t>(block) + bytes - 1) / kPage;
    count(first, more);
    if (last == first) return;
    count(last, more);
    whole_ += more ? last - first - 1 : first + 1 - last;
  }
  void count(std::uint64_t page, bool more) {
    if (more) {
      ++shared_[page];
    } else if (--shared_[page] == 0) {
      shared_.erase(page);
    }
  }

  std::uint64_t whole_ = 0;
  std::unordered_map<std::uint64_t, std::uint32_t> shared_;
};

// How far the largest block that can be had falls short of `fits`.
std::uint64_t shortfall(Pool& pool, std::uint64_t fits) {
  const auto can = [&](std::uint64_t pages) {
    const Bytes bytes{pages * kPage};
    const auto block = pool.allocate(bytes);
    if (block) pool.deallocate(*block, bytes);
    return block.ok();
  };
  std::uint64_t granted = 0;
  std::uint64_t refused = fits / kPage + 1;
  if (can(refused - 1)) return 0;
  for (--refused; granted + 1 < refused;) {
    const std::uint64_t middle = (granted + refused) / 2;
    (can(middle) ? granted : refused) = middle;
  }
  return fits - granted * kPage;
}

struct Refusals {
  double asked = 0;
  double refused = 0;
  double shortfall = 0;  // the worst
};

// Ours has a line of just the limit: what fits below it must not be refused. At every 16th
// step all free pages are asked for at once. Only blocks of `least` bytes and more take part.
template <typename Ops>
Refusals ask_for_all(Ops ops, Pool& pool, const Trace& trace, std::uint64_t limit,
                     std::uint32_t least) {
  Slots<Ops> slots(trace.slots);
  Refusals result;
  PageCount used;
  std::size_t step = 0;
  for (const Op op : trace.body) {
    if (op.bytes < least) continue;
    auto& slot = slots[op.slot()];
    if (op.gives()) {
      used.remove(Ops::address(slot), pool.usable_size(Ops::address(slot)).count());
      ops.give(slot, op.bytes);
    } else {
      slot = ops.take(op.bytes);
      used.add(Ops::address(slot), pool.usable_size(Ops::address(slot)).count());
    }
    const std::uint64_t fits = limit - std::min(limit, used.bytes());
    if (++step % 16 != 0 || fits == 0) continue;
    const auto missing = static_cast<double>(shortfall(pool, fits));
    result.asked += 1;
    result.refused += missing > 0 ? 1 : 0;
    result.shortfall = std::max(result.shortfall, missing);
  }
  for (const Op op : trace.teardown) {
    if (op.bytes >= least) ops.give(slots[op.slot()], op.bytes);
  }
  return result;
}

// The least size of blocks that are not cut from slabs, whose free pages serve small blocks
// only.
constexpr std::uint32_t kLarge = (32U << 10) + 1;

template <typename Ops>
Figures replace_under(Ops ops, Pool* pool, const Trace& trace, std::uint64_t limit) {
  Figures figures = peak_of(ops, pool, trace);
  if (pool == nullptr) return figures;
  for (const bool all : {true, false}) {
    const Refusals found = ask_for_all(ops, *pool, trace, limit, all ? 1 : kLarge);
    const std::string who = all ? "all_" : "large_";
    figures[who + "asked"] = found.asked;
    figures[who + "refused"] = found.refused;
    figures[who + "shortfall"] = found.shortfall;
  }
  return figures;
}

void judge_refusals(Part& part, const Figures& figures, const std::string& who,
                    const std::string& what) {
  const double asked = at(figures, (who + "asked").c_str());
  const double refused = at(figures, (who + "refused").c_str());
  if (asked == 0) return;
  judge(part, what,
        refused == 0 ? fmt::format("0 of {:.0f} refused", asked)
                     : fmt::format("{:.0f} of {:.0f} refused, {} short at most", refused, asked,
                                   size_text(at(figures, (who + "shortfall").c_str()))),
        "never refused", refused == 0);
}

}  // namespace

Figures replace_child(const Settings& settings, const std::string& contender) {
  const std::uint64_t limit = replace_limit(settings);
  // Live bytes stay below the limit by what rounding may add to them.
  const Trace trace = log_uniform_replacement(limit - limit / 50, settings.scaled(4000, 100));
  return with_contender(settings, contender, {}, Bytes{limit}, [&](auto ops, Pool* pool) {
    return replace_under(std::move(ops), pool, trace, limit);
  });
}

Row replace_row(const Settings& settings) {
  Row row;
  Figures ours;
  Part part = child_part(row, settings, "replace",
                         fmt::format("log-uniform 256 B - 64 MiB under {}",
                                     size_text(static_cast<double>(replace_limit(settings)))),
                         kResidentOverLive, resident_over_live, [&](const Figures& figures) {
                           if (figures.count("all_asked") > 0) ours = figures;
                           return peaks(figures);
                         });
  judge_ratio(part, "touched / live", 1.05);
  judge_refusals(part, ours, "large_", "all free pages at once, beside blocks above 32 KiB");
  judge_refusals(part, ours, "all_", "all free pages at once, beside blocks of all sizes");
  row.parts.push_back(std::move(part));
  return row;
}

namespace {

struct Burst {
  std::uint64_t floor;  // live before and after
  std::uint64_t bytes;  // more in between
};

Burst burst_of(const Settings& settings) {
  const auto mib = [&](std::uint32_t count) {
    return std::uint64_t{settings.scaled(count, 8)} << 20;
  };
  return {mib(256), mib(1024)};
}

// Blocks of a mix of sizes, all written, up to `total` bytes.
template <typename Ops>
std::vector<std::pair<typename Ops::Block, std::size_t>> fill(Ops& ops, std::uint64_t total) {
  std::vector<std::pair<typename Ops::Block, std::size_t>> blocks;
  const auto sizes = tensor_sizes();
  std::uint64_t sum = 0;
  for (std::size_t i = 0; sum < total; ++i) {
    const std::size_t bytes = sizes[i * 7 % sizes.size()];
    blocks.emplace_back(ops.take(bytes), bytes);
    touch(Ops::address(blocks.back().first), bytes);
    sum += bytes;
  }
  return blocks;
}

template <typename Ops, typename Blocks>
void clear(Ops& ops, Blocks& blocks) {
  for (auto& [block, bytes] : blocks) ops.give(block, bytes);
  blocks.clear();
}

}  // namespace

// The clock of ours is turned by hand; the others have a second of real time, and some work
// that may remind them.
Figures burst_child(const Settings& settings, const std::string& contender) {
  constexpr Duration kTtl = std::chrono::seconds{60};
  constexpr int kTicksPerPeriod = 8;
  const Burst burst = burst_of(settings);
  ManualClock clock;
  PoolOptions options;
  options.clock = &clock;
  options.ttl = kTtl;
  return with_contender(settings, contender, options, Bytes{1ULL << 43}, [&](auto ops, Pool* pool) {
    Residence residence;
    auto kept = fill(ops, burst.floor);
    const double floor = residence.now();
    auto more = fill(ops, burst.bytes);
    Figures figures{{"floor", floor}, {"peak", residence.now()}};
    clear(ops, more);
    figures["at_once"] = residence.now();
    for (int tick = 1; pool != nullptr && tick <= 2 * kTicksPerPeriod; ++tick) {
      clock.advance(kTtl / kTicksPerPeriod);
      pool->tick();
      if (residence.now() <= 1.05 * floor && at(figures, "periods") == 0) {
        figures["periods"] = static_cast<double>(tick) / kTicksPerPeriod;
      }
    }
    if (pool == nullptr) {
      std::this_thread::sleep_for(std::chrono::milliseconds{settings.smoke ? 1 : 1000});
      for (int i = 0; i < 1000; ++i) {
        auto block = ops.take(1000);
        ops.give(block, 1000);
      }
    }
    figures["after"] = residence.now();
    clear(ops, kept);
    return figures;
  });
}

Row burst_row(const Settings& settings) {
  Row row;
  double periods = 0;
  const Burst burst = burst_of(settings);
  Part part = child_part(
      row, settings, "burst",
      fmt::format("after a burst of {} over {}, resident / floor",
                  size_text(static_cast<double>(burst.bytes)),
                  size_text(static_cast<double>(burst.floor))),
      "×", [](const Figures& figures) { return at(figures, "after") / at(figures, "floor"); },
      [&](const Figures& figures) {
        periods = std::max(periods, at(figures, "periods"));
        return fmt::format("floor {}, peak {}, dropped {}, after {}",
                           size_text(at(figures, "floor")), size_text(at(figures, "peak")),
                           size_text(at(figures, "at_once")), size_text(at(figures, "after")));
      });
  part.notes.emplace_back(
      "after: Forebay after two decay periods (ttl) of a clock turned by hand, the others after a "
      "second");
  const Figure* const ours = judged(part);
  if (ours != nullptr) {
    const double ratio = ours->samples.median();
    judge(part, "",
          periods > 0
              ? fmt::format("{:.3f} of the floor; within 5 % after {:.2f} periods", ratio, periods)
              : fmt::format("{:.3f} of the floor", ratio),
          "≤ 1.05 after ≤ 2 periods", periods > 0 && ratio <= 1.05);
  }
  row.parts.push_back(std::move(part));
  return row;
}

Row hits_row(const Settings& settings) {
  constexpr std::uint32_t kLive = 64;
  const std::uint32_t acquires = settings.scaled(10'000, 2000);
  Row row;
  const auto measure = [&](const std::string& title, const Trace& trace, double target) {
    Ours ours;
    BufferOps ops{ours.pool.get()};
    Slots<BufferOps> slots(trace.slots);
    replay<false>(ops, trace.body, slots);
    const PoolStats stats = ours.pool->stats();
    replay<false>(ops, trace.teardown, slots);
    ours.pool->validate();
    Part part;
    part.title = fmt::format("hit rate, {}", title);
    Samples samples;
    samples.add(100 * stats.hit_rate());
    part.unit = "%";
    part.figures.push_back(
        {kBuffers, Role::ours, samples,
         fmt::format("{} of {} acquires, from an empty pool on", stats.hits, stats.acquires)});
    judge(part, "", fmt::format("{:.2f} %", 100 * stats.hit_rate()),
          fmt::format("≥ {:.0f} %", target), 100 * stats.hit_rate() >= target);
    if (stats.hits + stats.misses != stats.acquires) {
      row.failures.push_back(title + ": hits and misses are not the acquires");
    }
    row.parts.push_back(std::move(part));
  };
  measure("sequential: tensor sizes, ten uses each", sequential_tensors(acquires), 99);
  measure("interleaved: tensor sizes, 64 live", interleaved_tensors(acquires, kLive), 95);
  measure("random sizes 256 B - 16 MiB, 64 live", random_tensors(acquires, kLive), 90);
  return row;
}

}  // namespace forebay::bench
