// Feeds arbitrary bytes to the readers of cache requests: they must end with requests that a
// cache can take or with one clear line, and nothing else. The requests go through the optimum
// and the footprint, which must agree with what was read.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "trace/belady.hpp"
#include "trace/cache_reader.hpp"
#include "trace/footprint.hpp"

namespace {

using forebay::trace::BeladyCache;
using forebay::trace::CacheReader;
using forebay::trace::CacheRequest;

void demand(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "cache_trace_fuzz: %s\n", what);
  std::abort();
}

void check_error(const forebay::Status& status) {
  const std::string& message = status.message();
  demand(status.code() == forebay::Code::invalid_argument ||
             status.code() == forebay::Code::corrupt_data ||
             status.code() == forebay::Code::unsupported,
         "an error of an unexpected kind");
  demand(message.starts_with("fuzz:"), "an error without the file's name");
  demand(message.size() < 1024, "an error that goes on and on");
  for (const char c : message) {
    demand(static_cast<unsigned char>(c) >= ' ' && c != '\x7f', "an error that is not one line");
  }
}

void check_request(const CacheRequest& request, bool ignore_size) {
  demand(request.bytes > 0 && request.bytes <= forebay::trace::kMaxObject, "an impossible size");
  demand(!ignore_size || request.bytes == 1, "a size that was to be ignored");
  demand(request.cost >= 0 && request.cost <= 1e15F, "an impossible cost");
}

void replay(const std::vector<CacheRequest>& requests) {
  forebay::trace::Footprint footprint{16};
  footprint.add(requests);
  forebay::trace::NextUses next;
  next.add(requests);
  for (const auto rule : {BeladyCache::Rule::farthest, BeladyCache::Rule::by_cost}) {
    BeladyCache cache{rule, footprint.demand().bytes / 4 + 1};
    for (std::size_t i = 0; i < requests.size(); ++i) {
      cache.request(requests[i], i, next.of(i));
      demand(cache.used() <= footprint.demand().bytes / 4 + 1, "a cache that is too full");
    }
    demand(cache.counts().bytes_requested == footprint.demand().bytes, "bytes that got lost");
  }
}

void run(std::string_view text, bool ignore_size) {
  auto reader = CacheReader::over(text, "fuzz", {.ignore_size = ignore_size});
  if (!reader.ok()) return check_error(reader.status());
  std::vector<CacheRequest> all, batch;
  for (;;) {
    // A small frame may unpack to very many requests.
    constexpr std::size_t kEnough = 1 << 16;
    const auto count = reader->fill(batch, 16);
    for (const CacheRequest& request : batch) check_request(request, ignore_size);
    all.insert(all.end(), batch.begin(), batch.end());
    if (!count.ok()) {
      check_error(count.status());
      break;
    }
    demand(*count == batch.size(), "a count that is not the batch's");
    if (*count == 0 || all.size() > kEnough) break;
  }
  replay(all);
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer calls it by this name
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  run(text, false);
  run(text, true);
  return 0;
}
