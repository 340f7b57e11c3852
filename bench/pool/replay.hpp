// How a contender works through a trace. A contender ("Ops") has a type Block and
//   Block take(std::size_t bytes)              throws std::bad_alloc
//   void give(Block& block, std::size_t bytes)
//   static void* address(const Block& block)
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "pool/measure.hpp"
#include "pool/trace.hpp"

namespace forebay::bench {

template <typename Ops>
using Slots = std::vector<typename Ops::Block>;

template <bool kTouch, typename Ops>
void replay(Ops& ops, const std::vector<Op>& work, Slots<Ops>& slots) {
  for (const Op op : work) {
    auto& slot = slots[op.slot()];
    if (op.gives()) {
      ops.give(slot, op.bytes);
    } else {
      slot = ops.take(op.bytes);
      if constexpr (kTouch) touch(Ops::address(slot), op.bytes);
    }
  }
}

// A contender amid a trace: set up, ready to repeat its body, and cleared at the end.
template <typename Ops>
class Player {
 public:
  Player(Ops ops, const Trace& trace) : ops_(std::move(ops)), trace_(trace), slots_(trace.slots) {
    replay<false>(ops_, trace_.setup, slots_);
  }
  Player(const Player&) = delete;
  Player& operator=(const Player&) = delete;
  ~Player() {
    if (whole_) replay<false>(ops_, trace_.teardown, slots_);
  }

  // If a block is refused in the middle, the others are lost.
  template <bool kTouch>
  void play() {
    whole_ = false;
    replay<kTouch>(ops_, trace_.body, slots_);
    whole_ = true;
  }

 private:
  Ops ops_;
  const Trace& trace_;
  Slots<Ops> slots_;
  bool whole_ = true;
};

// Knows which bytes are taken, and leaves a mark at both ends of each block.
class Watch {
 public:
  // Both return whether all is well.
  bool took(void* block, std::uint32_t bytes, std::uint32_t mark);
  bool gives(void* block, std::uint32_t bytes, std::uint32_t mark);

 private:
  std::map<std::uintptr_t, std::uint32_t> live_;
};

// Replays a trace once and looks at what is handed out. Returns how often something was
// wrong: overlap with another live block, or content that changed.
template <typename Ops>
std::uint64_t count_faults(Ops ops, const Trace& trace) {
  Watch watch;
  Slots<Ops> slots(trace.slots);
  std::uint64_t faults = 0;
  for (const auto* const work : {&trace.setup, &trace.body, &trace.teardown}) {
    for (const Op op : *work) {
      auto& slot = slots[op.slot()];
      if (op.gives()) {
        faults += watch.gives(Ops::address(slot), op.bytes, op.slot()) ? 0 : 1;
        ops.give(slot, op.bytes);
      } else {
        slot = ops.take(op.bytes);
        faults += watch.took(Ops::address(slot), op.bytes, op.slot()) ? 0 : 1;
      }
    }
  }
  return faults;
}

}  // namespace forebay::bench
