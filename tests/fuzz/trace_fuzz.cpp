// Feeds arbitrary bytes to the readers of traces: they must end with operations that fit
// together or with one clear line, and nothing else.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "trace/decoder.hpp"

namespace {

using forebay::trace::Decoder;
using forebay::trace::Demand;
using forebay::trace::Operation;
using forebay::trace::Reader;

void demand(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "trace_fuzz: %s\n", what);
  std::abort();
}

void check_error(const forebay::Status& status) {
  const std::string& message = status.message();
  demand(status.code() == forebay::Code::invalid_argument, "an error of an unexpected kind");
  demand(message.starts_with("fuzz:"), "an error without the file's name");
  demand(message.size() < 1024, "an error that goes on and on");
  for (const char c : message) {
    demand(static_cast<unsigned char>(c) >= ' ' && c != '\x7f', "an error that is not one line");
  }
}

// Slots must be taken when they are free and freed when they are taken.
class Model {
 public:
  void apply(const Operation& operation) {
    if (operation.kind == Operation::Kind::tick) {
      demand(operation.amount > 0 && operation.amount < 1ULL << 62, "time that jumps");
      return;
    }
    if (operation.slot >= sizes_.size()) sizes_.resize(operation.slot + std::size_t{1}, kFree);
    std::uint64_t& size = sizes_[operation.slot];
    const bool allocates = operation.kind == Operation::Kind::allocate;
    demand((size == kFree) == allocates, "a slot that is used wrongly");
    demand(allocates || size == operation.amount, "a free of another size");
    demand(operation.amount <= forebay::trace::kMaxBlock.count(), "a block that is too large");
    size = allocates ? operation.amount : kFree;
  }
  std::size_t slots() const { return sizes_.size(); }

 private:
  static constexpr std::uint64_t kFree = ~0ULL;
  std::vector<std::uint64_t> sizes_;
};

void run(std::string_view text) {
  auto reader = Reader::over(text, "fuzz");
  if (!reader.ok()) return check_error(reader.status());
  Decoder decoder{std::move(*reader), std::chrono::seconds{1}};
  Model model;
  std::vector<Operation> batch;
  for (;;) {
    const auto count = decoder.fill(batch, 16);
    for (const Operation& operation : batch) model.apply(operation);
    if (!count.ok()) return check_error(count.status());
    if (*count == 0) break;
  }
  const Demand& total = decoder.demand();
  demand(total.operations == total.allocations + total.frees, "counts that do not add up");
  demand(total.live <= total.peak_live, "a peak below what is live");
  demand(model.slots() == total.peak_blocks, "more slots than blocks were live");
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer calls it by this name
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  run({reinterpret_cast<const char*>(data), size});
  return 0;
}
