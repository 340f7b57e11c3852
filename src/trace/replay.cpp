#include "trace/replay.hpp"

#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <ctime>
#include <numeric>
#include <optional>

#include "forebay/budget.hpp"
#include "forebay/governor.hpp"

namespace forebay::trace {
namespace {

constexpr std::size_t kBatch = 65536;
constexpr std::uint64_t kPage = 4096;
// What cudaMalloc aligns to.
constexpr Bytes kDeviceAlignment{256};

std::int64_t thread_cpu_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

void write_pages(void* block, std::uint64_t bytes) {
  auto* const data = static_cast<volatile char*>(block);
  for (std::uint64_t at = 0; at < bytes; at += kPage) data[at] = 1;
  if (bytes > 0) data[bytes - 1] = 1;  // a block need not begin where a page does
}

// A new device, and a pool or nothing on it.
class Target {
 public:
  Target(const PoolSetup& setup, const ReplayOptions& options) {
    alignment_ = options.on_host ? kDefaultAlignment : kDeviceAlignment;
    if (!options.on_host) {
      device_ = SimulatedDevice::create({.capacity = options.capacity,
                                         .stream_ordered = true,
                                         .allocate_latency = kDeviceCall,
                                         .deallocate_latency = kDeviceCall,
                                         .on_latency = [this](Duration) { ++device_calls_; }});
    } else if (options.capacity.is_unlimited()) {
      device_ = Device::host();
    } else {
      limit_.emplace("host", BudgetOptions{.limit = options.capacity});
      device_ = limit_->meter(Device::host());
    }
    if (setup.direct) return;
    PoolOptions pool = setup.options;
    if (!setup.alignment_given) pool.min_alignment = alignment_;
    pool.clock = &clock_;
    pool_ = Pool::create(device_, pool);
  }

  Target(const Target&) = delete;  // the device counts its calls here
  Target& operator=(const Target&) = delete;

  MemoryResource& resource() noexcept { return pool_ ? *pool_ : *device_; }
  const MemoryResource& device() const noexcept { return *device_; }
  Bytes alignment() const noexcept { return alignment_; }
  // Of a simulated device, so far.
  std::uint64_t device_calls() const noexcept { return device_calls_; }
  std::optional<PoolStats> stats() const {
    return pool_ ? std::optional{pool_->stats()} : std::nullopt;
  }
  void pass(Duration time) noexcept {
    clock_.advance(time);
    if (pool_) pool_->tick();
  }

 private:
  // In the order in which they stand on each other.
  std::uint64_t device_calls_ = 0;
  ManualClock clock_;
  Bytes alignment_;
  std::optional<Budget> limit_;
  std::shared_ptr<MemoryResource> device_;
  std::shared_ptr<Pool> pool_;
};

// The blocks of one pass, by slot. Null: freed, refused, or of zero bytes.
class Blocks {
 public:
  Blocks(Target& target, std::size_t slots, bool touch)
      : target_(target), blocks_(slots), touch_(touch) {}
  Blocks(const Blocks&) = delete;
  Blocks& operator=(const Blocks&) = delete;
  ~Blocks() {
    for (const Held& held : blocks_) give(held, {});
  }

  // Not ok: refused.
  Status allocate(const Operation& operation) {
    const Bytes bytes{operation.amount};
    auto block = target_.resource().allocate(bytes, target_.alignment(), operation.stream);
    if (!block.ok()) return block.status();
    blocks_[operation.slot] = {*block, bytes};
    if (touch_) write_pages(*block, operation.amount);
    return {};
  }
  // Whether there was a block.
  bool free(const Operation& operation) noexcept {
    const Held held = std::exchange(blocks_[operation.slot], Held{});
    give(held, operation.stream);
    return held.address != nullptr;
  }

 private:
  struct Held {
    void* address = nullptr;
    Bytes bytes;
  };
  void give(const Held& held, Stream stream) noexcept {
    if (held.address == nullptr) return;
    target_.resource().deallocate(held.address, held.bytes, target_.alignment(), stream);
  }

  Target& target_;
  std::vector<Held> blocks_;
  const bool touch_;
};

// Counts what one configuration holds.
class Meter {
 public:
  Meter(ReplayRun& run, const PressureMonitor& monitor) : run_(run), monitor_(monitor) {
    ::malloc_trim(0);  // what earlier passes left must not be used again unseen
    base_ = resident();
  }

