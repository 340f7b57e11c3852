// In place of dlpack.cpp where dlpack/dlpack.h was not found.
#include "device/request.hpp"
#include "forebay/tensor.hpp"

namespace forebay {
namespace {

Status missing() {
  return {
      Code::unsupported,
      "dlpack: this build is without it: dlpack/dlpack.h was not found (Debian: libdlpack-dev)"};
}

}  // namespace

Result<DLManagedTensor*> to_dlpack(Tensor&& /*tensor*/) {
  return detail::refuse_bad_alloc([]() -> Result<DLManagedTensor*> { return missing(); });
}

Result<Tensor> from_dlpack(DLManagedTensor* /*managed*/) {
  return detail::refuse_bad_alloc([]() -> Result<Tensor> { return missing(); });
}

}  // namespace forebay
