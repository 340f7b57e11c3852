// A teacher with a guarantee and a student share one device. The student asks for more
// than is left, is refused with the whole account, and is granted it once the teacher has
// gone. Nothing here needs a GPU: the device is simulated.
#include <cstdio>
#include <forebay/forebay.hpp>

using namespace forebay::literals;

namespace {

void print_tree(const forebay::Budget& root) {
  for (const forebay::BudgetStats& node : root.snapshot()) {
    std::printf("  %-12s used %-6s guaranteed %-6s limit %s\n", node.path.c_str(),
                to_string(node.used).c_str(), to_string(node.guarantee).c_str(),
                to_string(node.limit).c_str());
  }
}

void print_refusal(const forebay::Status& status) {
  std::printf("refused: %s\n", status.message().c_str());
  if (status.refusal() == nullptr) return;
  for (const std::string& advice : status.refusal()->advice) {
    std::printf("  advice: %s\n", advice.c_str());
  }
}

}  // namespace

int main() {
  auto gpu = forebay::SimulatedDevice::create({.name = "gpu", .capacity = 12_GiB});
  forebay::Budget line{"gpu", {.limit = gpu->capacity()}};
  auto teacher = line.child("teacher", {.guarantee = 7_GiB}).value();
  auto student = line.child("student").value();

  auto weights = forebay::Buffer::allocate(teacher.meter(gpu), 7_GiB).value();
  print_tree(line);

  const auto metered = student.meter(gpu);
  auto batch = forebay::Buffer::allocate(metered, 6_GiB);
  if (!batch) print_refusal(batch.status());

  weights.reset();
  if (auto status = teacher.set_guarantee(0_B); !status.ok()) return 1;
  batch = forebay::Buffer::allocate(metered, 6_GiB);
  if (!batch) return 1;
  std::printf("granted %s once the teacher has gone\n", to_string(batch->size()).c_str());
  print_tree(line);
}
