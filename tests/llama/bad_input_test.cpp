#include <fstream>
#include <iterator>

#include "llama/support.hpp"

namespace forebay::llama {
namespace {

using testing::Line;
using testing::small_options;

// A file in the test's folder that is gone when the test is.
struct BadInput : testing::WithModel {
  std::filesystem::path write(std::string_view content) {
    std::ofstream(file_, std::ios::binary) << content;
    return file_;
  }
  static std::string head_of_model(std::size_t bytes) {
    std::string content(bytes, '\0');
    std::ifstream(testing::model_file(), std::ios::binary)
        .read(content.data(), static_cast<std::streamsize>(bytes));
    return content;
  }
  Status load(const std::filesystem::path& file) {
    EngineOptions options = small_options();
    options.model = file;
    Status status = Engine::load(options, line_.budgets()).status();
    EXPECT_TRUE(line_.used().is_zero());
    EXPECT_EQ(status.message().find('\n'), std::string::npos) << status.message();
    return status;
  }
  void TearDown() override {
    std::error_code ignored;
    std::filesystem::remove(file_, ignored);
  }

  Line line_;
  std::filesystem::path file_ =
      std::filesystem::path(::testing::TempDir()) /
      ("forebay_" + std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()) +
       ".gguf");
};

TEST_F(BadInput, AMissingModelIsNotFound) {
  const Status status = load("/nowhere/model.gguf");
  EXPECT_EQ(status.code(), Code::not_found);
  EXPECT_NE(status.message().find("/nowhere/model.gguf"), std::string::npos);
}

TEST_F(BadInput, AFileOfSomethingElseIsCorrupt) {
  EXPECT_EQ(load(write("This is not a model at all, but long enough to look into.")).code(),
            Code::corrupt_data);
  EXPECT_EQ(load(write("")).code(), Code::corrupt_data);
}

TEST_F(BadInput, ATruncatedModelIsCorrupt) {
  for (const std::size_t bytes : {20U, 5000U, 1'000'000U, 3'000'000U})
    EXPECT_EQ(load(write(head_of_model(bytes))).code(), Code::corrupt_data) << bytes;
}

// The table of tensors is sound, but what it describes is not a model: llama.cpp's own words.
TEST_F(BadInput, AModelOfAnUnknownFamilyIsRefusedInWords) {
  const auto size = std::filesystem::file_size(testing::model_file());
  std::string content = head_of_model(size);
  const std::string key = "general.architecture";
  const std::size_t value = content.find(key) + key.size() + 4 + 8;
  ASSERT_EQ(content.substr(value, 5), "llama");
  content.replace(value, 5, "nosuc");
  const Status status = load(write(content));
  EXPECT_FALSE(status.ok());
  EXPECT_TRUE(status.code() == Code::corrupt_data || status.code() == Code::unsupported)
      << status.message();
}

TEST_F(BadInput, MeasureSaysTheSame) {
  const RunShape run{.context_tokens = 512};
  EXPECT_EQ(testing::measure("/nowhere/model.gguf", run).status().code(), Code::not_found);
  EXPECT_EQ(testing::measure(write(head_of_model(5000)), run).status().code(), Code::corrupt_data);
}

TEST_F(BadInput, OptionsOutOfRangeNameTheOptionAndWhatIsAllowed) {
  const auto refuse = [&](auto change, const std::string& name) {
    EngineOptions options = small_options();
    change(options);
    const Status status = Engine::load(options, line_.budgets()).status();
    EXPECT_EQ(status.code(), Code::invalid_argument) << name;
    EXPECT_NE(status.message().find(name), std::string::npos) << status.message();
    EXPECT_NE(status.message().find("allowed"), std::string::npos) << status.message();
  };
  refuse([](EngineOptions& o) { o.run.context_tokens = 0; }, "context_tokens");
  refuse([](EngineOptions& o) { o.run.context_tokens = 1U << 31; }, "context_tokens");
  refuse([](EngineOptions& o) { o.run.batch_tokens = 0; }, "batch_tokens");
  refuse([](EngineOptions& o) { o.run.parallel_tokens = 100'000; }, "parallel_tokens");
  refuse([](EngineOptions& o) { o.threads = 0; }, "threads");
  refuse([](EngineOptions& o) { o.threads = 100'000; }, "threads");
}

TEST_F(BadInput, QuantizedVWithoutFlashAttentionIsUnsupported) {
  EngineOptions options = small_options();
  options.flash_attention = false;
  options.run.kv_v = KvType::q8_0;
  const Status status = Engine::load(options, line_.budgets()).status();
  EXPECT_EQ(status.code(), Code::unsupported) << status.message();
  EXPECT_TRUE(line_.used().is_zero());
}

}  // namespace
}  // namespace forebay::llama