  void apply(const Operation& operation, Target& target, Blocks& blocks) {
    const Bytes bytes{operation.amount};
    if (operation.kind == Operation::Kind::tick) {
      target.pass(Duration{static_cast<Duration::rep>(operation.amount)});
    } else if (operation.kind == Operation::Kind::free) {
      if (blocks.free(operation)) drop(bytes, target);
    } else if (const Status served = blocks.allocate(operation); served.ok()) {
      add(bytes, target);
    } else {
      refuse(bytes, served);
    }
  }

  // Looks, and keeps it as a sample, with the top of the interval that it ends before it.
  void look(std::uint64_t operation, const Target& target) {
    const Sample end = sample(operation, target);
    if (top_ && top_->operation < operation) run_.samples.push_back(*top_);
    if (run_.samples.empty() || run_.samples.back().operation < operation) {
      run_.samples.push_back(end);
    }
    top_.reset();
    const auto stats = target.stats();
    if (stats) {
      run_.peak_reserved = stats->peak_reserved;
      run_.hit_rate = stats->hit_rate();
    }
    run_.device_calls = target.device_calls();
    run_.device_ns_per_operation = static_cast<double>(run_.device_calls) *
                                   static_cast<double>(kDeviceCall.count()) /
                                   static_cast<double>(std::max<std::uint64_t>(1, run_.operations));
  }
  // Looks where many bytes are live; the highest such look of an interval is kept.
  void look_at_top(std::uint64_t operation, const Target& target) {
    const Sample seen = sample(operation, target);
    if (!top_ || seen.live > top_->live) top_ = seen;
  }

 private:
  Sample sample(std::uint64_t operation, const Target& target) {
    const auto stats = target.stats();
    const Bytes grown = saturating_sub(resident(), base_);
    run_.peak_resident = std::max(run_.peak_resident, grown);
    return {.operation = operation,
            .live = live_,
            .reserved = stats ? stats->reserved : direct_,
            .resident = grown,
            .fragmentation = stats ? stats->fragmentation() : 0};
  }
  Bytes resident() const {
    const auto reading = monitor_.residency();
    return reading.ok() ? reading->total : Bytes{};
  }
  void add(Bytes bytes, const Target& target) {
    ++run_.served;
    live_ += bytes;
    run_.peak_served = std::max(run_.peak_served, live_);
    if (!run_.direct || bytes.is_zero()) return;
    direct_ += target.device().good_size(bytes, target.alignment());
    run_.peak_reserved = std::max(run_.peak_reserved, direct_);
  }
  void drop(Bytes bytes, const Target& target) {
    live_ -= bytes;
    if (run_.direct) direct_ -= target.device().good_size(bytes, target.alignment());
  }
  void refuse(Bytes bytes, const Status& why) {
    if (run_.refused++ > 0) return;
    run_.refusal = why.message();
    run_.first_refused = bytes;
    run_.live_at_refusal = live_;
  }

  ReplayRun& run_;
  const PressureMonitor& monitor_;
  Bytes base_;
  std::optional<Sample> top_;  // of the interval so far
  Bytes live_;                 // served
  Bytes direct_;               // taken from the device without a pool
};

// Where in a batch most bytes are live.
std::ptrdiff_t highest(std::span<const Operation> batch) {
  double live = 0, most = -1;  // sums of a hostile trace pass 2^63
  std::ptrdiff_t place = 0;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    if (batch[i].kind == Operation::Kind::tick) continue;
    const auto amount = static_cast<double>(batch[i].amount);
    live += batch[i].kind == Operation::Kind::allocate ? amount : -amount;
    if (live <= most && i > 0) continue;
    most = live;
    place = static_cast<std::ptrdiff_t>(i);
  }
  return place;
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

double time_of(const ReplayRun& run) { return run.ns_per_operation + run.device_ns_per_operation; }

Series series_of(std::span<const Sample> samples) {
  if (samples.empty()) return {};
  Series series{.least = 1, .mean = 0, .most = 0};
  for (const Sample& sample : samples) {
    series.least = std::min(series.least, sample.fragmentation);
    series.most = std::max(series.most, sample.fragmentation);
    series.mean += sample.fragmentation / static_cast<double>(samples.size());
  }
  return series;
}

// Says no more than recommend() found: of which the chosen run is the least or the fastest.
std::string reason_for(const ReplayRun& best, const ReplayRun& smallest, bool fastest) {
  if (&best == &smallest) {
    return fmt::format(
        "reserves least{}, {}, and nothing within 15 % of that is more than 5 % faster",
        best.direct ? "" : " of the pools", to_string(best.peak_reserved));
  }
  return fmt::format("{} those that reserve at most 15 % more than the least of a pool, {} by {}",
                     fastest ? "fastest of" : "within 5 % of the fastest, and reserves less, of",
                     to_string(smallest.peak_reserved), smallest.name);
}

// All passes over one trace.
class Replayer {
 public:
  Replayer(const TraceSource& source, const Demand& demand, std::span<const PoolSetup> setups,
           const ReplayOptions& options)
      : source_(source), demand_(demand), setups_(setups), options_(options) {
    passes_ = static_cast<double>(setups.size()) * (1.0 + options.repeat);
    batch_.reserve(kBatch * 2 + 3);
  }

