#include <dlfcn.h>
#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "support/failing_new.hpp"
#include "track/elf_symbols.hpp"
#include "track/stack.hpp"

namespace forebay::testing {
namespace {

using detail::ElfSymbols;
using detail::symbolize;

[[gnu::noinline]] int a_function_of_this_file(int x) {
  asm volatile("" : "+r"(x));
  return x + 1;
}

std::uintptr_t its_address() { return reinterpret_cast<std::uintptr_t>(&a_function_of_this_file); }

TEST(Symbolize, NamesAFunctionThatIsNotExported) {
  const Frame frame = symbolize(its_address() + 1);
  EXPECT_EQ(frame.address, its_address() + 1);
  EXPECT_EQ(frame.function,
            "forebay::testing::(anonymous namespace)::a_function_of_this_file(int)");
  EXPECT_EQ(frame.module, std::filesystem::read_symlink("/proc/self/exe").string());
  std::ifstream file{frame.module, std::ios::binary};
  file.seekg(static_cast<std::streamoff>(frame.offset));
  std::array<char, 4> bytes{};
  file.read(bytes.data(), bytes.size());
  EXPECT_EQ(std::memcmp(bytes.data(), reinterpret_cast<const void*>(its_address() + 1), 4), 0);
}

TEST(Symbolize, NamesALibrarysFunction) {
  const auto address = reinterpret_cast<std::uintptr_t>(dlsym(RTLD_DEFAULT, "hcreate"));
  ASSERT_NE(address, 0U);
  const Frame frame = symbolize(address);
  EXPECT_THAT(frame.function, ::testing::HasSubstr("hcreate"));
  EXPECT_THAT(frame.module, ::testing::HasSubstr("libc"));
}

TEST(Symbolize, OfWhatIsNoCodeIsTheAddressAlone) {
  const int on_stack = 0;
  for (const std::uintptr_t address :
       {std::uintptr_t{0}, ~std::uintptr_t{0}, reinterpret_cast<std::uintptr_t>(&on_stack)}) {
    const Frame frame = symbolize(address);
    EXPECT_EQ(frame.address, address);
    EXPECT_EQ(frame.module, "");
    EXPECT_EQ(frame.function, "");
  }
}

TEST(Symbolize, LeavesNothingHalfDoneWithoutMemory) {
  const std::string name = symbolize(its_address()).function;
  const auto failed = walk_allocation_failures(
      [] {
        try {
          symbolize(its_address());
        } catch (const std::bad_alloc&) {
          return;  // as it says
        }
      },
      [&] { EXPECT_EQ(symbolize(its_address()).function, name); });
  EXPECT_GT(failed, 0U);
}

// ---- Files

class ElfFile : public ::testing::Test {
 protected:
  ElfFile() {
    std::string name = ::testing::TempDir() + "forebay-elf-XXXXXX";
    const int file = mkstemp(name.data());
    EXPECT_GE(file, 0);
    close(file);
    path_ = name;
    std::ifstream whole{FOREBAY_PLUGIN_SMALL, std::ios::binary};
    whole_.assign(std::istreambuf_iterator<char>{whole}, {});
    EXPECT_GT(whole_.size(), sizeof(Elf64_Ehdr));
  }
  ~ElfFile() override { std::filesystem::remove(path_); }

