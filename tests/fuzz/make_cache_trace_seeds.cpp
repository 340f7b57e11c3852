// Writes the seed corpus of cache_trace_fuzz into a folder: small traces of all formats, and
// the lies that a reader must see through.
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#ifdef FOREBAY_TEST_ZSTD
#include <zstd.h>
#endif

namespace {

void write(const std::filesystem::path& file, const std::string& text) {
  std::ofstream{file, std::ios::binary} << text;
}

std::string record(std::uint32_t time, std::uint64_t key, std::uint32_t size, std::int64_t next) {
  std::string bytes;
  const auto put = [&](const auto& value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
  };
  put(time);
  put(key);
  put(size);
  put(next);
  return bytes;
}

std::string lines() {
  std::string text;
  for (int i = 0; i < 60; ++i) {
    text +=
        std::to_string(i) + "," + std::to_string(i * i % 17) + "," + std::to_string(i % 5) + "\n";
  }
  return text;
}

void add_texts(const std::filesystem::path& folder) {
  write(folder / "csv", lines());
  write(folder / "csv_header",
        "time,key,size,cost\n0.5,a/b,100,12.5\r\n1e3,a/b,100,0\n\n2,7,1,1e15");
  write(folder / "csv_mark", "\xEF\xBB\xBFkey\n1\nzwei\n");
  write(folder / "csv_columns", "cost,size,key,time\n1,281474976710656,k,0\n");
  write(folder / "csv_bad", "0,1,1\n0,,1\n");
  write(folder / "json",
        "{\"t\":0.5,\"key\":7,\"bytes\":4096,\"cost\":120}\n{\"key\":\"a\\u00e9\"}\r\n\n"
        "{\"key\":18446744073709551615,\"bytes\":0}");
  write(folder / "json_nested", "{\"key\":{\"key\":[[[[[[");
  write(folder / "json_cut", "{\"key\":1,\"by");
}

void add_records(const std::filesystem::path& folder) {
  std::string records;
  for (std::uint32_t i = 0; i < 50; ++i) records += record(i, i % 11, i % 4 * 1000, i + 11);
  write(folder / "oracle", records);
  write(folder / "oracle_cut", records.substr(0, 100));
  write(folder / "oracle_next", record(1, 2, 3, -9));
#ifdef FOREBAY_TEST_ZSTD
  for (const auto& [name, text] :
       {std::pair{"zstd_csv", lines()}, std::pair{"zstd_oracle", records}}) {
    std::string frame(ZSTD_compressBound(text.size()), '\0');
    frame.resize(ZSTD_compress(frame.data(), frame.size(), text.data(), text.size(), 3));
    write(folder / name, frame);
    write(folder / (std::string{name} + "_cut"), frame.substr(0, frame.size() - 3));
  }
#endif
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", arguments[0]);
    return 2;
  }
  const std::filesystem::path folder{arguments[1]};
  std::filesystem::create_directories(folder);
  add_texts(folder);
  add_records(folder);
  return 0;
}