  Result<Replay> run() {
    Replay result;
    result.demand = demand_;
    for (const PoolSetup& setup : setups_) {
      result.runs.push_back(begin_run(setup));
      if (Status status = measure(setup, result.runs.back()); !status.ok()) return status;
    }
    if (Status status = time_all(result.runs); !status.ok()) return status;
    result.format = format_;
    result.all_refused =
        std::ranges::all_of(result.runs, [](const ReplayRun& run) { return run.refused > 0; });
    Recommendation best = recommend(result.runs);
    result.recommended = best.run;
    result.reason = std::move(best.reason);
    return result;
  }

 private:
  ReplayRun begin_run(const PoolSetup& setup) const {
    ReplayRun run;
    run.name = setup.name;
    run.spec = setup.spec;
    run.direct = setup.direct;
    run.operations = demand_.operations;
    run.peak_live = demand_.peak_live;
    run.samples.reserve(2 * std::size_t{options_.intervals} + 8);
    return run;
  }

  Result<Decoder> open(const PoolSetup& setup) {
    auto reader = source_();
    if (!reader.ok()) return reader.status();
    Decoder decoder{std::move(*reader), setup.direct ? Duration{} : setup.options.cleanup_interval};
    decoder.reserve(demand_.peak_blocks);
    format_ = decoder.format();
    return decoder;
  }

  // Whether a pass met another trace than was surveyed: by then, or at its end.
  bool changed(const Demand& met, bool at_end) const {
    if (met.peak_blocks > demand_.peak_blocks || met.operations > demand_.operations) return true;
    return at_end && (met.operations != demand_.operations || met.live != demand_.live ||
                      met.peak_live != demand_.peak_live);
  }

  // The next operations, and whether to go on.
  Result<std::size_t> next(Decoder& decoder, std::size_t most) {
    auto count = decoder.fill(batch_, most);
    if (!count.ok()) return count;
    if (changed(decoder.demand(), *count == 0)) {
      return Status{Code::failed_precondition, "the trace changed while it was replayed"};
    }
    if (options_.progress && !options_.progress((done_ + decoder.share()) / passes_)) {
      return Status{
          Code::interrupted,
          fmt::format("interrupted after {} of {} passes over the trace", done_, passes_)};
    }
    return count;
  }

  Status measure(const PoolSetup& setup, ReplayRun& run) {
    auto decoder = open(setup);
    if (!decoder.ok()) return decoder.status();
    Meter meter{run, monitor_};
    Target target{setup, options_};
    Blocks blocks{target, demand_.peak_blocks, options_.touch};
    const std::uint64_t step = std::max<std::uint64_t>(1, demand_.operations / options_.intervals);
    std::uint64_t at = 0;
    meter.look(at, target);
    for (std::uint64_t until = step;;) {
      const auto count = next(*decoder, std::min<std::uint64_t>(until - at, kBatch));
      if (!count.ok()) return count.status();
      if (*count == 0) break;
      const auto top = batch_.begin() + highest(batch_);
      for (auto it = batch_.begin(); it != batch_.end(); ++it) {
        meter.apply(*it, target, blocks);
        if (it->kind != Operation::Kind::tick) ++at;
        if (it == top) meter.look_at_top(at, target);
      }
      if (at < until) continue;
      meter.look(at, target);
      until += step;
    }
    meter.look(at, target);
    run.fragmentation = series_of(run.samples);
    ++done_;
    return {};
  }

