// Writes the seed corpus of cache_image_fuzz into a folder: saved caches, and the lies that a
// loader must see through. The first byte is for the target: see there.
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>

#include "cache/image_files.hpp"
#include "forebay/cache.hpp"

namespace {

using Texts = forebay::Cache<std::string, std::vector<std::uint16_t>>;

constexpr char kAsItIs = 4;
constexpr char kSummed = 1;
constexpr std::string_view kType = "text to list of u16";

std::string saved(const std::filesystem::path& folder, int entries) {
  Texts cache{{.max_bytes = forebay::Bytes{1 << 20}, .shards = 1}};
  for (int i = 0; i != entries; ++i) {
    const auto count = static_cast<std::size_t>(i % 5);
    forebay::EntryOptions options{.cost = static_cast<float>(i)};
    if (i % 2 != 0) options.ttl = std::chrono::hours{i};
    cache.put("key " + std::to_string(i), std::vector<std::uint16_t>(count, 7), options).value();
  }
  const std::string path = (folder / "scratch").string();
  cache.save(path).value();
  std::string bytes = forebay::testing::file_bytes(path);
  std::filesystem::remove(path);
  return bytes;
}

template <typename T>
std::string with(std::string bytes, std::size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
  return bytes;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", arguments[0]);
    return 2;
  }
  using forebay::detail::ImageHeader;
  using forebay::detail::ImageRecord;
  const std::filesystem::path folder{arguments[1]};
  std::filesystem::create_directories(folder);
  const auto write = [&](const char* name, char first, const std::string& bytes) {
    forebay::testing::write_bytes((folder / name).string(), first + bytes);
  };
  const std::string empty = saved(folder, 0);
  const std::string some = saved(folder, 5);
  const std::size_t first = sizeof(ImageHeader) + kType.size();
  write("empty", kAsItIs, empty);
  write("some", kAsItIs, some);
  write("summed", kSummed, some);
  write("many", kSummed, saved(folder, 100));
  write("cut", kAsItIs, some.substr(0, some.size() / 2));
  write("long", kSummed, with(some, first + offsetof(ImageRecord, key_length), 1ULL << 60));
  write("charge", kSummed, with(some, first + offsetof(ImageRecord, charge), ~0ULL));
  write("ended", kSummed, with(some, first + offsetof(ImageRecord, remaining), std::int64_t{-1}));
  write("early", kSummed, with(some, first, std::uint32_t{2}));
  write("version", kSummed, with(some, offsetof(ImageHeader, version), std::uint32_t{2}));
  return 0;
}
