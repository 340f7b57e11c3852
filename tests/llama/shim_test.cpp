#include "llama/shim.hpp"

#include <array>

#include "llama/support.hpp"

namespace forebay::llama::shim {
namespace {

using testing::most_likely;
using testing::rows_of;

// Gives plain memory, or nothing, and counts.
class SwitchedOwner final : public BufferOwner {
 public:
  std::unique_ptr<OwnedBuffer> allocate(std::size_t bytes) noexcept override {
    ++asked;
    if (refuse) return nullptr;
    return std::make_unique<Buffer>(*this, bytes);
  }
  bool refuse = false;
  int asked = 0;
  int live = 0;

 private:
  struct Buffer final : OwnedBuffer {
    Buffer(SwitchedOwner& its_owner, std::size_t bytes)
        : owner(its_owner), memory(bytes + kAlignment) {
      ++owner.live;
    }
    ~Buffer() override { --owner.live; }
    std::byte* data() const noexcept override {
      void* start = memory.data();
      std::size_t room = memory.size();
      return static_cast<std::byte*>(
          std::align(kAlignment, memory.size() - kAlignment, start, room));
    }
    std::size_t size() const noexcept override { return memory.size() - kAlignment; }
    bool place(const PlacedTensor&) noexcept override { return true; }
    void clear(std::uint8_t value) noexcept override {
      std::fill(memory.begin(), memory.end(), std::byte{value});
    }
    static constexpr std::size_t kAlignment = 64;
    SwitchedOwner& owner;
    mutable std::vector<std::byte> memory;
  };
};

struct ShimTest : testing::WithOwnedBuffers {
  static ContextOptions options() {
    return {.run = {.context_tokens = 256, .batch_tokens = 32, .parallel_tokens = 1},
            .threads = 1,
            .flash_attention = true,
            .should_stop = {}};
  }
};

TEST_F(ShimTest, TheHookServesOnlyTheThreadsOwner) {
  ASSERT_EQ(install_buffer_hook(), "");
  auto model = load_model(testing::model_file(), {});
  ASSERT_TRUE(model.ok()) << model.status().message();
  SwitchedOwner owner;
  {
    auto nobody = make_context(**model, options());
    ASSERT_TRUE(nobody.ok());
    EXPECT_EQ(owner.asked, 0);
    const OwnerScope scope(&owner);
    auto ours = make_context(**model, options());
    ASSERT_TRUE(ours.ok());
    EXPECT_EQ(owner.live, 3);  // output, KV, compute
    {
      const OwnerScope inner(nullptr);
      EXPECT_TRUE(make_context(**model, options()).ok());
      EXPECT_EQ(owner.live, 3);
    }
  }
  EXPECT_EQ(owner.live, 0);
}

// What would crash the next batch if llama.cpp were left as its failure leaves it.
TEST_F(ShimTest, ABatchThatGetsNoComputeBufferFailsAndTheNextOneWorks) {
  ASSERT_EQ(install_buffer_hook(), "");
  auto model = load_model(testing::model_file(), {});
  ASSERT_TRUE(model.ok()) << model.status().message();
  const auto tokens = tokenize(**model, "The sun is").value();
  SwitchedOwner owner;
  const OwnerScope scope(&owner);
  auto disturbed = make_context(**model, options());
  auto plain = make_context(**model, options());
  ASSERT_TRUE(disturbed.ok() && plain.ok());
  std::string words;
  ASSERT_EQ(decode(**disturbed, rows_of(tokens), words), Outcome::done);
  ASSERT_EQ(decode(**plain, rows_of(tokens), words), Outcome::done);

  const auto last = static_cast<std::int32_t>(tokens.size());
  const auto vocabulary_size = vocabulary(**model);
  const Token next = most_likely({logits_of_row(**plain, last - 1), vocabulary_size});
  const std::array row{Row{.token = next, .position = last, .wants_logits = true}};
  allocate_afresh(**disturbed);
  owner.refuse = true;
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(decode(**disturbed, row, words), Outcome::failed);
    EXPECT_NE(words, "");
    EXPECT_EQ(last_position(**disturbed), last - 1);
  }
  owner.refuse = false;
  ASSERT_EQ(decode(**disturbed, row, words), Outcome::done) << words;
  ASSERT_EQ(decode(**plain, row, words), Outcome::done) << words;
  EXPECT_EQ(most_likely({logits_of_row(**disturbed, 0), vocabulary_size}),
            most_likely({logits_of_row(**plain, 0), vocabulary_size}));
}

}  // namespace
}  // namespace forebay::llama::shim
