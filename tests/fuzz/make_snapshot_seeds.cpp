// Writes the seed corpus of snapshot_fuzz into a folder: snapshots in both forms, and the lies
// that a reader must see through.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "telemetry/snapshot_json.hpp"
#include "telemetry/snapshot_samples.hpp"

namespace {

void write(const std::filesystem::path& file, const std::string& text) {
  std::ofstream{file, std::ios::binary} << text;
}

std::string with(std::string text, const std::string& piece, const std::string& other) {
  return text.replace(text.find(piece), piece.size(), other);
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", arguments[0]);
    return 2;
  }
  const std::filesystem::path folder{arguments[1]};
  std::filesystem::create_directories(folder);
  const forebay::Snapshot sample = forebay::testing::small_snapshot();
  const std::string text = forebay::detail::snapshot_json(sample);
  write(folder / "empty", forebay::detail::snapshot_json({}));
  write(folder / "small", text);
  forebay::write_snapshot(sample, folder / "small.zst").throw_if_error();
  std::filesystem::rename(folder / "small.zst", folder / "compressed");
  write(folder / "stacks", forebay::detail::snapshot_json(forebay::testing::large_snapshot(3, 2)));
  write(folder / "twice", with(text, "\"pid\"", "\"pid\":1,\"pid\""));
  write(folder / "nested", with(text, "4711", "1,\"a\":{\"a\":{\"a\":[[[[[[{\"a\":[]}]]]]]]}}"));
  write(folder / "escapes", with(text, "asked", "\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00"));
  write(folder / "reference", with(text, "\"tag\":[1,1", "\"tag\":[1,9"));
  write(folder / "number", with(text, "4711", "-0.0e+00"));
  write(folder / "cut", text.substr(0, text.size() / 2));
  return 0;
}
