// TensorBlock: what a Tensor owns, wherever it came from.
#pragma once

#include <memory>

#include "forebay/tensor.hpp"

namespace forebay::detail {

struct TensorBlock {
  TensorBlock(const Shape& its_shape, DataType its_dtype, TensorDevice its_device, Bytes its_size)
      : shape(its_shape), dtype(its_dtype), device(its_device), size(its_size) {}
  TensorBlock(const TensorBlock&) = delete;
  TensorBlock& operator=(const TensorBlock&) = delete;

  // The tensor's end: gives the memory back. The block is gone or another's afterwards.
  virtual void give_back() noexcept = 0;
  // What must live until give_back() has returned; null if that is nobody.
  virtual std::shared_ptr<const void> keeper() const noexcept { return nullptr; }

  const Shape shape;
  const DataType dtype;
  const TensorDevice device;
  const Bytes size;
  void* data = nullptr;
  Stream stream;  // of the last use

 protected:
  ~TensorBlock() = default;
};

}  // namespace forebay::detail
