#include "llama/support.hpp"

#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace forebay::llama::testing {

Result<ComputeNeed> measure(const std::filesystem::path& model, const RunShape& run) {
  auto probe = Probe::open(model);
  if (!probe) return probe.status();
  return (*probe)->measure(run);
}

Bytes resident() {
  std::ifstream statm("/proc/self/statm");
  std::uint64_t pages = 0;
  std::uint64_t resident_pages = 0;
  statm >> pages >> resident_pages;
  return Bytes{resident_pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE))};
}

Line::Line(Bytes limit)
    : process("process", {.limit = limit}),
      weights(process.child("weights").value()),
      kv(process.child("kv").value()),
      compute(process.child("compute").value()),
      output(process.child("output").value()) {}

EngineOptions small_options(std::uint32_t context, std::uint32_t batch, std::uint32_t parallel) {
  EngineOptions options;
  options.model = model_file();
  options.run.context_tokens = context;
  options.run.batch_tokens = batch;
  options.run.parallel_tokens = parallel;
  return options;
}

std::vector<Row> rows_of(const std::vector<Token>& tokens, std::int32_t first) {
  std::vector<Row> rows;
  for (const Token token : tokens)
    rows.push_back({.token = token,
                    .position = first + static_cast<std::int32_t>(rows.size()),
                    .wants_logits = rows.size() + 1 == tokens.size()});
  return rows;
}

Token most_likely(std::span<const float> logits) {
  return static_cast<Token>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

Status read_prompt(Engine& engine, const std::vector<Token>& tokens, std::size_t batch) {
  const std::vector<Row> rows = rows_of(tokens);
  for (std::size_t done = 0; done < rows.size(); done += batch) {
    const std::size_t count = std::min(batch, rows.size() - done);
    Status status = engine.decode(std::span(rows).subspan(done, count));
    if (!status.ok()) return status;
  }
  return {};
}

Result<std::vector<Token>> continue_greedily(Engine& engine, std::size_t count) {
  std::vector<Token> tokens;
  auto position = static_cast<std::int32_t>(engine.cells_used());
  while (tokens.size() < count) {
    tokens.push_back(most_likely(engine.logits(0)));
    const Row row{.token = tokens.back(), .position = position++, .wants_logits = true};
    if (Status status = engine.decode({&row, 1}); !status.ok()) return status;
  }
  return tokens;
}

}  // namespace forebay::llama::testing
