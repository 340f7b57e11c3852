// Who is compared: Forebay's pool through each of its doors, the peers, and nobody (what the
// work costs by itself). Each is an "Ops" of replay.hpp.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <memory_resource>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "forebay/budget.hpp"
#include "forebay/pool.hpp"
#include "pool/measure.hpp"
#include "pool/peers.hpp"

namespace forebay::bench {

// A pool over a metered host, as a program with a line has it, or over the bare host.
struct Ours {
  explicit Ours(bool metered = true, PoolOptions options = {}, Bytes limit = Bytes{1ULL << 43})
      : budget("bench", {.limit = limit}),
        pool(Pool::create(metered ? budget.meter(Device::host()) : Device::host(),
                          std::move(options))) {}
  Budget budget;
  std::shared_ptr<Pool> pool;
};

// Through allocate and deallocate, as a malloc is used. Also for devices.
struct ResourceOps {
  using Block = void*;
  MemoryResource* resource;
  Block take(std::size_t bytes) {
    const auto block = resource->allocate(Bytes{bytes});
    if (!block) throw MemoryRefused{block.status()};
    return *block;
  }
  void give(Block block, std::size_t bytes) { resource->deallocate(block, Bytes{bytes}); }
  static void* address(Block block) { return block; }
};

// Through acquire and the end of the Buffer.
struct BufferOps {
  using Block = Buffer;
  Pool* pool;
  Block take(std::size_t bytes) { return pool->acquire(Bytes{bytes}).value(); }
  void give(Block& block, std::size_t) { block.reset(); }
  static void* address(const Block& block) { return block.data(); }
};

struct MallocOps {
  using Block = void*;
  Peer::Take take_from;
  Peer::Give give_to;
  Block take(std::size_t bytes) {
    void* const block = take_from(bytes);
    if (block == nullptr) throw std::bad_alloc{};
    return block;
  }
  void give(Block block, std::size_t) { give_to(block); }
  static void* address(Block block) { return block; }
};

struct SizedMallocOps : MallocOps {
  Peer::GiveSized give_to_sized;
  void give(Block block, std::size_t bytes) { give_to_sized(block, bytes); }
};

struct FlaggedMallocOps : MallocOps {
  Peer::GiveFlagged give_to_flagged;
  void give(Block block, std::size_t bytes) { give_to_flagged(block, bytes, 0); }
};

struct PmrOps {
  using Block = void*;
  std::shared_ptr<std::pmr::memory_resource> resource;
  Block take(std::size_t bytes) { return resource->allocate(bytes); }
  void give(Block block, std::size_t bytes) { resource->deallocate(block, bytes); }
  static void* address(Block block) { return block; }
};

// Nobody: one and the same address for all. Not for work that writes to its blocks.
struct NothingOps {
  using Block = void*;
  static Block take(std::size_t bytes) {
    static std::array<std::byte, 64> place;
    keep(&bytes);
    return place.data();
  }
  static void give(Block block, std::size_t) { keep(block); }
  static void* address(Block block) { return block; }
};

// In a comparison: the one that is judged, those it is judged by, and those just shown.
enum class Role { ours, peer, shown };
const char* to_string(Role role);

struct Arm {
  std::string name;
  Role role = Role::peer;
  std::shared_ptr<Ours> ours;     // null for others; ends after round
  std::function<double()> round;  // one round; the figure
  Samples samples;
  std::string trouble;     // why it has no figure
  bool only_once = false;  // too slow for all rounds: its figure is that of the first
};

// Which of Forebay's doors is judged, and who else runs.
struct Cast {
  enum class Door { raw, buffers } judged = Door::raw;
  bool nobody = true;
  bool synchronized = false;  // pmr for several threads
  PoolOptions options = {};
};

inline constexpr const char* kRaw = "forebay";
inline constexpr const char* kBuffers = "forebay acquire + drop";
inline constexpr const char* kNobody = "(the work alone)";

template <typename Visit>
void visit_peer(const Peer& peer, Visit& visit) {
  const MallocOps plain{peer.take, peer.give};
  if (peer.give_flagged != nullptr) {
    visit(peer.name, Role::peer, nullptr, FlaggedMallocOps{plain, peer.give_flagged});
  } else if (peer.give_sized != nullptr) {
    visit(peer.name, Role::peer, nullptr, SizedMallocOps{plain, peer.give_sized});
  } else {
    visit(peer.name, Role::peer, nullptr, plain);
  }
}

// Calls visit(name, role, ours, ops) for each contender; ours is null for others.
template <typename Visit>
void for_each_contender(const Peers& peers, const Cast& cast, Visit visit) {
  if (peers.with_ours) {
    const bool raw = cast.judged == Cast::Door::raw;
    auto ours = std::make_shared<Ours>(true, cast.options);
    visit(kRaw, raw ? Role::ours : Role::shown, ours, ResourceOps{ours->pool.get()});
    ours = std::make_shared<Ours>(true, cast.options);
    visit(kBuffers, raw ? Role::shown : Role::ours, ours, BufferOps{ours->pool.get()});
  }
  for (const Peer& peer : peers.here) visit_peer(peer, visit);
  if (peers.pmr) {
    std::shared_ptr<std::pmr::memory_resource> pmr;
    if (cast.synchronized) {
      pmr = std::make_shared<std::pmr::synchronized_pool_resource>();
    } else {
      pmr = std::make_shared<std::pmr::unsynchronized_pool_resource>();
    }
    visit("pmr", Role::peer, nullptr, PmrOps{std::move(pmr)});
  }
  if (cast.nobody) visit(kNobody, Role::shown, nullptr, NothingOps{});
}

// An arm for each contender; make(ops) returns its round.
template <typename Make>
std::vector<Arm> make_arms(const Peers& peers, const Cast& cast, Make make) {
  std::vector<Arm> arms;
  for_each_contender(peers, cast,
                     [&](std::string name, Role role, std::shared_ptr<Ours> ours, auto ops) {
                       Arm arm;
                       arm.name = std::move(name);
                       arm.role = role;
                       arm.ours = std::move(ours);
                       arm.round = make(std::move(ops));
                       arms.push_back(std::move(arm));
                     });
  return arms;
}

// One round of each in turn, the first round not counted but for those that take too long for
// more. An arm that fails is out, and says why in `trouble`.
void run_rounds(std::vector<Arm>& arms, int rounds);

}  // namespace forebay::bench
