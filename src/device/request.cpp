#include "device/request.hpp"

#include <fmt/format.h>

namespace forebay::detail {

Status check_request(std::string_view resource, Bytes bytes, Bytes alignment) {
  if (!is_alignment(alignment)) {
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

bool are_pages(const AddressRange& range, Bytes offset, Bytes bytes) noexcept {
  const std::uint64_t page = range.page().count();
  return offset.count() % page == 0 && bytes.count() % page == 0 && offset <= range.size() &&
         bytes <= range.size() - offset;
}

Status check_pages(std::string_view verb, const AddressRange& range, Bytes offset, Bytes bytes) {
  if (are_pages(range, offset, bytes)) return {};
  return {Code::invalid_argument,
          fmt::format("{} of {} B at offset {} B: must be multiples of {} B within {} B", verb,
                      bytes.count(), offset.count(), range.page().count(), range.size().count())};
}

Status check_adoption(const AddressRange& range, Bytes offset, const AddressRange& source,
                      Bytes source_offset, Bytes bytes) {
  if (Status bad = check_pages("adopt", range, offset, bytes); !bad.ok()) return bad;
  if (Status bad = check_pages("adopt from", source, source_offset, bytes); !bad.ok()) return bad;
  const Bytes absent = source.missing(source_offset, bytes);
  const Bytes present = bytes - range.missing(offset, bytes);
  if (absent.is_zero() && present.is_zero()) return {};
  return {Code::invalid_argument,
          fmt::format("adopt of {} B at offset {} B from offset {} B: {} B of the source are not "
                      "committed, {} B of the target are",
                      bytes.count(), offset.count(), source_offset.count(), absent.count(),
                      present.count())};
}

Status foreign_source(std::string_view resource) {
  return {Code::invalid_argument, fmt::format("{}: adopts pages of its own ranges only", resource)};
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
