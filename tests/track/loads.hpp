// Loads to simulate: steady ones, of which none is a leak, and leaks.
#pragma once

#include <cmath>
#include <functional>
#include <memory>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

#include "track/simulated_load.hpp"

namespace forebay::testing {

// What happens in a minute; called once each, from 1 on. Has a memory of its own.
using Minute = std::function<void(SimulatedLoad&, int minute)>;
struct Load {
  std::string name;
  std::function<Minute()> begin;
};

inline void take_some(SimulatedLoad& load, const char* tag, StackId site, double bytes, double some,
                      double life) {
  for (auto left = load.poisson(some); left > 0; --left) {
    load.take(tag, site, bytes, life < SimulatedLoad::kForGood ? load.exponential(life) : life);
  }
}

inline constexpr double kMiB = SimulatedLoad::kMiB;
inline constexpr double kForGood = SimulatedLoad::kForGood;

// A cache that fills up to `size`, fast at first; requests beside it.
inline Load fill_up(double mib, double minutes) {
  return {"fill-up in " + std::to_string(static_cast<int>(minutes)) + " min", [=] {
            return [=](SimulatedLoad& load, int minute) {
              const double added = std::exp(-(minute - 1) / minutes) - std::exp(-minute / minutes);
              take_some(load, "cache", 1, 65536, mib * added * kMiB / 65536, kForGood);
              take_some(load, "requests", 2, 32768, 50, 0.3);
            };
          }};
}
// As the logarithm of time, up to a cap.
inline Load logarithmic_fill_up(int cap_minute) {
  return {"logarithmic fill-up", [=] {
            return [=](SimulatedLoad& load, int minute) {
              if (minute > cap_minute) return;
              const double added = std::log1p(minute / 10.0) - std::log1p((minute - 1) / 10.0);
              take_some(load, "cache", 1, 65536, 100 * added * kMiB / 65536, kForGood);
            };
          }};
}
// Sessions that follow the hours of the day.
inline Load day_wave(double a_minute, double life) {
  return {"day wave, sessions of " + std::to_string(static_cast<int>(life)) + " min", [=] {
            return [=](SimulatedLoad& load, int minute) {
              const double wave = std::sin(2 * std::numbers::pi * minute / 1440 - 1.2);
              take_some(load, "kv", 1, 131072, a_minute * (1 + 0.8 * wave), life);
            };
          }};
}
// Blocks that come at random and live for a random time.
inline Load turnover(double blocks, double life) {
  return {"turnover of " + std::to_string(static_cast<int>(blocks)) + ", lives of " +
              std::to_string(static_cast<int>(life)) + " min",
          [=] {
            return [=](SimulatedLoad& load, int minute) {
              if (minute == 1) take_some(load, "blocks", 1, 262144, blocks, life);
              take_some(load, "blocks", 1, 262144, blocks / life, life);
            };
          }};
}
// A heap that is collected, or a cache that is cleared, every so many minutes; requests beside it.
inline Load saw_tooth(int period) {
  return {"saw-tooth of " + std::to_string(period) + " min", [=] {
            return [=](SimulatedLoad& load, int minute) {
              for (auto left = load.poisson(20); left > 0; --left) {
                load.take("epoch", 1, 262144, period - minute % period);
              }
              take_some(load, "requests", 2, 65536, 30, 1);
            };
          }};
}
// Jobs of 80 MiB, 20 to 80 minutes long, one in 45 minutes.
inline Load batch_jobs() {
  return {"batch jobs", [] {
            return [](SimulatedLoad& load, int) {
              if (load.uniform() < 1 / 45.0) {
                const double life = 20 + 60 * load.uniform();
                for (int i = 0; i < 40; ++i) load.take("batch", 1, 2 * kMiB, life);
              }
              take_some(load, "requests", 2, 65536, 30, 1);
            };
          }};
}
// A number of blocks that wanders and is drawn back to 400 in about `tau` minutes.
inline Load random_walk(double tau) {
  return {"random walk of " + std::to_string(static_cast<int>(tau)) + " min", [=] {
            return [=, held = std::vector<std::uint64_t>{}, at = 0.0](SimulatedLoad& load,
                                                                      int) mutable {
              std::normal_distribution<> normal;
              at += -at / tau + std::sqrt(2 / tau) * normal(load.random());
              const auto wanted = static_cast<std::size_t>(std::max(0.0, 400 + 100 * at));
              while (held.size() < wanted) held.push_back(load.take("walk", 1, 262144, kForGood));
              while (held.size() > wanted) {
                std::swap(held[load.random()() % held.size()], held.back());
                load.give(held.back());
                held.pop_back();
              }
            };
          }};
}
// A cache of 300 MiB that is full and changes its content.
inline Load full_cache() {
  return {"full cache", [] {
            return [held = std::vector<std::uint64_t>{}](SimulatedLoad& load, int minute) mutable {
              for (auto left = minute == 1 ? 1200 : load.poisson(25); left > 0; --left) {
                if (held.size() == 1200) {
                  std::swap(held[load.random()() % held.size()], held.back());
                  load.give(held.back());
                  held.pop_back();
                }
                held.push_back(load.take("cache", 1 + static_cast<StackId>(load.random()() % 5),
                                         262144, kForGood));
              }
            };
          }};
}

// ---- Beside a leak

inline Load nothing() {
  return {"nothing", [] { return [](SimulatedLoad&, int) {}; }};
}
inline Load other_tags() {
  return {"other tags", [] {
            return [](SimulatedLoad& load, int minute) {
              if (minute == 1) take_some(load, "weights", 3, 262144, 800, kForGood);
              take_some(load, "requests", 2, 65536, 60, 2);
            };
          }};
}
inline Load same_tag() {
  return {"the same tag", [] {
            return [](SimulatedLoad& load, int) { take_some(load, "leak", 2, 65536, 60, 2); };
          }};
}
inline Load same_place() {
  return {"the same place", [] {
            return [](SimulatedLoad& load, int) { take_some(load, "leak", 7, 65536, 60, 2); };
          }};
}
// 200 MiB at most.
inline Load saw_tooth_of_same_tag() {
  return {"a saw-tooth of the same tag", [] {
            return [](SimulatedLoad& load, int minute) {
              for (auto left = load.poisson(20); left > 0; --left) {
                load.take("leak", 2, 262144, 40 - minute % 40);
              }
            };
          }};
}
inline Load warm_up_of_same_tag() {
  return {"a warm-up of the same tag", [] {
            return [](SimulatedLoad& load, int minute) {
              if (minute < 20) take_some(load, "leak", 2, 262144, 20, kForGood);
            };
          }};
}

}  // namespace forebay::testing
