// Feeds arbitrary files to Cache::load(): it must end with a cache that is consistent, or with one
// clear line and an empty cache. The first byte says whether the file gets the checksums that
// belong to it, so that what is behind them is met too.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "cache/image_files.hpp"
#include "forebay/cache.hpp"

namespace {

using forebay::Code;
using Texts = forebay::Cache<std::string, std::vector<std::uint16_t>>;

void demand(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "cache_image_fuzz: %s\n", what);
  std::abort();
}

// A file without a place on the disk.
class MemoryFile {
 public:
  MemoryFile() : file_(::memfd_create("fuzz", MFD_CLOEXEC)) {
    demand(file_ >= 0, "no file in memory");
  }
  ~MemoryFile() { ::close(file_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::string path() const { return "/proc/self/fd/" + std::to_string(file_); }
  void write(const std::string& bytes) const {
    const auto size = static_cast<ssize_t>(bytes.size());
    demand(::ftruncate(file_, 0) == 0, "cannot cut");
    demand(::pwrite(file_, bytes.data(), bytes.size(), 0) == size, "cannot write");
  }

 private:
  int file_;
};

void check_error(const forebay::Status& status) {
  const std::string& message = status.message();
  demand(status.code() == Code::corrupt_data || status.code() == Code::memory_refused,
         "an error of an unexpected kind");
  demand(message.size() < 8192, "an error that goes on and on");
  for (const char c : message) {
    demand(static_cast<unsigned char>(c) >= ' ' && c != '\x7f', "an error that is not one line");
  }
}

// Time stands still: what an input does must not depend on how fast it is done.
forebay::CacheOptions options() {
  static forebay::ManualClock clock;
  forebay::CacheOptions made;
  made.max_bytes = forebay::Bytes{4096};
  made.shards = 1;
  made.clock = &clock;
  return made;
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer calls it by this name
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  static const MemoryFile file;
  static Texts cache{options()};
  const std::string bytes{reinterpret_cast<const char*>(data) + 1, size - 1};
  const bool as_it_is = data[0] % 4 == 0;
  file.write(as_it_is ? bytes : forebay::testing::with_checksums(bytes));
  forebay::CacheLoadOptions load;
  load.down_for = data[0] % 8 < 4 ? forebay::Duration{0} : std::chrono::minutes{90};
  const auto loaded = cache.load(file.path(), load);
  if (!loaded) {
    check_error(loaded.status());
    demand(cache.stats().entries == 0 && cache.stats().used.is_zero(),
           "a file that is refused left something behind");
    return 0;
  }
  demand(cache.stats().entries == loaded->loaded, "entries that were not counted");
  demand(cache.stats().used <= cache.stats().max_bytes, "more than fits");
  cache.validate();
  cache.clear();
  return 0;
}
