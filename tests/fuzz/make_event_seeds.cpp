// Writes the seed corpus of events_fuzz into a folder: small recordings with each kind of chunk
// and event, and lies.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "telemetry/made_events.hpp"

namespace {

using forebay::detail::ChunkKind;
using forebay::testing::MadeFile;
using forebay::testing::Numbers;

void write(const std::filesystem::path& file, const MadeFile& made) {
  std::ofstream{file, std::ios::binary} << made.bytes();
}

// Two threads, two tags, three stacks of which one has names.
MadeFile whole() {
  MadeFile file;
  file.chunk(ChunkKind::contexts,
             Numbers{}.add(1).text("decoder/layer3").text("session 7").add(2).text("kv").text(""));
  file.chunk(ChunkKind::modules,
             Numbers{}.add(0x400000).add(0x1000).add(0x1000).text("/no/such/lib.so"));
  file.chunk(ChunkKind::stacks, Numbers{}
                                    .add(1)
                                    .add(2)
                                    .add(0x400101 << 1)
                                    .add(0x20 << 1)
                                    .add(2)
                                    .add(1)
                                    .add(0x400201 << 1)
                                    .add(3)
                                    .add(1)
                                    .add(0x10 << 1));
  file.events(1, 0, 0,
              Numbers{}
                  .context(1)
                  .allocate(1 << 20, 1)
                  .allocate(4096, 2)
                  .free(1)
                  .wait_ms(500)
                  .allocate(256)
                  .allocate(256)
                  .free(2)
                  .wait_ms(1500)
                  .context(2)
                  .allocate(100, 3));
  file.events(2, 40, 100, Numbers{}.allocate(64, 2).free_other(1, 0).wait_ms(30).free(1), 40);
  file.events(1, 5, 2100, Numbers{}.allocate(1, 1).free(1).free_other(9, 77));
  file.chunk(ChunkKind::functions,
             Numbers{}.add(0x400101).text("model::attention(int)").add(0x400121).text("main"));
  return file.end(3000, 2);
}

MadeFile lies() {
  MadeFile file;
  file.events(1, ~0ULL >> 16, 0, Numbers{}.allocate(~0ULL >> 2, 1).allocate(1).free(2));
  file.events(2, 5, ~0ULL >> 1, Numbers{}.free_other(1, ~0ULL >> 17).free_other(2, 1).free(5));
  file.events(2, 5, 0, Numbers{}.wait_ms(1ULL << 40).wait_ms(1).allocate(0).add(1).add(~0ULL));
  file.chunk(ChunkKind::stacks, Numbers{}.add(1ULL << 31).add(48));
  file.chunk(ChunkKind::contexts, Numbers{}.add(16383).add(~0ULL));
  return file;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", arguments[0]);
    return 2;
  }
  const std::filesystem::path folder{arguments[1]};
  std::filesystem::create_directories(folder);
  write(folder / "whole", whole());
  write(folder / "lies", lies());
  write(folder / "begun", MadeFile{});
  return 0;
}
