#include "trace/live_table.hpp"

#include <bit>
#include <random>
#include <utility>

#include "forebay/check.hpp"

namespace forebay::trace {
namespace {

constexpr std::size_t kLeastCells = 1024;

}  // namespace

LiveTable::LiveTable() : seed_(std::random_device{}()), cells_(kLeastCells) {
  seed_ = (seed_ << 32) | std::random_device{}();
  free_slots_.reserve(kLeastCells / 2);
}

void LiveTable::reserve(std::size_t blocks) {
  while (cells_.size() < 2 * blocks + 2) grow();
}

// splitmix64's finisher (Steele, Lea, Flood, OOPSLA 2014).
std::size_t LiveTable::home(std::uint64_t id) const noexcept {
  std::uint64_t x = id + seed_;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = ((x ^ seed_) ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return static_cast<std::size_t>(x ^ (x >> 31)) & (cells_.size() - 1);
}

std::size_t LiveTable::place(std::uint64_t id) const noexcept {
  std::size_t at = home(id);
  while (cells_[at].used && cells_[at].id != id) at = (at + 1) & (cells_.size() - 1);
  return at;
}

const LiveBlock* LiveTable::find(std::uint64_t id) const noexcept {
  const LiveBlock& cell = cells_[place(id)];
  return cell.used ? &cell : nullptr;
}

void LiveTable::grow() {
  std::vector<LiveBlock> old(cells_.size() * 2);
  free_slots_.reserve(old.size() / 2);  // so that remove() never allocates
  old.swap(cells_);
  for (const LiveBlock& block : old) {
    if (block.used) cells_[place(block.id)] = block;
  }
}

const LiveBlock& LiveTable::add(std::uint64_t id, Bytes bytes, std::uint64_t stream) {
  if (2 * (size_ + 1) > cells_.size()) grow();
  LiveBlock& cell = cells_[place(id)];
  FOREBAY_CHECK(!cell.used, "a block of a trace is live twice");
  std::uint32_t slot = next_slot_;
  if (free_slots_.empty()) {
    ++next_slot_;
  } else {
    slot = free_slots_.back();
    free_slots_.pop_back();
  }
  cell = {.id = id, .bytes = bytes, .stream = stream, .slot = slot, .used = true};
  ++size_;
  return cell;
}

void LiveTable::remove(std::uint64_t id) noexcept {
  const std::size_t mask = cells_.size() - 1;
  std::size_t hole = place(id);
  FOREBAY_CHECK(cells_[hole].used, "a block of a trace that is not live");
  free_slots_.push_back(cells_[hole].slot);
  --size_;
  // Whoever stands behind the hole only because it was taken moves up.
  for (std::size_t at = (hole + 1) & mask; cells_[at].used; at = (at + 1) & mask) {
    const bool reaches = ((at - home(cells_[at].id)) & mask) >= ((at - hole) & mask);
    if (reaches) cells_[std::exchange(hole, at)] = cells_[at];
  }
  cells_[hole].used = false;
}

}  // namespace forebay::trace
