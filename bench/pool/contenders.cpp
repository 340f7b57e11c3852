#include "pool/contenders.hpp"

#include <exception>

namespace forebay::bench {
namespace {

// What a failed arm still holds stays where it is: its pool would stop the program.
void put_aside(Arm& arm) {
  static std::vector<std::shared_ptr<Ours>> kept;
  kept.push_back(std::move(arm.ours));
}

void run_one(Arm& arm, bool counts) {
  if (!arm.trouble.empty()) return;
  try {
    const double figure = arm.round();
    if (counts) arm.samples.add(figure);
  } catch (const std::exception& error) {
    arm.trouble = error.what();
    put_aside(arm);
  }
}

}  // namespace

const char* to_string(Role role) {
  if (role == Role::ours) return "ours";
  return role == Role::peer ? "peer" : "shown";
}

void run_rounds(std::vector<Arm>& arms, int rounds) {
  for (int round = -1; round < rounds; ++round) {
    for (Arm& arm : arms) run_one(arm, round >= 0);
  }
}

}  // namespace forebay::bench
