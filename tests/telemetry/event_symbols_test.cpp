// Names from the files of programs, this test's own.
#include "telemetry/event_symbols.hpp"

#include <elf.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "event_support.hpp"

namespace forebay::testing {

// Not inlined, and of some size.
[[gnu::noinline]] void made_code() {
  volatile int steps = 0;
  for (int i = 0; i < 10; ++i) steps = steps + i;
}

namespace {

std::string this_program() { return std::filesystem::read_symlink("/proc/self/exe"); }

TEST(EventSymbols, NameFramesWithoutTheirProcess) {
  const Folder folder;
  open_made(folder.file());
  detail::record_allocate(1, 0, 2);
  close_made();
  const events::EventReport report = report_of(folder.file());
  events::Namer namer{report.contents};
  const events::Stack& stack = report.contents.names.stacks.at(2);
  ASSERT_FALSE(report.contents.names.functions.contains(stack.frames[0]));
  const events::PlaceName place = namer.name_of(stack, stack.frames[0]);
  EXPECT_EQ(place.function, "forebay::testing::made_code()");
  EXPECT_EQ(place.module, this_program());
  EXPECT_TRUE(namer.newer_files().empty());
}

TEST(EventSymbols, OfTheRecordingWinAndOthersAreOffsets) {
  const std::uint64_t base = 0x7000'0000'0000;
  MadeFile file;
  file.chunk(detail::ChunkKind::modules,
             Numbers{}.add(base).add(0x1000).add(0x2000).text("/no/such/file"));
  file.chunk(detail::ChunkKind::stacks,
             Numbers{}.add(1).add(2).add((base + 17) << 1).add(detail::from_difference(0 - base)));
  file.chunk(detail::ChunkKind::functions, Numbers{}.add(17).text("known"));
  const auto report = report_over(file.bytes()).value();
  events::Namer namer{report.contents};
  const events::Stack& stack = report.contents.names.stacks.at(1);
  const events::PlaceName unknown = namer.name_of(stack, stack.frames[0]);
  EXPECT_EQ(unknown.function, "");
  EXPECT_EQ(unknown.module, "/no/such/file");
  EXPECT_EQ(unknown.offset, 0x2010U);
  const events::PlaceName known = namer.name_of(stack, stack.frames[1]);
  EXPECT_EQ(known.function, "known");
  EXPECT_EQ(known.module, "");
}

TEST(EventSymbols, AFileThatIsNewerThanTheRecordingIsSaid) {
  const Folder folder;
  std::filesystem::copy_file(this_program(), folder.file("program"));
  MadeFile file;  // its time is 1970
  file.chunk(detail::ChunkKind::modules,
             Numbers{}.add(0x1000).add(1ULL << 30).add(0).text(folder.file("program")));
  file.chunk(detail::ChunkKind::stacks, Numbers{}.add(1).add(1).add(0x1010 << 1));
  const auto report = report_over(file.bytes()).value();
  events::Namer namer{report.contents};
  const events::Stack& stack = report.contents.names.stacks.at(1);
  static_cast<void>(namer.name_of(stack, stack.frames[0]));
  EXPECT_EQ(namer.newer_files(), std::vector{folder.file("program")});
}

TEST(EventSymbols, OfNoProgramAreRefused) {
  const Folder folder;
  std::ofstream{folder.file("text")} << "no program";
  EXPECT_EQ(events::read_symbols(folder.file("text")).status().code(), Code::corrupt_data);
  EXPECT_EQ(events::read_symbols(folder.file("none")).status().code(), Code::not_found);
  EXPECT_EQ(events::read_symbols("/dev/zero").status().code(), Code::invalid_argument);
}

TEST(EventSymbols, AreReadFromFilesOfAbsolutePathOnly) {
  const Folder folder;
  EXPECT_EQ(events::read_symbols("text").status().message(),
            "text: no absolute path; allowed: one");
  EXPECT_EQ(events::read_symbols("").status().code(), Code::invalid_argument);
  ASSERT_EQ(::mkfifo(folder.file("pipe").c_str(), 0600), 0);
  EXPECT_EQ(events::read_symbols(folder.file("pipe")).status().code(), Code::invalid_argument);
  const Status odd = events::read_symbols("/no/such\x1b[2J").status();
  EXPECT_EQ(odd.message(), "/no/such\\x1b[2J: no such file");
}

// An ELF file of section headers only, each of which says that it is the same table of symbols,
// and whose symbols all have the longest name.
std::string many_tables(std::size_t sections, std::size_t symbols) {
  constexpr std::size_t kNames = 8 << 10;
  Elf64_Ehdr head{};
  std::memcpy(head.e_ident, ELFMAG, SELFMAG);
  head.e_ident[EI_CLASS] = ELFCLASS64;
  head.e_ident[EI_DATA] = ELFDATA2LSB;
  head.e_shoff = sizeof head;
  head.e_shentsize = sizeof(Elf64_Shdr);
  head.e_shnum = static_cast<Elf64_Half>(sections + 1);
  const std::size_t behind = sizeof head + (sections + 1) * sizeof(Elf64_Shdr);
  std::string bytes{reinterpret_cast<const char*>(&head), sizeof head};
  Elf64_Shdr section{};
  section.sh_type = SHT_STRTAB;
  section.sh_offset = behind;
  section.sh_size = kNames;
  bytes.append(reinterpret_cast<const char*>(&section), sizeof section);
  section.sh_type = SHT_SYMTAB;
  section.sh_offset = behind + kNames;
  section.sh_size = symbols * sizeof(Elf64_Sym);
  section.sh_entsize = sizeof(Elf64_Sym);
  for (std::size_t i = 0; i < sections; ++i) {
    bytes.append(reinterpret_cast<const char*>(&section), sizeof section);
  }
  bytes.append(kNames, 'a');
  Elf64_Sym symbol{};
  symbol.st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC);
  symbol.st_shndx = 1;
  for (std::size_t i = 0; i < symbols; ++i) {
    symbol.st_value = i;
    bytes.append(reinterpret_cast<const char*>(&symbol), sizeof symbol);
  }
  return bytes;
}

TEST(EventSymbols, TakeNoMoreMemoryThanTheirFile) {
  const Folder folder;
  const std::string bytes = many_tables(100, 10'000);
  std::ofstream{folder.file("many"), std::ios::binary} << bytes;
  const auto file = events::read_symbols(folder.file("many")).value();
  ASSERT_EQ(file.symbols.size(), 10'000U) << "the first table alone is read";
  EXPECT_LE(file.memory(), bytes.size());
  EXPECT_EQ(file.name_of(file.symbols.back()), std::string(4096, 'a'));
}

TEST(EventSymbols, OfATableBeyondItsBoundAreLeftOut) {
  const Folder folder;
  std::string bytes = many_tables(1, 1);
  Elf64_Shdr section;
  const std::size_t place = sizeof(Elf64_Ehdr) + sizeof section;
  std::memcpy(&section, bytes.data() + place, sizeof section);
  section.sh_size = 65ULL << 20;
  std::memcpy(bytes.data() + place, &section, sizeof section);
  std::ofstream{folder.file("large"), std::ios::binary} << bytes;
  std::filesystem::resize_file(folder.file("large"), 80ULL << 20);  // the table is in it
  EXPECT_TRUE(events::read_symbols(folder.file("large")).value().symbols.empty());
}

TEST(EventSymbols, OfADamagedProgramDoNoHarm) {
  const Folder folder;
  std::string bytes = bytes_of("/proc/self/exe");
  std::mt19937_64 random{3};
  int read = 0;
  for (int round = 0; round < 40; ++round) {
    std::string damaged = bytes.substr(0, round % 4 == 0 ? random() % bytes.size() : bytes.size());
    // The header, and the table of sections at the end, are where the offsets are.
    for (int i = 0; i < 6 && damaged.size() > 2000; ++i) {
      const std::size_t at = i % 2 == 0 ? 16 + random() % 48 : damaged.size() - 1 - random() % 1900;
      damaged[at] = static_cast<char>(random());
    }
    const std::string path = folder.file("damaged");
    std::ofstream{path, std::ios::binary | std::ios::trunc} << damaged;
    const auto symbols = events::read_symbols(path);
    if (symbols.ok()) ++read;
  }
  EXPECT_GT(read, 0);
}

TEST(EventSymbols, AreDemangledWhereTheyCanBe) {
  EXPECT_EQ(events::demangled("_ZN7forebay4PoolC1Ev"), "forebay::Pool::Pool()");
  EXPECT_EQ(events::demangled("main"), "main");
  EXPECT_EQ(events::demangled("_Zno such thing"), "_Zno such thing");
  EXPECT_EQ(events::demangled("_ZNSt6vectorIN3app4pageESaIS1_EE9push_backERKS1_"),
            "std::vector<app::page, std::allocator<app::page> >::push_back(app::page const&)");
  EXPECT_EQ(events::demangled("_ZN3app4makeIJiRdEEEvDpOT_"),
            "void app::make<int, double&>(int&&, double&)");
}

// void f(a<long, long>, a<the first, the first>, a<the second, the second>, ...)
std::string doubling_name(int levels, std::string_view first) {
  constexpr std::string_view kDigits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  std::string name = "_Z1f1aI" + std::string{first} + "E";
  for (int i = 0; i < levels; ++i) {
    const std::string whole =
        "S" + std::string{kDigits.substr(static_cast<std::size_t>(i), 1)} + "_";
    name += "S_I" + whole + whole + "E";
  }
  return name;
}

TEST(EventSymbols, ThatWouldGrowWithoutBoundStayMangled) {
  // A level is a doubling; three references each.
  EXPECT_EQ(
      events::demangled(doubling_name(2, "ll")),
      "f(a<long, long>, a<a<long, long>, a<long, long> >, a<a<a<long, long>, a<long, long> >, "
      "a<a<long, long>, a<long, long> > >)");
  const std::string bomb = doubling_name(28, "ll");
  ASSERT_LT(bomb.size(), 400U);
  EXPECT_EQ(events::demangled(bomb), bomb);
  const std::string longest = "_Z1f1aI" + std::string(2000, 'l') + "E";
  EXPECT_EQ(events::demangled(longest), longest);
  const std::string packs = "_ZN1aIJ" + std::string(300, 'l') + "EEvDpDpDpDpT_";
  EXPECT_EQ(events::demangled(packs), packs);
}

TEST(EventSymbols, ThatADemanglerDoesNotComeBackFromStayMangled) {
  for (const std::string name : {"_Z1fIXsryID", "_Z1fIXsrLD", "_Z1fT_IXdtpl_ZsriED"}) {
    EXPECT_EQ(events::demangled(name), name);
  }
  EXPECT_EQ(events::demangled("_ZN3app3srcEv"), "app::src()");
}

TEST(EventSymbols, ThatAreDemangledHaveABound) {
  for (int levels = 0; levels < 16; ++levels) {
    const std::string name = doubling_name(levels, std::string(900, 'y'));
    EXPECT_LE(events::demangled(name).size(), 64U << 10) << levels;
  }
}

}  // namespace
}  // namespace forebay::testing
