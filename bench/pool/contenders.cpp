#include "pool/contenders.hpp"

#include <exception>

namespace forebay::bench {
namespace {

// What a failed arm still holds stays where it is: its pool would stop the program.
void put_aside(Arm& arm) {
  static std::vector<std::shared_ptr<Ours>> kept;
  kept.push_back(std::move(arm.ours));
}

// One round of the arm. Returns the CPU time that it took, in ns.
double run_one(Arm& arm, bool counts) {
  const double start = process_cpu_ns();
  try {
    const double figure = arm.round();
    if (counts) arm.samples.add(figure);
  } catch (const std::exception& error) {
    arm.trouble = error.what();
    put_aside(arm);
  }
  return process_cpu_ns() - start;
}

// The first round warms up and does not count, but for one that is so slow that it has to do.
void warm_up(Arm& arm) {
  constexpr double kTooSlow = 3e9;
  if (run_one(arm, true) < kTooSlow) arm.samples = {};
  arm.only_once = !arm.samples.empty();
}

}  // namespace

const char* to_string(Role role) {
  if (role == Role::ours) return "ours";
  return role == Role::peer ? "peer" : "shown";
}

void run_rounds(std::vector<Arm>& arms, int rounds) {
  for (Arm& arm : arms) warm_up(arm);
  for (int round = 0; round < rounds; ++round) {
    for (Arm& arm : arms) {
      if (arm.trouble.empty() && !arm.only_once) run_one(arm, true);
    }
  }
}

}  // namespace forebay::bench
