// A build without DLPack says so.
#include <gtest/gtest.h>

#include "forebay/tensor.hpp"

namespace forebay {
namespace {

TEST(DlpackMissing, IsSaidAndChangesNothing) {
  const auto tensors = TensorPool::create(Pool::create(Device::host()));
  Tensor tensor = tensors->acquire({4}, DataType::f32).value();
  const auto refused = to_dlpack(std::move(tensor));
  EXPECT_EQ(refused.status().code(), Code::unsupported);
  EXPECT_NE(refused.status().message().find("libdlpack-dev"), std::string::npos);
  EXPECT_FALSE(tensor.empty());  // NOLINT(bugprone-use-after-move): a refusal takes nothing
  EXPECT_EQ(from_dlpack(nullptr).status().code(), Code::unsupported);
}

}  // namespace
}  // namespace forebay
