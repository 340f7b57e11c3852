// The ways in which long-running programs lose memory. Each function here loses some 32 KiB a call.
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <memory_resource>
#include <queue>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "forebay/standard.hpp"
#include "track/leak_stage.hpp"

#if defined(FOREBAY_HAS_DLPACK)
#include <dlpack/dlpack.h>
#endif

namespace forebay::testing {
namespace corpus {

using namespace literals;

constexpr Bytes kBlock = 32_KiB;

// A bare block, as C code would hold it. The stage knows of it, so that the test can end.
void* bare_block(LeakStage& stage, Bytes size = kBlock) {
  void* const block = stage.pool().allocate(size, kDefaultAlignment).value();
  stage.at_end([&stage, block, size] { stage.pool().deallocate(block, size, kDefaultAlignment); });
  return block;
}

// ---- Lost pointers

[[gnu::noinline]] void lost_pointer(LeakStage& stage) {
  void* const block = bare_block(stage);
  std::memset(block, 1, 16);
}

struct Half {
  explicit Half(LeakStage& stage) : weights(bare_block(stage)) {
    throw std::runtime_error{"no more"};  // ~Half() is not called
  }
  void* weights;
};
[[gnu::noinline]] void lost_in_failed_constructor(LeakStage& stage) {
  try {
    const Half half{stage};
  } catch (const std::runtime_error&) {
  }
}

void parse(int request) {
  if (request >= 0) throw std::invalid_argument{"request"};
}
[[gnu::noinline]] void lost_on_exception_path(LeakStage& stage) {
  try {
    void* const scratch = bare_block(stage);
    parse(1);
    stage.pool().deallocate(scratch, kBlock, kDefaultAlignment);
  } catch (const std::invalid_argument&) {
  }
}

struct Layer {
  void* activations = nullptr;
};
[[gnu::noinline]] void overwritten_member(LeakStage& stage) {
  stage.state<Layer>().activations = bare_block(stage);
}

[[gnu::noinline]] void early_return_past_free(LeakStage& stage) {
  void* const scratch = bare_block(stage);
  if (scratch != nullptr) return;
  stage.pool().deallocate(scratch, kBlock, kDefaultAlignment);
}

// ---- Cycles and counts

// As many shared blocks as are asked for, each the owner of the next, the last of the first.
void ring(LeakStage& stage, std::size_t length) {
  std::vector<SharedBuffer> all;
  for (std::size_t i = 0; i < length; ++i) {
    Buffer block = stage.pool().acquire(kBlock / length, {.contents = Contents::zeroed}).value();
    new (block.data()) SharedBuffer;
    all.push_back(SharedBuffer::share(std::move(block)).value());
  }
  for (std::size_t i = 0; i < length; ++i) {
    *static_cast<SharedBuffer*>(all[i].data()) = all[(i + 1) % length];
  }
  stage.at_end([first = static_cast<SharedBuffer*>(all[0].data())] {
    const SharedBuffer cut = std::move(*first);
    for (SharedBuffer at = cut; !at.empty();) {  // each lets go of the next before it ends
      at = std::move(*static_cast<SharedBuffer*>(at.data()));
    }
  });
}
[[gnu::noinline]] void cycle_with_itself(LeakStage& stage) { ring(stage, 1); }
[[gnu::noinline]] void cycle_of_two(LeakStage& stage) { ring(stage, 2); }
[[gnu::noinline]] void cycle_of_sixteen(LeakStage& stage) { ring(stage, 16); }

// One owner too many, of which nobody knows.
[[gnu::noinline]] void reference_never_dropped(LeakStage& stage) {
  auto used = SharedBuffer::share(stage.pool().acquire(kBlock).value()).value();
  auto* const extra = new SharedBuffer{used};
  stage.at_end([extra] { delete extra; });
}

// ---- Containers and registries that grow while they are reachable

[[gnu::noinline]] void map_that_grows(LeakStage& stage) {
  auto& map = stage.state<std::map<int, Buffer>>();
  map.emplace(static_cast<int>(map.size()), stage.pool().acquire(kBlock).value());
}

[[gnu::noinline]] void history_that_grows(LeakStage& stage) {
  stage.state<std::vector<Buffer>>().push_back(stage.pool().acquire(kBlock).value());
}

[[gnu::noinline]] void callbacks_that_stay(LeakStage& stage) {
  auto captured = std::make_shared<Buffer>(stage.pool().acquire(kBlock).value());
  stage.state<std::vector<std::function<void()>>>().emplace_back([captured] {});
}

struct Listener {
  Buffer inbox;
};
[[gnu::noinline]] void listeners_never_removed(LeakStage& stage) {
  stage.state<std::list<Listener>>().push_back({stage.pool().acquire(kBlock).value()});
}

[[gnu::noinline]] void cache_without_bound(LeakStage& stage) {
  auto& cache = stage.state<std::unordered_map<std::uint64_t, Buffer>>();
  const std::uint64_t key = stage.random()();
  if (!cache.contains(key)) cache.emplace(key, stage.pool().acquire(kBlock).value());
}

// A key that is not equal to itself is never found.
[[gnu::noinline]] void memo_of_what_is_not_a_number(LeakStage& stage) {
  auto& memo = stage.state<std::unordered_multimap<double, Buffer>>();
  const double key = std::numeric_limits<double>::quiet_NaN();
  if (memo.find(key) == memo.end()) memo.emplace(key, stage.pool().acquire(kBlock).value());
}

struct Interner {
  std::unique_ptr<PmrResource> resource;
  std::unique_ptr<std::pmr::list<std::pmr::string>> strings;
};
[[gnu::noinline]] void strings_interned_for_good(LeakStage& stage) {
  auto& interner = stage.state<Interner>();
  if (!interner.resource) {
    interner.resource = std::make_unique<PmrResource>(stage.shared_pool());
    interner.strings = std::make_unique<std::pmr::list<std::pmr::string>>(interner.resource.get());
  }
  for (int i = 0; i < 32; ++i) interner.strings->emplace_back(1000, 'x');
}

using Metrics = std::list<std::array<double, 127>, Allocator<std::array<double, 127>>>;
[[gnu::noinline]] void metrics_kept_for_good(LeakStage& stage) {
  auto& metrics = stage.state<std::unique_ptr<Metrics>>();
  if (!metrics) {
    metrics = std::make_unique<Metrics>(Allocator<std::array<double, 127>>{stage.shared_pool()});
  }
  for (int i = 0; i < 32; ++i) metrics->emplace_back();
}

[[gnu::noinline]] void producer_faster_than_consumer(LeakStage& stage) {
  auto& queue = stage.state<std::deque<Buffer>>();
  for (int i = 0; i < 3; ++i) queue.push_back(stage.pool().acquire(kBlock / 2).value());
  queue.pop_front();
}

[[gnu::noinline]] void retries_that_pile_up(LeakStage& stage) {
  auto& failed = stage.state<std::deque<Buffer>>();
  Buffer again = failed.empty() ? Buffer{} : std::move(failed.front());
  if (!failed.empty()) failed.pop_front();
  if (!again.empty()) failed.push_back(std::move(again));  // failed once more
  failed.push_back(stage.pool().acquire(kBlock).value());
}

struct Frames {
  std::vector<Buffer> shown;
  std::vector<Buffer> drawn;
};
// What is drawn is never shown, so that it is never cleared.
[[gnu::noinline]] void double_buffer_never_swapped(LeakStage& stage) {
  auto& frames = stage.state<Frames>();
  frames.shown.clear();
  frames.drawn.push_back(stage.pool().acquire(kBlock).value());
}

[[gnu::noinline]] void arena_never_reset(LeakStage& stage) {
  auto& arena = stage.state<std::unique_ptr<ReleaseScope>>();
  if (!arena) arena = std::make_unique<ReleaseScope>();
  for (int i = 0; i < 4; ++i) arena->hold(stage.pool().acquire(kBlock / 4).value());
}

[[gnu::noinline]] void sessions_never_closed(LeakStage& stage) {
  auto& sessions = stage.state<std::map<std::string, Buffer>>();
  const std::string request = "request-" + std::to_string(sessions.size());
  const OwnerScope owner{request};
  sessions.emplace(request, stage.pool().acquire(kBlock).value());
}

// ---- Time to live

struct Entry {
  Clock::TimePoint end;
  Buffer content;
};
// Meant as seconds, taken as hours.
[[gnu::noinline]] void entries_that_do_not_expire(LeakStage& stage) {
  auto& entries = stage.state<std::deque<Entry>>();
  const Clock::TimePoint now = stage.clock().now();
  while (!entries.empty() && entries.front().end < now) entries.pop_front();
  entries.push_back({now + std::chrono::hours{600}, stage.pool().acquire(kBlock).value()});
}

// A timer that is set anew by every look at the entry.
[[gnu::noinline]] void expiry_put_off_by_a_probe(LeakStage& stage) {
  auto& entries = stage.state<std::deque<Entry>>();
  const Clock::TimePoint now = stage.clock().now();
  for (Entry& entry : entries) entry.end = now + std::chrono::minutes{30};
  while (!entries.empty() && entries.front().end < now) entries.pop_front();
  entries.push_back({now + std::chrono::minutes{30}, stage.pool().acquire(kBlock).value()});
}

// ---- Inside pools

// A bump allocator over mapped memory, which gives nothing back to where it has it from.
struct Bump {
  std::shared_ptr<MemoryResource> upstream = track(Device::host());
  std::vector<std::pair<void*, Bytes>> chunks;
  Bytes left;
};
[[gnu::noinline]] void blocks_of_a_mapped_pool(LeakStage& stage) {
  auto& bump = stage.state<Bump>();
  if (bump.left < kBlock) {
    constexpr Bytes kChunk = 128_KiB;
    void* const chunk = bump.upstream->allocate(kChunk, kDefaultAlignment).value();
    bump.chunks.emplace_back(chunk, kChunk);
    bump.left = kChunk;
    stage.at_end([upstream = bump.upstream, chunk] {
      upstream->deallocate(chunk, kChunk, kDefaultAlignment);
    });
  }
  bump.left -= kBlock;
}

class Malloc final : public MemoryResource {
 public:
  std::string_view name() const noexcept override { return "malloc"; }
  bool host_accessible() const noexcept override { return true; }

