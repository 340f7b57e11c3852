#include "cache/frequency_sketch.hpp"

#include <algorithm>
#include <bit>

namespace forebay::detail {
namespace {

constexpr unsigned kRows = 4;
constexpr std::uint64_t kSampleOfEntries = 10;

// Row i has words 2i and 2i + 1 of the block, and eight bits of the hash: one for the word, four
// for the counter in it. The block is chosen by the upper half.
struct Counter {
  unsigned word;
  unsigned shift;
};
Counter counter(std::uint64_t hash, unsigned row) noexcept {
  const auto bits = static_cast<unsigned>(hash >> (row * 8U));
  return {row * 2 + (bits & 1U), ((bits >> 1U) & 15U) * 4};
}

}  // namespace

void FrequencySketch::make_room(std::size_t entries) {
  constexpr std::size_t kWordsOfBlock = 8;
  const std::size_t wanted = std::bit_ceil(std::max<std::size_t>(entries / kWordsOfBlock, 1));
  if (wanted <= blocks_.size()) return;
  // A block is found by low bits: with twice as many blocks, the copy is where its other half of
  // the hashes look, and their counts stay what they were.
  const std::size_t old_size = blocks_.size();
  blocks_.reserve(wanted);
  blocks_.resize(wanted);
  if (old_size != 0) {
    for (std::size_t i = old_size; i < wanted; ++i) blocks_[i] = blocks_[i & (old_size - 1)];
  }
  sample_ = kSampleOfEntries * wanted * kWordsOfBlock;
}

void FrequencySketch::count(std::uint64_t hash) noexcept {
  Block& counters = blocks_[(hash >> 32U) & (blocks_.size() - 1)];
  bool added = false;
  for (unsigned row = 0; row < kRows; ++row) {
    const auto [word, shift] = counter(hash, row);
    if (((counters.words[word] >> shift) & kMaxFrequency) == kMaxFrequency) continue;
    counters.words[word] += std::uint64_t{1} << shift;
    added = true;
  }
  if (added && ++counted_ >= sample_) halve();
}

unsigned FrequencySketch::frequency(std::uint64_t hash) const noexcept {
  const Block& counters = block(hash);
  unsigned least = kMaxFrequency;
  for (unsigned row = 0; row < kRows; ++row) {
    const auto [word, shift] = counter(hash, row);
    least = std::min(least, static_cast<unsigned>(counters.words[word] >> shift) & kMaxFrequency);
  }
  return least;
}

void FrequencySketch::halve() noexcept {
  constexpr std::uint64_t kLowerThree = 0x7777777777777777ULL;
  for (Block& counters : blocks_) {
    for (std::uint64_t& word : counters.words) word = (word >> 1U) & kLowerThree;
  }
  counted_ /= 2;
}

}  // namespace forebay::detail
