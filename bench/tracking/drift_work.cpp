// Counters against an oracle: two threads take and drop under 64 tags and owners, also what the
// other one took, and each keeps books of its own.

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "forebay/pool.hpp"
#include "forebay/tracker.hpp"
#include "pool/measure.hpp"
#include "tracking/work.hpp"

namespace forebay::bench {
namespace {

constexpr std::size_t kTags = 64;
constexpr std::size_t kOwners = 64;
constexpr std::size_t kPairs = kTags * kOwners;
constexpr std::size_t kSlots = 4096;
constexpr std::uint64_t kSwap = 1 << 15;  // operations between meetings of the threads

struct Book {
  std::int64_t live = 0;
  std::int64_t live_blocks = 0;
  std::int64_t allocated = 0;
  std::int64_t allocations = 0;
};
using Books = std::vector<Book>;

struct Held {
  Buffer buffer;
  std::int64_t bytes = 0;
  std::size_t pair = 0;
};

std::string tag_name(std::size_t pair) { return "tag" + std::to_string(pair % kTags); }
std::string owner_name(std::size_t pair) { return "owner" + std::to_string(pair / kTags); }

// Where the threads leave half of their blocks for each other.
struct Meeting {
  std::mutex mutex;
  std::vector<Held> left;
};

class Worker {
 public:
  Worker(Pool& pool, const std::vector<TagContext>& contexts, Meeting& meeting,
         std::uint64_t number)
      : pool_(pool), contexts_(contexts), meeting_(meeting), random_(number) {}

  void run(std::uint64_t operations) {
    for (std::uint64_t i = 0; i != operations; ++i) {
      Held& held = slots_[random_() % kSlots];
      held.buffer.empty() ? take(held) : drop(held);
      if (i % kSwap == kSwap - 1) meet();
    }
  }
  const Books& books() const { return books_; }
  std::vector<Held>& slots() { return slots_; }
  void drop(Held& held) {
    Book& book = books_[held.pair];
    book.live -= held.bytes;
    --book.live_blocks;
    held.buffer.reset();
  }

 private:
  void take(Held& held) {
    const std::uint64_t now = random_();
    held.pair = now % kPairs;
    const TagContext::Scope scope{contexts_[held.pair]};
    held.buffer = pool_.acquire(Bytes{16 + (now >> 32) % kMost}).value();
    held.bytes = static_cast<std::int64_t>(pool_.usable_size(held.buffer.data()).count());
    Book& book = books_[held.pair];
    book.live += held.bytes;
    ++book.live_blocks;
    book.allocated += held.bytes;
    ++book.allocations;
  }

  void meet() {
    const std::scoped_lock lock{meeting_.mutex};
    auto& left = meeting_.left;
    left.resize(kSlots / 2);
    std::swap_ranges(left.begin(), left.end(), slots_.begin());
  }

  static constexpr std::uint64_t kMost = 8192;
  Pool& pool_;
  const std::vector<TagContext>& contexts_;
  Meeting& meeting_;
  std::mt19937_64 random_;
  Books books_ = Books(kPairs);
  std::vector<Held> slots_ = std::vector<Held>(kSlots);
};

std::vector<TagContext> make_contexts() {
  std::vector<TagContext> contexts;
  for (std::size_t pair = 0; pair != kPairs; ++pair) {
    const TagScope tag{tag_name(pair)};
    const OwnerScope owner{owner_name(pair)};
    contexts.push_back(TagContext::current());
  }
  return contexts;
}

double apart(std::uint64_t ours, std::int64_t theirs) {
  return std::abs(static_cast<double>(static_cast<std::int64_t>(ours) - theirs));
}

// Sums of what the tracker says and what the books say differently.
Figures compare(const Books& first, const Books& second) {
  std::map<std::pair<std::string, std::string>, TagStats> stats;
  for (TagStats& tag : Tracker::tags()) stats[{tag.tag, tag.owner}] = tag;
  Figures drift;
  for (std::size_t pair = 0; pair != kPairs; ++pair) {
    const TagStats& tag = stats[{tag_name(pair), owner_name(pair)}];
    const Book& one = first[pair];
    const Book& two = second[pair];
    drift["live"] += apart(tag.live.count(), one.live + two.live);
    drift["live_blocks"] += apart(tag.live_blocks, one.live_blocks + two.live_blocks);
    drift["allocated"] += apart(tag.allocated.count(), one.allocated + two.allocated);
    drift["allocations"] += apart(tag.allocations, one.allocations + two.allocations);
    drift["blocks_seen"] += static_cast<double>(tag.live_blocks);
    drift["allocations_seen"] += static_cast<double>(tag.allocations);
  }
  return drift;
}

}  // namespace

Figures drift_work(const WorkOptions& options) {
  const auto contexts = make_contexts();
  const auto pool = Pool::create(Device::host());
  Meeting meeting;
  Worker first{*pool, contexts, meeting, 1};
  Worker second{*pool, contexts, meeting, 2};
  const double start = process_cpu_ns();
  std::thread other{[&] { first.run(options.count / 2); }};
  second.run(options.count / 2);
  other.join();
  const double took = process_cpu_ns() - start;
  Figures figures = compare(first.books(), second.books());
  for (auto* const blocks : {&first.slots(), &second.slots(), &meeting.left}) {
    for (Held& held : *blocks) {
      if (!held.buffer.empty()) first.drop(held);
    }
  }
  for (const auto& [name, value] : compare(first.books(), second.books())) {
    figures[name + "_after"] = value;
  }
  figures["cpu_ns"] = took / static_cast<double>(options.count);
  return figures;
}

}  // namespace forebay::bench
