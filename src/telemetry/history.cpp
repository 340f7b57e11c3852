#include "telemetry/history.hpp"

#include <algorithm>
#include <string_view>

namespace forebay::detail {
namespace {

enum class Step : std::uint8_t { other, take, give };

Step step_of(const SnapshotEvent& event) {
  if (event.address == 0) return Step::other;
  if (event.kind == "allocate") return Step::take;
  return event.kind == "free" ? Step::give : Step::other;
}

}  // namespace

// The finaliser of MurmurHash3: addresses differ in few bits.
std::size_t History::Hash::operator()(const Key& key) const noexcept {
  std::uint64_t bits = key.address ^ (static_cast<std::uint64_t>(key.source) << 48);
  bits = (bits ^ (bits >> 33)) * 0xff51afd7ed558ccdULL;
  bits = (bits ^ (bits >> 33)) * 0xc4ceb9fe1a85ec53ULL;
  return bits ^ (bits >> 33);
}

History::History(const Snapshot& snapshot) : snapshot_(snapshot), entries_(snapshot.events.size()) {
  name_sources();
  place_blocks();
  walk_back();
}

void History::name_sources() {
  std::unordered_map<std::string_view, std::uint32_t> numbers;
  for (std::uint32_t i = 0; i < snapshot_.sources.size(); ++i) {
    numbers.emplace(snapshot_.sources[i], i);
  }
  auto next = static_cast<std::uint32_t>(snapshot_.sources.size());
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const SnapshotEvent& event = snapshot_.events[i];
    const auto [at, is_new] = numbers.emplace(event.subject, next);
    if (is_new) ++next;
    entries_[i].source = at->second;
    if (step_of(event) != Step::other) states_.try_emplace({at->second, event.address});
  }
}

void History::place_blocks() {
  for (std::uint32_t i = 0; i < snapshot_.blocks.size(); ++i) {
    const SnapshotBlock& block = snapshot_.blocks[i];
    const auto at = states_.find({block.pool, block.address});
    if (at != states_.end()) at->second = {State::Of::block, i};
  }
}

// Whether the snapshot has all blocks of this source, so that one that is not there is not live.
bool History::is_known(std::uint32_t source) const {
  return snapshot_.complete && !snapshot_.blocks.empty() && source < snapshot_.sources.size();
}

void History::take(std::size_t event, State& state) {
  Entry& entry = entries_[event];
  const bool may_be_open = state.of == State::Of::unknown && !is_known(entry.source);
  if (state.of == State::Of::block) {
    entry.fate = Fate::live;
    entry.block = state.index;
  } else if (state.of == State::Of::event) {
    entry.fate = Fate::ended;
  } else if (may_be_open) {
    entry.fate = Fate::open;
  } else {
    return;
  }
  state = {State::Of::free, 0};
}

void History::give(std::size_t event, State& state) {
  if (state.of == State::Of::block || state.of == State::Of::event) return;
  entries_[event].fate = Fate::release;
  state = {State::Of::event, static_cast<std::uint32_t>(event)};
}

void History::walk_back() {
  for (std::size_t i = entries_.size(); i-- > 0;) {
    const SnapshotEvent& event = snapshot_.events[i];
    const Step step = step_of(event);
    if (step == Step::other) continue;
    State& state = states_.find({entries_[i].source, event.address})->second;
    step == Step::take ? take(i, state) : give(i, state);
  }
}

std::vector<History::Held> History::held_before() const {
  std::vector<Held> held;
  for (const SnapshotBlock& block : snapshot_.blocks) {
    const auto at = states_.find({block.pool, block.address});
    if (at != states_.end() && at->second.of != State::Of::block) continue;
    held.push_back({block.pool, block.address, block.bytes, block.tag});
  }
  const auto blocks = static_cast<std::ptrdiff_t>(held.size());
  for (const auto& [key, state] : states_) {
    if (state.of != State::Of::event) continue;
    const SnapshotEvent& event = snapshot_.events[state.index];
    held.push_back({key.source, key.address, event.bytes, event.tag == 0 ? 0 : event.tag - 1});
  }
  std::sort(held.begin() + blocks, held.end(), [](const Held& a, const Held& b) {
    return a.source != b.source ? a.source < b.source : a.address < b.address;
  });
  return held;
}

}  // namespace forebay::detail
