#include "pool/block_table.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

#include "forebay/check.hpp"

namespace forebay::detail {

BlockTable::Record::Record(const Block& block) : list_{block}, index_{list_.begin()} {}

void BlockTable::insert_live(LiveIndex::node_type node) noexcept {
  const auto inserted = live_index_.insert(std::move(node));
  FOREBAY_CHECK(inserted.inserted, "upstream handed out an address that is still live");
}

void BlockTable::add_live(Record record) noexcept {
  insert_live(record.index_.extract(record.index_.begin()));
  live_.splice(live_.end(), record.list_);
}

const Block* BlockTable::find_live(const void* address) const noexcept {
  const auto found = live_index_.find(address);
  return found == live_index_.end() ? nullptr : &**found;
}

void BlockTable::make_idle(const void* address, Stream stream, Clock::TimePoint since) noexcept {
  auto node = live_index_.extract(live_index_.find(address));
  Block& block = *node.value();
  block.stream = stream;
  block.idle_since = idle_.empty() ? since : std::max(since, idle_.back().idle_since);
  block.turn = ++turns_;
  idle_.splice(idle_.end(), live_, node.value());
  idle_index_.insert(std::move(node));
}

Block* BlockTable::reuse(const BlockKey& key) noexcept {
  const auto [first, last] = idle_index_.equal_range(key);
  if (first == last) return nullptr;
  auto node = idle_index_.extract(std::prev(last));
  Block& block = *node.value();
  live_.splice(live_.end(), idle_, node.value());
  insert_live(std::move(node));
  return &block;
}

void BlockTable::remove_oldest(List& out) noexcept {
  idle_index_.erase(idle_index_.find(idle_.begin()));
  out.splice(out.end(), idle_, idle_.begin());
}

void BlockTable::remove_live(const void* address, List& out) noexcept {
  const auto found = live_index_.find(address);
  const List::iterator block = *found;
  live_index_.erase(found);
  out.splice(out.end(), live_, block);
}

void BlockTable::validate() const {
  FOREBAY_CHECK(live_.size() == live_index_.size(), "a live block is not indexed");
  FOREBAY_CHECK(idle_.size() == idle_index_.size(), "an idle block is not indexed");
  for (const Block& block : live_) {
    FOREBAY_CHECK(find_live(block.address) == &block, "the index finds another live block");
  }
  for (auto block = idle_.begin(); block != idle_.end(); ++block) {
    FOREBAY_CHECK(find_live(block->address) == nullptr, "a block is live and idle");
    const auto next = std::next(block);
    FOREBAY_CHECK(
        next == idle_.end() || (block->turn < next->turn && block->idle_since <= next->idle_since),
        "idle blocks are out of order");
  }
}

}  // namespace forebay::detail
