// Writes the fuzz corpus of the pool: for each kind of upstream, orders of operations that fill
// it, cut it into holes and ask for more.
//
//   make_pool_seeds FOLDER
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>

namespace {

// A verb is not a random byte: some are wanted more often than others (see PoolModel::apply).
std::string operations(std::mt19937& random, const std::string& verbs, int count) {
  std::string bytes;
  for (int i = 0; i < count; ++i) {
    bytes += verbs[random() % verbs.size()];
    for (int k = 0; k < 4; ++k) bytes += static_cast<char>(random());
  }
  return bytes;
}

std::string seed(unsigned kind, unsigned number) {
  std::mt19937 random{kind * 100 + number};
  const std::string fill{"\0\1\2\6\7", 5};
  const std::string empty{"\7\10\11\12\13\14", 6};
  std::string bytes(1, static_cast<char>(kind));
  for (int round = 0; round < 3; ++round) {
    bytes += operations(random, fill, 40);
    bytes += operations(random, empty, 20);
  }
  return bytes;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: make_pool_seeds FOLDER\n");
    return 2;
  }
  const std::filesystem::path folder{argv[1]};
  std::filesystem::create_directories(folder);
  for (unsigned kind = 0; kind < 32; ++kind) {
    if (kind % 8 > 4) continue;  // the same as another one
    for (unsigned number = 0; number < 2; ++number) {
      const std::string bytes = seed(kind, number);
      std::ofstream out{folder / (std::to_string(kind) + "_" + std::to_string(number)),
                        std::ios::binary};
      out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
      if (!out) return 1;
    }
  }
  return 0;
}
