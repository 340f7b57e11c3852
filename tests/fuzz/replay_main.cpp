// Runs a fuzz target without libFuzzer: the corpus as it is, then mutations of it from a
// fixed seed, so that every compiler and every run tests the same inputs.
//
//   TARGET CORPUS_FOLDER [-runs=N]      N mutations; FOREBAY_FUZZ_RUNS overrides it
#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer calls it by this name
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Random = std::mt19937_64;

std::size_t below(Random& random, std::size_t bound) {
  return bound == 0 ? 0 : static_cast<std::size_t>(random() % bound);
}

std::vector<std::string> read_corpus(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator{folder}) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());  // the folder's own order is not fixed
  std::vector<std::string> corpus;
  for (const auto& file : files) {
    std::ifstream in{file, std::ios::binary};
    corpus.emplace_back(std::istreambuf_iterator<char>{in}, std::istreambuf_iterator<char>{});
  }
  return corpus;
}

// Numbers at the edges of their types: what lengths and counts are broken with.
constexpr std::uint64_t kEdges[] = {0,
                                    1,
                                    0x7f,
                                    0xff,
                                    0x7fffffff,
                                    0x80000000,
                                    0xffffffff,
                                    0x100000000,
                                    0x7fffffffffffffff,
                                    0x8000000000000000,
                                    ~0ULL,
                                    ~0ULL - 31};

void write_edge(std::string& bytes, Random& random) {
  const std::uint64_t edge = kEdges[below(random, std::size(kEdges))];
  const std::size_t width = std::size_t{1} << below(random, 4);
  if (bytes.size() < width) return;
  bytes.replace(below(random, bytes.size() - width + 1), width,
                reinterpret_cast<const char*>(&edge), width);
}

void mutate_once(std::string& bytes, const std::vector<std::string>& corpus, Random& random) {
  const std::size_t at = below(random, bytes.size());
  const std::size_t length = 1 + below(random, 16);
  switch (below(random, 6)) {
    case 0:
      if (!bytes.empty()) bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(random, 8)));
      break;
    case 1:
      write_edge(bytes, random);
      break;
    case 2:
      bytes.resize(at);
      break;
    case 3:
      bytes.erase(at, length);
      break;
    case 4:
      bytes.insert(at, bytes.substr(below(random, bytes.size()), length));
      break;
    default: {  // the tail of another input
      const std::string& other = corpus[below(random, corpus.size())];
      bytes.resize(at);
      bytes += other.substr(below(random, other.size()));
    }
  }
}

void run_one(const std::string& bytes) {
  // An allocation of exactly this size, so that a sanitizer sees any read past its end.
  const std::vector<std::uint8_t> exact(bytes.begin(), bytes.end());
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

std::uint64_t runs_asked(int count, char** arguments) {
  std::string_view text = count > 2 ? arguments[2] : "-runs=10000";
  if (text.starts_with("-runs=")) text.remove_prefix(6);
  if (const char* set = std::getenv("FOREBAY_FUZZ_RUNS"); set != nullptr) text = set;
  std::uint64_t runs = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), runs);
  if (error == std::errc{} && end == text.data() + text.size()) return runs;
  std::fprintf(stderr, "'%.*s' is not a number of runs; allowed: 0 or more\n",
               static_cast<int>(text.size()), text.data());
  std::exit(2);
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) {
    std::fprintf(stderr, "usage: %s CORPUS_FOLDER [-runs=N]\n", arguments[0]);
    return 2;
  }
  const std::vector<std::string> corpus = read_corpus(arguments[1]);
  if (corpus.empty()) {
    std::fprintf(stderr, "no corpus in %s\n", arguments[1]);
    return 2;
  }
  for (const std::string& bytes : corpus) run_one(bytes);
  Random random{20240601};
  const std::uint64_t runs = runs_asked(count, arguments);
  for (std::uint64_t run = 0; run < runs; ++run) {
    std::string bytes = corpus[below(random, corpus.size())];
    for (std::size_t i = 1 + below(random, 4); i > 0; --i) mutate_once(bytes, corpus, random);
    run_one(bytes);
  }
  std::printf("%zu inputs and %llu mutations\n", corpus.size(),
              static_cast<unsigned long long>(runs));
  return 0;
}
