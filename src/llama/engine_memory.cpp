#include "llama/engine_memory.hpp"

#include <algorithm>
#include <new>
#include <utility>

namespace forebay::llama {
namespace {

bool starts_with(std::string_view text, std::string_view start) {
  return text.substr(0, start.size()) == start;
}

// K and V of a layer of a plain cache. Other state (recurrent, indexes) is committed whole.
bool holds_cells(const shim::PlacedTensor& tensor) {
  return tensor.one_stream &&
         (starts_with(tensor.name, "cache_k_l") || starts_with(tensor.name, "cache_v_l"));
}

}  // namespace

class EngineMemory::Block final : public shim::OwnedBuffer {
 public:
  Block(EngineMemory& memory, std::unique_ptr<AddressRange> range, Bytes asked)
      : region(std::move(range)), memory_(memory), asked_(asked) {}
  ~Block() override { memory_.forget(*this); }

  std::byte* data() const noexcept override { return region.data(); }
  std::size_t size() const noexcept override { return asked_.count(); }
  bool place(const shim::PlacedTensor& tensor) noexcept override {
    try {
      return memory_.accept(memory_.place(*this, tensor));
    } catch (const std::bad_alloc&) {
      return false;
    }
  }
  void clear(std::uint8_t value) noexcept override { memory_.clear(*this, value); }

  PagedRegion region;
  Use use = Use::open;

 private:
  EngineMemory& memory_;
  Bytes asked_;
};

EngineMemory::~EngineMemory() {
  FOREBAY_CHECK(blocks_.empty(), "llama.cpp's buffers end before the memory they lie in");
}

Status EngineMemory::charge_weights(Bytes file_tensors, bool mapped) {
  auto granted = budgets_.weights.reserve(file_tensors);
  if (!granted) return granted.status();
  weights_ = std::move(*granted);
  file_tensors_ = file_tensors;
  copies_covered_ = mapped ? Bytes{} : file_tensors;
  return {};
}

Status EngineMemory::charge_more_weights(Bytes all_tensors) {
  const Bytes more = saturating_sub(all_tensors, file_tensors_);
  return weights_.resize(weights_.bytes() + more);
}

void EngineMemory::expect_output(Bytes row, std::uint32_t rows) noexcept {
  output_row_ = row;
  output_rows_ = rows;
}

bool EngineMemory::has_output() const noexcept {
  return std::any_of(blocks_.begin(), blocks_.end(),
                     [](const Block* block) { return block->use == Use::output; });
}

EngineMemory::Use EngineMemory::use_of(Bytes bytes) const noexcept {
  switch (phase_) {
    case Phase::loading:
      return Use::weights;
    case Phase::making:
      return bytes == output_row_ && !has_output() ? Use::output : Use::open;
    case Phase::running:
      return has_output() ? Use::compute : Use::output;
  }
  return Use::open;
}

Budget& EngineMemory::payer(Use use) const noexcept {
  switch (use) {
    case Use::weights:
      return budgets_.weights;
    case Use::kv:
      return budgets_.kv;
    case Use::output:
      return budgets_.output;
    case Use::open:
    case Use::compute:
      break;
  }
  return budgets_.compute;
}

// Keeps the first refusal, which is the cause of what llama.cpp does next.
bool EngineMemory::accept(Status status) noexcept {
  if (status.ok()) return true;
  if (refusal_.ok()) refusal_ = std::move(status);
  return false;
}

Result<std::unique_ptr<EngineMemory::Block>> EngineMemory::make_block(Bytes bytes) {
  auto range = Device::host()->reserve_address(bytes);
  if (!range) return range.status();
  blocks_.reserve(blocks_.size() + 1);
  auto block = std::make_unique<Block>(*this, std::move(*range), bytes);
  blocks_.push_back(block.get());
  return block;
}

std::unique_ptr<shim::OwnedBuffer> EngineMemory::allocate(std::size_t size) noexcept {
  try {
    const Bytes asked{size};
    const Use use = use_of(asked);
    const Bytes given = use == Use::output ? std::max(asked, output_bytes()) : asked;
    auto block = make_block(given);
    if (!block) {
      accept(block.status());
      return nullptr;
    }
    if (use != Use::open && !accept(decide(**block, use))) return nullptr;
    return std::move(*block);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

// Copies that replace what was charged for the file move that charge to the copy.
Status EngineMemory::decide(Block& block, Use use) {
  if (use == Use::weights && !copies_covered_.is_zero()) {
    const Bytes covered = std::min(copies_covered_, block.region.size());
    copies_covered_ -= covered;
    if (Status status = weights_.resize(weights_.bytes() - covered); !status.ok()) return status;
  }
  if (Status status = block.region.charge_to(payer(use)); !status.ok()) return status;
  block.use = use;
  if (use == Use::kv) return {};
  return block.region.add_fixed(0, block.size());
}

Status EngineMemory::place(Block& block, const shim::PlacedTensor& tensor) {
  if (block.use == Use::open && starts_with(tensor.name, "cache_")) {
    if (Status status = decide(block, Use::kv); !status.ok()) return status;
  }
  if (block.use != Use::kv) return {};
  if (kv_grows_ && holds_cells(tensor))
    return block.region.add_growing(
        {.offset = tensor.offset, .row_bytes = tensor.row_bytes, .rows = tensor.rows});
  return block.region.add_fixed(tensor.offset, tensor.bytes);
}

// Fresh pages are zero already, and pages not committed will be. That is what keeps a context
// of 8192 cells from touching all its KV before the first token.
void EngineMemory::clear(Block& block, std::uint8_t value) noexcept {
  if (block.use == Use::open) {
    try {
      accept(decide(block, Use::output));
    } catch (const std::bad_alloc&) {
      accept(Status(Code::io_error, "out of memory"));
    }
    return;
  }
  if (phase_ != Phase::making || value != 0) block.region.fill(value);
}

void EngineMemory::forget(Block& block) noexcept { std::erase(blocks_, &block); }

Status EngineMemory::settle() {
  for (Block* block : blocks_) {
    if (block->use != Use::open) continue;
    if (Status status = decide(*block, Use::compute); !status.ok()) return status;
  }
  phase_ = Phase::running;
  return take_refusal();
}

Status EngineMemory::set_cells(std::uint64_t cells) {
  // llama.cpp reads up to 256 cells past the last one used; those read as zero, and take no
  // memory.
  const std::uint64_t rows = (cells + kKvStep - 1) / kKvStep * kKvStep;
  if (rows == cells_) return {};
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    if (blocks_[i]->use != Use::kv) continue;
    Status status = blocks_[i]->region.set_rows(rows);
    if (status.ok()) continue;
    for (std::size_t done = 0; done < i; ++done) {
      if (blocks_[done]->use == Use::kv)
        FOREBAY_CHECK(blocks_[done]->region.set_rows(cells_).ok(), "KV shrinks");
    }
    return status;
  }
  cells_ = rows;
  return {};
}

Bytes EngineMemory::kv_committed() const noexcept {
  Bytes sum;
  for (const Block* block : blocks_)
    if (block->use == Use::kv) sum += block->region.committed();
  return sum;
}

}  // namespace forebay::llama
