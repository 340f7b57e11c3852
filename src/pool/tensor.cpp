#include "forebay/tensor.hpp"

#include "pool/tensor_block.hpp"

namespace forebay {

Tensor& Tensor::operator=(Tensor&& other) noexcept {
  if (this == &other) return *this;
  reset();
  block_ = std::exchange(other.block_, nullptr);
  return *this;
}

void Tensor::reset() noexcept {
  if (block_ != nullptr) std::exchange(block_, nullptr)->give_back();
}

const Shape& Tensor::shape() const noexcept {
  static const Shape none;
  return block_ == nullptr ? none : block_->shape;
}

DataType Tensor::dtype() const noexcept {
  return block_ == nullptr ? DataType::f32 : block_->dtype;
}

TensorDevice Tensor::device() const noexcept {
  return block_ == nullptr ? TensorDevice{} : block_->device;
}

void* Tensor::data() const noexcept { return block_ == nullptr ? nullptr : block_->data; }

Bytes Tensor::size() const noexcept { return block_ == nullptr ? Bytes{} : block_->size; }

Stream Tensor::stream() const noexcept { return block_ == nullptr ? Stream{} : block_->stream; }

void Tensor::set_stream(Stream stream) noexcept {
  FOREBAY_CHECK(block_ != nullptr, "the stream of an empty tensor");
  block_->stream = stream;
}

}  // namespace forebay
