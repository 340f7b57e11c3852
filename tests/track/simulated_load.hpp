// SimulatedLoad: blocks that come and go in virtual time, seen as the tracker would see them:
// bytes of each tag exactly, places in the code by samples.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <map>
#include <queue>
#include <random>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "forebay/tracker.hpp"

namespace forebay::testing {

class SimulatedLoad {
 public:
  using Minutes = double;
  static constexpr double kMiB = 1 << 20;
  static constexpr double kForGood = 1e18;  // a life in minutes

  explicit SimulatedLoad(std::uint64_t seed, double interval = 512 << 10)
      : random_(seed), interval_(interval) {}

  std::mt19937_64& random() { return random_; }
  Minutes now() const { return now_; }
  double uniform() { return std::uniform_real_distribution<>{}(random_); }
  double exponential(double mean) { return std::exponential_distribution<>{1 / mean}(random_); }
  std::uint64_t poisson(double mean) {
    return mean <= 0 ? 0 : std::poisson_distribution<std::uint64_t>{mean}(random_);
  }

  // A block at `site` (not zero) under `tag`; ends after `life` minutes. Returns its number.
  std::uint64_t take(const std::string& tag, StackId site, double bytes, Minutes life) {
    const std::uint64_t number = ++blocks_;
    Block block{&*tags_.try_emplace(tag).first, site, bytes, now_, 0};
    const double chance = -std::expm1(-bytes / interval_);
    if (uniform() < chance) block.weight = bytes / chance;
    block.tag->second += bytes;
    if (block.weight > 0) sampled_.emplace(number, block);
    live_.emplace(number, block);
    if (life < kForGood) ends_.emplace(now_ + life, number);
    return number;
  }
  void give(std::uint64_t number) {
    const auto block = live_.find(number);
    if (block == live_.end()) return;
    block->second.tag->second -= block->second.bytes;
    sampled_.erase(number);
    live_.erase(block);
  }
  void advance_to(Minutes time) {
    while (!ends_.empty() && ends_.top().first <= time) {
      give(ends_.top().second);
      ends_.pop();
    }
    now_ = time;
  }

  std::vector<Observation> observe(Minutes old_age) const {
    std::map<std::pair<std::string, StackId>, Observation> sites;
    std::map<std::string, double> old;
    for (const auto& [number, block] : sampled_) {
      Observation& site = sites[{block.tag->first, block.site}];
      site.bytes += block.weight;
      if (now_ - block.born < old_age) continue;
      site.old_bytes += block.weight;
      old[block.tag->first] += block.weight;
    }
    std::vector<Observation> all;
    for (const auto& [tag, bytes] : tags_) all.push_back({"tag", tag, 0, bytes, old[tag]});
    for (auto& [key, site] : sites) {
      all.push_back({"site", key.first, key.second, site.bytes, site.old_bytes});
    }
    return all;
  }

  static Clock::TimePoint at(Minutes time) {
    return Clock::TimePoint{
        std::chrono::duration_cast<Duration>(std::chrono::duration<double, std::ratio<60>>{time})};
  }

 private:
  struct Block {
    std::pair<const std::string, double>* tag;
    StackId site;
    double bytes;
    Minutes born;
    double weight;  // 0: not sampled
  };
  using End = std::pair<Minutes, std::uint64_t>;

  std::mt19937_64 random_;
  double interval_;
  Minutes now_ = 0;
  std::uint64_t blocks_ = 0;
  std::map<std::string, double> tags_;
  std::unordered_map<std::uint64_t, Block> live_;
  std::unordered_map<std::uint64_t, Block> sampled_;
  std::priority_queue<End, std::vector<End>, std::greater<>> ends_;
};

}  // namespace forebay::testing
