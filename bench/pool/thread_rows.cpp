// Rows about two threads at once.
//
// A machine with two cores that others use too gives two threads less than two cores, so two
// figures are kept: by the wall, and by CPU time (what two cores of their own would give). The
// one by the wall is judged if the threads had a core each for 90 % of the time, else the
// other; the table says which.
#include <fmt/format.h>

#include <atomic>
#include <barrier>
#include <chrono>
#include <cstring>
#include <thread>

#include "pool/replay.hpp"
#include "pool/rows.hpp"

namespace forebay::bench {
namespace {

struct Took {
  double wall = 0;  // ns
  double cpu = 0;   // ns of all threads together
};

// Notes the time whenever all threads have arrived, before any goes on.
struct Lap {
  Took* took;
  void operator()() noexcept {
    took->wall = wall_ns() - took->wall;
    took->cpu = process_cpu_ns() - took->cpu;
  }
};

// make(i) gets thread i ready; then all do their work() at once; then each clears up.
template <typename Make>
Took work_together(int count, Make make) {
  Took took;  // first the time of the start, then what passed since
  std::barrier gate{count, Lap{&took}};
  std::atomic<bool> failed{false};
  std::vector<std::thread> threads;
  threads.reserve(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) {
    threads.emplace_back([&, i] {
      auto job = make(i);
      gate.arrive_and_wait();
      try {
        job->work();
      } catch (const std::bad_alloc&) {
        failed = true;
      }
      gate.arrive_and_wait();
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (failed) throw std::bad_alloc{};
  return took;
}

// `run(threads)` does the work and says what it took and how many operations that were. The
// arm's figure is CPU ns an operation on two threads.
struct Outcome {
  Took took;
  double operations = 0;
};

struct ThreadArm {
  std::function<Outcome(int)> run;
  Samples one_wall, one_cpu, two_wall, two_cpu, cores;
};

void measure(ThreadArm& arm) {
  for (const int threads : {1, 2}) {
    const Outcome outcome = arm.run(threads);
    (threads == 1 ? arm.one_wall : arm.two_wall).add(outcome.took.wall / outcome.operations);
    (threads == 1 ? arm.one_cpu : arm.two_cpu).add(outcome.took.cpu / outcome.operations);
    if (threads == 2) arm.cores.add(outcome.took.cpu / outcome.took.wall);
  }
}

double speedup_by_wall(const ThreadArm& arm) {
  return arm.one_wall.median() / arm.two_wall.median();
}
double speedup_by_cpu(const ThreadArm& arm) {
  return 2 * arm.one_cpu.median() / arm.two_cpu.median();
}

// make(ops) returns the run of a contender.
template <typename Make>
void thread_part(Row& row, const Settings& settings, const std::string& title, Make make) {
  constexpr double kOwnCore = 1.8;
  std::vector<std::shared_ptr<ThreadArm>> scaling;
  auto arms =
      make_arms(settings.peers, {.synchronized = true}, [&](auto ops) -> std::function<double()> {
        auto arm = std::make_shared<ThreadArm>();
        arm->run = make(std::move(ops));
        scaling.push_back(arm);
        return [arm] {
          measure(*arm);
          return arm->two_cpu.values().back();
        };
      });
  run_rounds(arms, settings.rounds);
  Part part = part_of(row, title, "CPU ns/op on two threads", arms);
  for (std::size_t i = 0; i < arms.size(); ++i) {
    if (arms[i].samples.empty()) continue;
    const ThreadArm& arm = *scaling[i];
    part.figures[i].note = fmt::format(
        "wall: one {} two {} ({:.2f}×); CPU: one {} ({:.2f}×); {:.2f} cores",
        number(arm.one_wall.median()), number(arm.two_wall.median()), speedup_by_wall(arm),
        number(arm.one_cpu.median()), speedup_by_cpu(arm), arm.cores.median());
    if (arms[i].role != Role::ours) continue;
    const bool had_cores = arm.cores.median() >= kOwnCore;
    const double times = had_cores ? speedup_by_wall(arm) : speedup_by_cpu(arm);
    judge(part, had_cores ? "throughput, by the wall" : "throughput, by CPU time: machine busy",
          fmt::format("{:.2f}× one thread", times), "≥ 1.8×", times >= 1.8);
  }
  for (const Arm& arm : arms) {
    if (arm.ours != nullptr) arm.ours->pool->validate();
  }
  judge_by_best(part, 1.0, "cost on two threads");
  row.parts.push_back(std::move(part));
}

// A ring between two threads, or of one with itself. Whoever finds it full or empty sleeps,
// so that waiting costs no CPU time.
template <typename Item>
class Ring {
 public:
  static constexpr std::uint64_t kSize = 4096;

  void push(Item item, std::uint64_t at) {
    while (at - taken_.load(std::memory_order_acquire) >= kSize) rest();
    items_[at % kSize] = std::move(item);
    // Not one by one: the other side would fetch the line for each.
    if (at % kBatch == kBatch - 1) put_.store(at + 1, std::memory_order_release);
  }
  Item pop(std::uint64_t at) {
    while (put_.load(std::memory_order_acquire) <= at) {
      if (closed_.load(std::memory_order_relaxed)) throw std::bad_alloc{};
      rest();
    }
    Item item = std::move(items_[at % kSize]);
    if (at % kBatch == kBatch - 1) taken_.store(at + 1, std::memory_order_release);
    return item;
  }
  // Nothing more will come: who waits is told.
  void close() { closed_ = true; }

 private:
  static constexpr std::uint64_t kBatch = 32;
  static void rest() { std::this_thread::sleep_for(std::chrono::microseconds{20}); }

  alignas(64) std::atomic<std::uint64_t> put_{0};
  alignas(64) std::atomic<std::uint64_t> taken_{0};
  alignas(64) std::array<Item, kSize> items_{};
  std::atomic<bool> closed_{false};
};

// What passes through the pipe: the tensor sizes up to 1 MiB, in turn.
class PipeSizes {
 public:
  PipeSizes() : sizes_(tensor_sizes()) {
    while (sizes_.back() > 1U << 20) sizes_.pop_back();
  }
  std::uint32_t at(std::uint64_t i) const { return sizes_[i * 7 % sizes_.size()]; }

 private:
  std::vector<std::uint32_t> sizes_;
};

template <typename Ops>
struct Pipe {
  using Block = typename Ops::Block;
  Pipe(Ops given, std::uint64_t total, bool marking)
      : ops(std::move(given)), count(total), marks(marking) {}

  Ops ops;
  std::uint64_t count;  // a multiple of the ring's batch
  bool marks;           // each block carries its number, and the consumer looks
  PipeSizes sizes;
  Ring<Block> ring;
  std::uint64_t faults = 0;  // the consumer's: blocks with another number

  void produce(std::uint64_t from, std::uint64_t to) {
    for (std::uint64_t i = from; i < to; ++i) {
      Block block = ops.take(sizes.at(i));
      if (marks) std::memcpy(Ops::address(block), &i, sizeof i);
      ring.push(std::move(block), i);
    }
  }
  void consume(std::uint64_t from, std::uint64_t to) {
    for (std::uint64_t i = from; i < to; ++i) {
      Block block = ring.pop(i);
      if (marks) faults += std::memcmp(Ops::address(block), &i, sizeof i) == 0 ? 0 : 1;
      ops.give(block, sizes.at(i));
    }
  }
};

// One side of the pipe, or both in turn.
template <typename Ops>
class PipeJob {
 public:
  enum class Side { producer, consumer, both };
  PipeJob(Side side, Pipe<Ops>* pipe) : side_(side), pipe_(pipe) {}

  void work() {
    const std::uint64_t count = pipe_->count;
    if (side_ == Side::producer) return produce_all();
    if (side_ == Side::consumer) return pipe_->consume(0, count);
    constexpr std::uint64_t kTurn = Ring<typename Ops::Block>::kSize / 2;
    for (std::uint64_t i = 0; i < count; i += kTurn) {
      pipe_->produce(i, std::min(i + kTurn, count));
      pipe_->consume(i, std::min(i + kTurn, count));
    }
  }

 private:
  void produce_all() {
    try {
      pipe_->produce(0, pipe_->count);
    } catch (const std::bad_alloc&) {
      pipe_->ring.close();
      throw;
    }
  }

  Side side_;
  Pipe<Ops>* pipe_;
};

template <typename Ops>
Took run_pipe(Pipe<Ops>& pipe, int threads) {
  using Job = PipeJob<Ops>;
  return work_together(threads, [&](int thread) {
    const auto side = threads == 1  ? Job::Side::both
                      : thread == 0 ? Job::Side::producer
                                    : Job::Side::consumer;
    return std::make_unique<Job>(side, &pipe);
  });
}

void check_pipe(Row& row, const Settings& settings, std::uint64_t count) {
  for_each_contender(
      settings.peers, {.nobody = false, .synchronized = true},
      [&](const std::string& name, Role, const std::shared_ptr<Ours>&, auto ops) {
        const auto pipe = std::make_unique<Pipe<decltype(ops)>>(std::move(ops), count, true);
        run_pipe(*pipe, 2);
        if (pipe->faults == 0) return;
        row.failures.push_back(fmt::format("{}: {} blocks lost their content", name, pipe->faults));
      });
}

template <typename Ops>
struct StepJob {
  StepJob(Ops ops, const Trace& trace, int times) : player(std::move(ops), trace), repeats(times) {
    player.template play<false>();  // warm
  }
  void work() {
    for (int i = 0; i < repeats; ++i) player.template play<false>();
  }
  Player<Ops> player;
  int repeats;
};

}  // namespace

Row threads_row(const Settings& settings) {
  Row row;
  const Trace trace = transformer_steps(settings.scaled(20));
  const int repeats = static_cast<int>(settings.scaled(20));
  thread_part(row, settings, "transformer step on each of two threads", [&](auto ops) {
    using Ops = decltype(ops);
    return [ops, &trace, repeats](int threads) {
      const Took took = work_together(
          threads, [&](int) { return std::make_unique<StepJob<Ops>>(ops, trace, repeats); });
      return Outcome{took, trace.operations() * repeats * threads};
    };
  });
  return row;
}

Row pipe_row(const Settings& settings) {
  Row row;
  const std::uint64_t count = 4096ULL * settings.scaled(100, 2);
  check_pipe(row, settings, 4096ULL * settings.scaled(10));
  thread_part(row, settings, "producer and consumer, tensor sizes up to 1 MiB", [&](auto ops) {
    using Ops = decltype(ops);
    return [ops, count](int threads) {
      const auto pipe = std::make_unique<Pipe<Ops>>(ops, count, false);
      return Outcome{run_pipe(*pipe, threads), 2.0 * static_cast<double>(count)};
    };
  });
  return row;
}

}  // namespace forebay::bench