  // CPU nanoseconds an operation of one pass.
  Result<double> time_once(const PoolSetup& setup) {
    auto decoder = open(setup);
    if (!decoder.ok()) return decoder.status();
    Target target{setup, options_};
    Blocks blocks{target, demand_.peak_blocks, options_.touch};
    std::int64_t spent = 0;
    for (;;) {
      const auto count = next(*decoder, kBatch);
      if (!count.ok()) return count.status();
      if (*count == 0) break;
      const std::int64_t start = thread_cpu_ns();
      apply_all(target, blocks);
      spent += thread_cpu_ns() - start;
    }
    ++done_;
    const auto operations = static_cast<double>(std::max<std::uint64_t>(1, demand_.operations));
    return static_cast<double>(spent) / operations;
  }

  void apply_all(Target& target, Blocks& blocks) {
    for (const Operation& operation : batch_) {
      switch (operation.kind) {
        case Operation::Kind::allocate:
          static_cast<void>(blocks.allocate(operation));  // refusals were counted before
          break;
        case Operation::Kind::free:
          blocks.free(operation);
          break;
        case Operation::Kind::tick:
          target.pass(Duration{static_cast<Duration::rep>(operation.amount)});
          break;
      }
    }
  }

  Status time_all(std::vector<ReplayRun>& runs) {
    std::vector<std::vector<double>> times(runs.size());
    for (std::uint32_t pass = 0; pass < options_.repeat; ++pass) {
      for (std::size_t i = 0; i < runs.size(); ++i) {
        const auto ns = time_once(setups_[i]);
        if (!ns.ok()) return ns.status();
        times[i].push_back(*ns);
      }
    }
    for (std::size_t i = 0; i < runs.size(); ++i) {
      runs[i].ns_per_operation = median(times[i]);
      runs[i].ns_least = *std::ranges::min_element(times[i]);
      runs[i].ns_most = *std::ranges::max_element(times[i]);
    }
    return {};
  }

  const TraceSource& source_;
  const Demand& demand_;
  const std::span<const PoolSetup> setups_;
  const ReplayOptions& options_;
  const PressureMonitor monitor_;
  std::vector<Operation> batch_;
  Format format_ = Format::json_lines;
  double done_ = 0;
  double passes_ = 1;
};

}  // namespace

Result<Replay> replay(const TraceSource& source, const Demand& demand,
                      std::span<const PoolSetup> setups, const ReplayOptions& options) {
  return Replayer{source, demand, setups, options}.run();
}

Recommendation recommend(std::span<const ReplayRun> runs) {
  if (std::ranges::all_of(runs, [](const ReplayRun& run) { return run.served == 0; })) {
    return {{}, "none served an allocation"};
  }
  constexpr double kRoom = 1.15;   // what speed may cost
  constexpr double kNoise = 1.05;  // times this close are alike
  const std::uint64_t refused = std::ranges::min_element(runs, {}, &ReplayRun::refused)->refused;
  std::vector<const ReplayRun*> left;
  for (const ReplayRun& run : runs) {
    if (run.refused == refused && run.served > 0) left.push_back(&run);
  }
  const auto reserved = [](const ReplayRun* run) {
    return static_cast<double>(run->peak_reserved.count());
  };
  const auto time = [](const ReplayRun* run) { return time_of(*run); };
  // No pool reserves as little as none; one is measured against other pools.
  const auto pool_first = [&](const ReplayRun* run) {
    return std::pair{run->direct, reserved(run)};
  };
  const ReplayRun* const smallest = *std::ranges::min_element(left, {}, pool_first);
  std::erase_if(left,
                [&](const ReplayRun* run) { return reserved(run) > kRoom * reserved(smallest); });
  const double fastest = time(*std::ranges::min_element(left, {}, time));
  std::erase_if(left, [&](const ReplayRun* run) { return time(run) > kNoise * fastest; });
  const ReplayRun* const best = *std::ranges::min_element(left, {}, reserved);

  std::string reason = reason_for(*best, *smallest, time(best) <= fastest);
  if (refused > 0) reason += fmt::format("; none refused fewer than its {}", refused);
  return {.run = static_cast<std::size_t>(best - runs.data()), .reason = std::move(reason)};
}

}  // namespace forebay::trace