 private:
  Result<void*> do_allocate(Bytes bytes, Bytes alignment, Stream /*stream*/) override {
    const Bytes whole = align_up(bytes, alignment).value_or(bytes);
    void* const block = std::aligned_alloc(alignment.count(), whole.count());
    if (block == nullptr) return Status{Code::memory_refused, "malloc: no memory"};
    return block;
  }
  void do_deallocate(void* block, Bytes /*bytes*/, Bytes /*alignment*/,
                     Stream /*stream*/) noexcept override {
    std::free(block);
  }
};
struct Cells {
  std::shared_ptr<Pool> pool =
      Pool::create(std::make_shared<Malloc>(), {.name = "cells", .cleanup_interval = {}});
};
[[gnu::noinline]] void blocks_of_a_pool_over_malloc(LeakStage& stage) {
  auto& cells = stage.state<Cells>();
  for (int i = 0; i < 8; ++i) {
    void* const cell = cells.pool->allocate(4_KiB, kDefaultAlignment).value();
    stage.at_end([pool = cells.pool, cell] { pool->deallocate(cell, 4_KiB, kDefaultAlignment); });
  }
}

[[gnu::noinline]] void tensor_never_released(LeakStage& stage) {
  auto& lost = stage.state<std::vector<Tensor>>();
  lost.push_back(stage.tensors().acquire({128, 64}, DataType::f32).value());
}

[[gnu::noinline]] void block_that_may_move_never_released(LeakStage& stage) {
  auto& lost = stage.state<std::vector<RelocatableBuffer>>();
  lost.push_back(stage.pool().acquire_relocatable(kBlock).value());
}

#if defined(FOREBAY_HAS_DLPACK)
// The other library never calls the deleter.
[[gnu::noinline]] void capsule_never_deleted(LeakStage& stage) {
  Tensor tensor = stage.tensors().acquire({128, 64}, DataType::f32).value();
  DLManagedTensor* const capsule = to_dlpack(std::move(tensor)).value();
  stage.at_end([capsule] { capsule->deleter(capsule); });
}
#endif

// ---- Threads

thread_local std::vector<void*> t_kept;  // bare pointers: their owner's end frees none

[[gnu::noinline]] void keep_for_this_thread(LeakStage& stage) {
  t_kept.push_back(bare_block(stage));
}
[[gnu::noinline]] void cache_of_a_thread_lost_at_its_end(LeakStage& stage) {
  std::thread worker{[&stage, context = TagContext::current()] {
    const TagContext::Scope scope{context};
    keep_for_this_thread(stage);
  }};
  worker.join();
}

// ---- Budgets and fragmentation

[[gnu::noinline]] void orphaned_reservation(LeakStage& stage) {
  stage.state<std::vector<Reservation>>().push_back(stage.budget().reserve(kBlock).value());
}

// Messages become longer as a conversation goes on. Of each burst a few stay, and of each slab one
// is enough: little is live, much cannot go back, and blocks of another size cannot use it.
struct Messages {
  std::shared_ptr<Pool> pool =
      Pool::create(Device::host(), {.name = "messages", .cleanup_interval = {}});
  std::vector<Buffer> survivors;
  double bytes = 512;
};
[[gnu::noinline]] void survivors_in_every_slab(LeakStage& stage) {
  auto& messages = stage.state<Messages>();
  const Bytes size{static_cast<std::uint64_t>(messages.bytes)};
  messages.bytes = messages.bytes > 30000 ? 512 : messages.bytes * 1.025;
  std::vector<Buffer> burst;
  while (burst.size() * size.count() < (64U << 10)) {
    burst.push_back(messages.pool->acquire(size).value());
  }
  for (std::size_t i = 0; i < burst.size(); i += 32) {
    messages.survivors.push_back(std::move(burst[i]));
  }
  burst.clear();
  messages.pool->release_unused();
}

}  // namespace corpus

const std::vector<LeakKind>& leak_kinds() {
#define FOREBAY_KIND(name) \
  { #name, "tag", corpus::name }
  static const std::vector<LeakKind> kinds {
    FOREBAY_KIND(lost_pointer), FOREBAY_KIND(lost_in_failed_constructor),
        FOREBAY_KIND(lost_on_exception_path), FOREBAY_KIND(overwritten_member),
        FOREBAY_KIND(early_return_past_free), FOREBAY_KIND(cycle_with_itself),
        FOREBAY_KIND(cycle_of_two), FOREBAY_KIND(cycle_of_sixteen),
        FOREBAY_KIND(reference_never_dropped), FOREBAY_KIND(map_that_grows),
        FOREBAY_KIND(history_that_grows), FOREBAY_KIND(callbacks_that_stay),
        FOREBAY_KIND(listeners_never_removed), FOREBAY_KIND(cache_without_bound),
        FOREBAY_KIND(memo_of_what_is_not_a_number),
        {"strings_interned_for_good", "tag", corpus::strings_interned_for_good,
         32 * (16 + sizeof(std::pmr::string) + 1001)},
        {"metrics_kept_for_good", "tag", corpus::metrics_kept_for_good, 32 * (16 + 127 * 8)},
        FOREBAY_KIND(producer_faster_than_consumer), FOREBAY_KIND(retries_that_pile_up),
        FOREBAY_KIND(double_buffer_never_swapped), FOREBAY_KIND(arena_never_reset),
        FOREBAY_KIND(sessions_never_closed), FOREBAY_KIND(entries_that_do_not_expire),
        FOREBAY_KIND(expiry_put_off_by_a_probe), FOREBAY_KIND(blocks_of_a_mapped_pool),
        FOREBAY_KIND(blocks_of_a_pool_over_malloc), FOREBAY_KIND(tensor_never_released),
        FOREBAY_KIND(block_that_may_move_never_released),
#if defined(FOREBAY_HAS_DLPACK)
        FOREBAY_KIND(capsule_never_deleted),
#endif
        {"cache_of_a_thread_lost_at_its_end", "tag", corpus::cache_of_a_thread_lost_at_its_end},
        {"survivors_in_every_slab", "fragmentation", corpus::survivors_in_every_slab,
         512 + 524 + 537 + 551},
        {"orphaned_reservation", "budget", corpus::orphaned_reservation, 0},
  };
#undef FOREBAY_KIND
  return kinds;
}

}  // namespace forebay::testing
