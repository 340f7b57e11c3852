// Shapes of known models, for tests that need no file.
#pragma once

#include "forebay/model.hpp"

namespace forebay::test {

inline ModelShape smollm2() {
  ModelShape shape;
  shape.name = "SmolLM2-135M";
  shape.architecture = "llama";
  shape.layers = 30;
  shape.heads = 9;
  shape.kv_heads = 3;
  shape.head_dim_k = 64;
  shape.head_dim_v = 64;
  shape.embedding = 576;
  shape.feed_forward = 1536;
  shape.vocabulary = 49152;
  shape.context_trained = 8192;
  shape.weights = Bytes{96576768};
  return shape;
}

}  // namespace forebay::test
