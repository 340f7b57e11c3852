// Generated programs: none that is clean is said to leak; one with a planted leak is, exactly.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "forebay/buffer.hpp"
#include "forebay/pool.hpp"
#include "forebay/tensor.hpp"
#include "forebay/tracker.hpp"

namespace forebay {
namespace {

using namespace literals;

// Programs of each kind; FOREBAY_LEAK_PROGRAMS=1000 for the whole test.
unsigned programs() {
  const char* const wanted = std::getenv("FOREBAY_LEAK_PROGRAMS");
  return wanted == nullptr ? 200 : static_cast<unsigned>(std::strtoul(wanted, nullptr, 10));
}

constexpr std::array<const char*, 4> kTags{"decoder", "encoder", "cache", "io"};
constexpr int kOperations = 60;
constexpr unsigned kThreads = 3;

// What threads hand to each other.
struct Exchange {
  std::mutex mutex;
  std::vector<Buffer> buffers;
  std::vector<SharedBuffer> shared;
};

struct Program {
  std::shared_ptr<Pool> pool;
  std::shared_ptr<TensorPool> tensors;
  Exchange exchange;
  // The leak: at which operation of which thread; none if there is no such thread.
  unsigned leaking_thread = kThreads;
  int leaking_operation = 0;
  Bytes leaked;
  std::string tag{};  // that the leak was under
  void* block = nullptr;
};

[[gnu::noinline]] void planted_leak(Program& program) {
  program.block = program.pool->allocate(program.leaked, kDefaultAlignment).value();
  program.tag = "leaker";
}

// One thread's part: takes, gives back, shares, moves, hands over, in nested scopes.
class Worker {
 public:
  Worker(Program& program, unsigned number, std::uint64_t seed)
      : program_(program), number_(number), random_(seed + number) {}

  void run() {
    for (int operation = 0; operation < kOperations; ++operation) {
      if (number_ == program_.leaking_thread && operation == program_.leaking_operation) {
        const TagScope tag{"leaker"};
        planted_leak(program_);
      }
      const TagScope tag{kTags[pick(kTags.size())]};
      if (pick(4) == 0) {
        const OwnerScope owner{"request-" + std::to_string(pick(5))};
        const TagScope inner{"inner"};
        step();
      } else {
        step();
      }
    }
  }

 private:
  std::size_t pick(std::size_t below) { return random_() % below; }
  Bytes size() { return Bytes{pick(8) == 0 ? 40000 + pick(300000) : 1 + (random_() & 0x3fff)}; }

  void step() {
    switch (pick(9)) {
      case 0:
      case 1:
        mine_.push_back(program_.pool->acquire(size()).value());
        break;
      case 2:
        if (!mine_.empty())
          mine_.erase(mine_.begin() + static_cast<std::ptrdiff_t>(pick(mine_.size())));
        break;
      case 3: {
        ReleaseScope scope;
        for (int i = 0; i < 3; ++i) scope.hold(program_.pool->acquire(size()).value());
        break;
      }
      case 4:
        shared_.push_back(SharedBuffer::share(program_.pool->acquire(size()).value()).value());
        if (pick(2) == 0) shared_.push_back(shared_.back());
        break;
      case 5:
        hand_over();
        break;
      case 6:
        take_over();
        break;
      case 7: {
        auto block = program_.pool->acquire_relocatable(size()).value();
        const auto pin = block.pin();
        static_cast<char*>(pin.data())[0] = 1;
        break;
      }
      default: {
        const Tensor tensor = program_.tensors->acquire({1 + pick(8), 64}, DataType::f32).value();
        break;
      }
    }
  }
  void hand_over() {
    const std::lock_guard lock{program_.exchange.mutex};
    if (!mine_.empty()) {
      program_.exchange.buffers.push_back(std::move(mine_.back()));
      mine_.pop_back();
    }
    if (!shared_.empty()) program_.exchange.shared.push_back(shared_.back());
  }
  void take_over() {
    const std::lock_guard lock{program_.exchange.mutex};
    if (!program_.exchange.buffers.empty()) {
      mine_.push_back(std::move(program_.exchange.buffers.back()));
      program_.exchange.buffers.pop_back();
    }
    program_.exchange.shared.clear();
  }

  Program& program_;
  const unsigned number_;
  std::mt19937_64 random_;
  std::vector<Buffer> mine_;
  std::vector<SharedBuffer> shared_;
};

class GeneratedPrograms : public ::testing::Test {
 protected:
  GeneratedPrograms() {
    program_.pool = Pool::create(Device::host(), {.name = "blocks", .cleanup_interval = {}});
  }
  // With a scope that looks for leaks around it, and a mark.
  void run(std::uint64_t seed) {
    mark_ = Tracker::mark();
    in_scope_ = {};
    program_.tensors = TensorPool::create(program_.pool, {.name = "tensors"});
    const LeakScope scope{"program", [this](const LeakReport& report) { in_scope_ = report; }};
    std::vector<std::thread> threads;
    const unsigned others = 1 + static_cast<unsigned>(seed % kThreads);
    for (unsigned number = 1; number < others; ++number) {
      threads.emplace_back([this, number, seed] { Worker{program_, number, seed}.run(); });
    }
    Worker{program_, 0, seed}.run();
    for (std::thread& thread : threads) thread.join();
    program_.exchange.buffers.clear();
    program_.exchange.shared.clear();
    program_.tensors.reset();
  }
  Program program_;
  Mark mark_;
  LeakReport in_scope_;
};

TEST_F(GeneratedPrograms, ThatAreCleanAreNotReported) {
  for (std::uint64_t seed = 1; seed <= programs(); ++seed) {
    run(seed);
    EXPECT_TRUE(in_scope_.empty()) << "program " << seed << '\n' << in_scope_.to_text();
    const LeakReport report = Tracker::since(mark_);
    EXPECT_TRUE(report.empty()) << "program " << seed << '\n' << report.to_text();
  }
}

TEST_F(GeneratedPrograms, WithAPlantedLeakAreReportedWithJustThat) {
  for (std::uint64_t seed = 1; seed <= programs(); ++seed) {
    std::mt19937_64 random{seed};
    const auto threads = 1 + static_cast<unsigned>(seed % kThreads);
    program_.leaking_thread = static_cast<unsigned>(random() % threads);
    program_.leaking_operation = static_cast<int>(random() % kOperations);
    program_.leaked = Bytes{1 + random() % (seed % 10 == 0 ? 1000000 : 20000)};
    run(seed);
    ASSERT_EQ(in_scope_.groups.size(), 1U) << "program " << seed << '\n' << in_scope_.to_text();
    const LeakGroup& group = in_scope_.groups[0];
    EXPECT_EQ(group.tag, "leaker") << "program " << seed;
    EXPECT_EQ(group.owner, "");
    EXPECT_EQ(group.source, "blocks");
    EXPECT_EQ(group.bytes, static_cast<double>(program_.leaked.count())) << "program " << seed;
    EXPECT_EQ(group.blocks, 1);
    EXPECT_TRUE(group.exact);
    bool in_place = false;
    for (const Frame& frame : Tracker::frames_of(group.stack)) {
      in_place |= frame.function.find("planted_leak") != std::string::npos;
    }
    EXPECT_TRUE(in_place) << "program " << seed << '\n' << in_scope_.to_text();
    program_.pool->deallocate(program_.block, program_.leaked, kDefaultAlignment);
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace forebay
