// Which keys and tensors of a GGUF header decide a model's memory, and what they may say.
#pragma once

#include "forebay/model.hpp"
#include "kv/gguf_cursor.hpp"

namespace forebay::gguf {

// Reads a header from its first byte to the end of its tensor table. Errors: as
// read_gguf_shape.
Result<ModelShape> read_shape(Cursor& in);

}  // namespace forebay::gguf
