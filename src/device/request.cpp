#include "device/request.hpp"

#include <fmt/format.h>

#include <bit>

#include "forebay/device.hpp"

namespace forebay::detail {

Status check_request(std::string_view resource, Bytes bytes, Bytes alignment) {
  if (!std::has_single_bit(alignment.count()) || alignment > kMaxAlignment) {
    return {
        Code::invalid_argument,
        fmt::format("{}: alignment {} B is not allowed; it must be a power of two from 1 B to {}",
                    resource, alignment.count(), to_string(kMaxAlignment))};
  }
  if (bytes > kLargestRequest) {
    return {Code::memory_refused, fmt::format("{}: asked {} B, more than any address space holds",
                                              resource, bytes.count())};
  }
  return {};
}

Status does_not_fit(std::string_view resource, Bytes asked, Bytes free, Bytes capacity) {
  return {Code::memory_refused,
          fmt::format("{}: asked {}, {} free of {}", resource, to_string(asked), to_string(free),
                      to_string(capacity))};
}

const Status& out_of_host_memory() noexcept {
  static const Status status{Code::memory_refused,
                             "host: no memory left for the bookkeeping of a block"};
  return status;
}

namespace {
[[maybe_unused]] const Status kMadeAtLoad = out_of_host_memory();
}  // namespace

}  // namespace forebay::detail