  void write(const std::vector<char>& bytes) const {
    std::ofstream file{path_, std::ios::binary | std::ios::trunc};
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  // Where the file says that the function is, as a judge would.
  std::uint64_t address_of(const std::string& function) const {
    void* const handle = dlopen(FOREBAY_PLUGIN_SMALL, RTLD_NOW | RTLD_LOCAL);
    Dl_info info{};
    dladdr(dlsym(handle, function.c_str()), &info);
    const auto offset = static_cast<std::uint64_t>(static_cast<char*>(info.dli_saddr) -
                                                   static_cast<char*>(info.dli_fbase));
    dlclose(handle);
    return offset;
  }
  // Every way to ask, of a file that may say anything.
  void ask() const {
    const ElfSymbols symbols{path_};
    for (std::uint64_t address = 0; address < whole_.size(); address += 61) {
      EXPECT_LE(symbols.name_at(address).size(), 8192U);
    }
    EXPECT_LE(symbols.name_at(~0ULL).size(), 8192U);
  }

  std::string path_;
  std::vector<char> whole_;
};

TEST_F(ElfFile, NamesItsFunctions) {
  write(whole_);
  const ElfSymbols symbols{path_};
  EXPECT_EQ(symbols.name_at(address_of("plugin_recurse")), "plugin_recurse");
  EXPECT_EQ(symbols.name_at(address_of("plugin_recurse") + 1), "plugin_recurse");
  EXPECT_EQ(symbols.name_at(0), "");
}

TEST_F(ElfFile, NamesNothingOnceItIsAnother) {
  write(whole_);
  const ElfSymbols symbols{path_};
  std::vector<char> longer = whole_;
  longer.push_back(0);
  write(longer);
  EXPECT_EQ(symbols.name_at(address_of("plugin_recurse")), "");
  std::filesystem::remove(path_);
  EXPECT_EQ(symbols.name_at(address_of("plugin_recurse")), "");
}

TEST_F(ElfFile, NamesNothingIfItIsNotTheOneThatWasLoaded) {
  write(whole_);
  Elf64_Ehdr header{};
  std::memcpy(&header, whole_.data(), sizeof header);
  const std::size_t size = header.e_phnum * sizeof(Elf64_Phdr);
  std::vector<unsigned char> loaded(size);
  std::memcpy(loaded.data(), whole_.data() + header.e_phoff, size);
  EXPECT_FALSE(ElfSymbols(path_, loaded).empty());
  loaded[40] ^= 1;
  EXPECT_TRUE(ElfSymbols(path_, loaded).empty());
}

TEST_F(ElfFile, ThatIsNoneNamesNothing) {
  for (const char* path :
       {"", "/", "/nonexistent/file", "/dev/null", "/dev/zero", "/proc/self/mem"}) {
    EXPECT_TRUE(ElfSymbols(path).empty()) << path;
    EXPECT_EQ(ElfSymbols(path).name_at(4096), "") << path;
  }
  const std::string pipe = path_ + ".pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_TRUE(ElfSymbols(pipe).empty());
  std::filesystem::remove(pipe);
}

TEST_F(ElfFile, CutOffAnywhereIsHarmless) {
  for (std::size_t bytes = 0; bytes < whole_.size(); bytes += 97) {
    write({whole_.begin(), whole_.begin() + static_cast<std::ptrdiff_t>(bytes)});
    ask();
  }
}

TEST_F(ElfFile, DamagedInItsHeadersIsHarmless) {
  Elf64_Ehdr header{};
  std::memcpy(&header, whole_.data(), sizeof header);
  std::mt19937_64 random{3};
  for (int round = 0; round < 600; ++round) {
    std::vector<char> damaged = whole_;
    for (int i = 0; i < 3; ++i) {
      const std::size_t sections = header.e_shnum * sizeof(Elf64_Shdr);
      const std::size_t at =
          random() % 3 == 0 ? random() % sizeof header : header.e_shoff + random() % sections;
      damaged[at] = static_cast<char>(random());
    }
    write(damaged);
    ask();
  }
}

TEST_F(ElfFile, DamagedAnywhereIsHarmless) {
  std::mt19937_64 random{5};
  for (int round = 0; round < 200; ++round) {
    std::vector<char> damaged = whole_;
    for (int i = 0; i < 400; ++i) damaged[random() % damaged.size()] = static_cast<char>(random());
    std::memcpy(damaged.data(), whole_.data(), sizeof(Elf64_Ehdr));
    write(damaged);
    ask();
  }
}

}  // namespace
}  // namespace forebay::testing
