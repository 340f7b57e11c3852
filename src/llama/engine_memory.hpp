// EngineMemory: every buffer that llama.cpp asks for on behalf of one engine, and who pays.
//
// llama.cpp does not say what a buffer is for. It is told by when and how it is used:
//   loading  everything is weights: copies of what could not be used in place in the file;
//   making   the first buffer of one row of logits is the output; one that gets tensors named
//            cache_* is KV; one that is cleared without any is output; the rest is compute.
//            llama.cpp touches nothing before the first batch, so a buffer is charged when its
//            use is known, at the latest by settle();
//   running  a new output if the old one is gone, else compute that grew.
//
// Thread safety: not thread-safe; its engine drives it. Buffers may end on any thread, while
// the engine does nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "forebay/device.hpp"
#include "forebay/llama.hpp"
#include "llama/paged_region.hpp"
#include "llama/shim.hpp"

namespace forebay::llama {

class EngineMemory final : public shim::BufferOwner {
 public:
  enum class Phase { loading, making, running };

  EngineMemory(const EngineBudgets& budgets, bool kv_grows) noexcept
      : budgets_(budgets), kv_grows_(kv_grows) {}
  ~EngineMemory() override;

  // Charges the tensors of the model's file, which will be mapped or copied. Further copies
  // of mapped weights are charged on top of it: the file's pages stay resident.
  Status charge_weights(Bytes file_tensors, bool mapped);

  // The model has more tensors than its first file said (a model in several files).
  Status charge_more_weights(Bytes all_tensors);

  void set_phase(Phase phase) noexcept { phase_ = phase; }
  // llama.cpp will ask for `row` bytes of output; give it `rows` of them at once, so that the
  // output is charged whole from the start and never asked for again.
  void expect_output(Bytes row, std::uint32_t rows) noexcept;
  // Charges the buffers whose use was open: they are compute. Ends the making.
  Status settle();

  // Commits (or gives back) KV so that `cells` cells can be used. Error: memory_refused, and
  // nothing changes.
  Status set_cells(std::uint64_t cells);
  Bytes kv_committed() const noexcept;

  // The refusal that made llama.cpp give up; ok if it was not one of ours. Clears it.
  Status take_refusal() noexcept { return std::exchange(refusal_, Status{}); }

  // shim::BufferOwner
  std::unique_ptr<shim::OwnedBuffer> allocate(std::size_t bytes) noexcept override;

 private:
  enum class Use { open, weights, kv, compute, output };
  class Block;

  Result<std::unique_ptr<Block>> make_block(Bytes bytes);
  Use use_of(Bytes bytes) const noexcept;
  Status decide(Block& block, Use use);
  Status place(Block& block, const shim::PlacedTensor& tensor);
  void clear(Block& block, std::uint8_t value) noexcept;
  void forget(Block& block) noexcept;
  bool accept(Status status) noexcept;
  Budget& payer(Use use) const noexcept;
  Bytes output_bytes() const noexcept { return output_row_ * output_rows_; }
  bool has_output() const noexcept;

  EngineBudgets budgets_;
  bool kv_grows_;
  Phase phase_ = Phase::loading;
  Bytes output_row_;
  std::uint32_t output_rows_ = 0;
  Reservation weights_;
  Bytes file_tensors_;
  Bytes copies_covered_;  // of weights_, what copies through the hook may still take
  std::vector<Block*> blocks_;
  std::uint64_t cells_ = 0;
  Status refusal_;
};

}  // namespace forebay::llama
